"""Why the GPU idled, by hand."""

import pytest

from chisel_shared.traces import idle
from chisel_shared.traces.gaps import find_gaps
from chisel_shared.traces.gpu import gpu_events
from chisel_shared.traces.report import Frame, Idle
from tests.traces.build import Trace


def idle_of(trace: Trace) -> Idle:
    columns = trace.columns()
    return idle.idle(columns, find_gaps(columns, gpu_events(columns)))


def test_a_launch_that_began_after_the_gap_did_means_waiting_for_the_cpu() -> None:
    trace = Trace()
    trace.kernel(0, 10, launch=0)
    trace.kernel(50, 10, launch=40)
    found = idle_of(trace)
    assert (found.host_us, found.launch_us, found.unknown_us) == (40.0, 0.0, 0.0)
    (gap,) = found.gaps
    assert (gap.cause, gap.start_us, gap.us, gap.device) == ("host", 10.0, 40.0, 0)


def test_a_launch_that_began_before_the_gap_did_means_launch_latency() -> None:
    trace = Trace()
    trace.kernel(0, 10, launch=0)
    trace.kernel(15, 10, launch=9)
    found = idle_of(trace)
    assert (found.host_us, found.launch_us) == (0.0, 5.0)
    assert found.gaps[0].frame is None


def test_a_launch_at_the_very_end_of_the_event_before_is_too_late() -> None:
    trace = Trace()
    trace.kernel(0, 10, launch=0)
    trace.kernel(15, 10, launch=10)
    assert idle_of(trace).host_us == 5.0


def test_a_gap_whose_launch_is_not_in_the_file_has_no_known_cause() -> None:
    trace = Trace()
    trace.kernel(0, 10, launch=0)
    trace.kernel(30, 10, correlation=-1)
    found = idle_of(trace)
    assert (found.host_us, found.launch_us, found.unknown_us) == (0.0, 0.0, 20.0)
    assert found.gaps[0].cause == "unknown"


def test_the_first_event_after_the_gap_decides_not_the_one_before_or_a_neighbour() -> None:
    trace = Trace()
    trace.kernel(0, 10, launch=0)
    trace.kernel(32, 10, launch=5, stream=8)
    trace.kernel(30, 10, launch=28)
    assert idle_of(trace).host_us == 20.0


def test_gaps_are_of_each_device_and_add_up_over_them() -> None:
    trace = Trace()
    for device in (0, 1):
        trace.kernel(0, 10, launch=0, device=device)
        trace.kernel(20 + device, 10, launch=15, device=device)
    found = idle_of(trace)
    assert found.host_us == 21.0
    assert [(gap.device, gap.us) for gap in found.gaps] == [(1, 11.0), (0, 10.0)]


def gap_with_python(*frames: tuple[str, float, float]) -> Trace:
    """A gap from 10 to 110."""
    trace = Trace()
    trace.kernel(0, 10, launch=0)
    for name, start, dur in frames:
        trace.python(name, start, dur)
    trace.kernel(110, 10, launch=109)
    return trace


STACK = (
    ("train.py(10): main", 0.0, 200.0),
    ("torch/nn/modules/module.py(1739): _call_impl", 5.0, 190.0),
    ("transformers/image_processing.py(301): resize", 12.0, 90.0),
    ("scipy/ndimage/_interpolation.py(739): zoom", 20.0, 80.0),
    ("<built-in method zoom_shift of module object at 0x7f>", 21.0, 78.0),
)


def test_the_innermost_shown_frame_that_covers_more_than_half_of_a_gap_explains_it() -> None:
    (gap,) = idle_of(gap_with_python(*STACK)).gaps
    assert gap.frame == Frame("zoom", "scipy/ndimage/_interpolation.py", 739, 100.0)
    assert gap.callers == ("transformers/image_processing.py(301): resize", "train.py(10): main")


def test_a_frame_that_covers_less_than_half_of_the_gap_does_not_explain_it() -> None:
    short = ("scipy/ndimage/_interpolation.py(739): zoom", 20.0, 49.0)
    (gap,) = idle_of(gap_with_python(*STACK[:3], short)).gaps
    assert gap.frame is not None
    assert gap.frame.name == "resize"


def test_each_moment_of_all_gaps_belongs_to_the_innermost_shown_frame() -> None:
    found = idle_of(gap_with_python(*STACK))
    assert [(frame.name, frame.us) for frame in found.frames] == [
        ("zoom", 80.0),
        ("main", 10.0),
        ("resize", 10.0),
    ]


def test_what_frames_do_outside_of_gaps_is_not_counted() -> None:
    found = idle_of(gap_with_python(("train.py(3): load", 0.0, 60.0), ("train.py(9): step", 100.0, 60.0)))
    assert [(frame.name, frame.us) for frame in found.frames] == [("load", 50.0), ("step", 10.0)]


def test_without_python_frames_the_innermost_operator_or_call_explains_the_gap() -> None:
    trace = Trace()
    trace.span("ProfilerStep#1", 0, 300)
    trace.kernel(0, 10, launch=0)
    trace.op("aten::empty_strided", 20, 70)
    trace.call("cudaMalloc", 25, 60)
    trace.kernel(110, 10, launch=109)
    (gap,) = idle_of(trace).gaps
    assert gap.frame == Frame("cudaMalloc", "", 0, 100.0)
    assert gap.callers == ("aten::empty_strided",)
    assert gap.waits_in == "cudaMalloc"


def test_a_step_that_encloses_everything_explains_nothing() -> None:
    trace = Trace()
    trace.span("ProfilerStep#1", 0, 300)
    trace.span("chisel::train", 0, 300)
    trace.kernel(0, 10, launch=0)
    trace.kernel(110, 10, launch=109)
    assert idle_of(trace).gaps[0].frame is None
    assert [frame.name for frame in idle_of(trace).frames] == ["cudaLaunchKernel"]


def test_frames_are_those_of_the_launching_thread() -> None:
    trace = gap_with_python(STACK[0])
    trace.python("worker.py(5): read", 0, 200, tid=2)
    assert [frame.name for frame in idle_of(trace).frames] == ["main"]


def test_a_thread_without_python_is_explained_by_the_one_with_the_most() -> None:
    """Backward runs in threads of the engine, and some traces put all frames on thread 0."""
    trace = Trace()
    trace.kernel(0, 10, launch=0, tid=9)
    trace.python("train.py(10): main", 0, 200, pid=0, tid=0)
    trace.python("train.py(20): step", 5, 190, pid=0, tid=0)
    trace.python("worker.py(5): read", 0, 200, tid=2)
    trace.kernel(110, 10, launch=109, tid=9)
    (gap,) = idle_of(trace).gaps
    assert gap.frame is not None
    assert gap.frame.name == "step"


@pytest.mark.parametrize("call", ["cudaStreamSynchronize", "cudaDeviceSynchronize", "hipEventSynchronize"])
def test_a_gap_that_begins_inside_a_synchronising_call_names_it(call: str) -> None:
    trace = Trace()
    trace.op("aten::item", 4, 12)
    trace.call(call, 5, 8)
    trace.kernel(0, 10, launch=0)
    trace.kernel(50, 10, launch=45)
    (gap,) = idle_of(trace).gaps
    assert gap.waits_in == call


def test_a_call_that_ended_before_the_gap_began_is_not_blamed() -> None:
    trace = Trace()
    trace.call("cudaStreamSynchronize", 1, 5)
    trace.kernel(0, 10, launch=0)
    trace.kernel(50, 10, launch=45)
    assert idle_of(trace).gaps[0].waits_in == ""


def test_the_largest_gaps_come_first_and_the_parts_make_the_whole() -> None:
    trace = Trace()
    at = 0.0
    for number in range(30):
        trace.kernel(at, 1, launch=max(0.0, at - 0.5))
        at += 2.0 + number
    found = idle_of(trace)
    assert [gap.us for gap in found.gaps] == [float(us) for us in range(29, 19, -1)]
    assert found.host_us + found.launch_us + found.unknown_us == sum(range(1, 30))
