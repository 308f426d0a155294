"""GPU time, by hand: what computes, what is exposed, what is left out."""

import pytest

from chisel_shared.traces.gpu import KINDS, gpu_events
from chisel_shared.traces.report import GpuTime
from chisel_shared.traces.timeline import NO_TIME, device_times, total
from tests.traces.build import Trace


def gpu_time(trace: Trace) -> GpuTime:
    return total(device_times(gpu_events(trace.columns())))


def test_the_span_runs_from_the_first_start_to_the_last_end_and_idle_is_what_no_stream_fills() -> None:
    trace = Trace()
    trace.kernel(10, 20, launch=0)
    trace.kernel(20, 20, launch=1, stream=8)  # overlaps: 10 to 40 is one stretch
    trace.kernel(60, 5, launch=50)
    found = gpu_time(trace)
    assert (found.span_us, found.busy_us, found.idle_us) == (55.0, 35.0, 20.0)
    assert (found.compute_us, found.events) == (35.0, 3)


def test_an_event_inside_another_adds_nothing() -> None:
    trace = Trace()
    trace.kernel(0, 100, launch=0)
    trace.kernel(10, 20, launch=1, stream=8)
    trace.kernel(50, 70, launch=2, stream=9)
    assert gpu_time(trace).busy_us == 120.0


def test_communication_is_exposed_where_nothing_computes() -> None:
    trace = Trace()
    trace.kernel(0, 50, launch=0)
    trace.kernel(30, 40, launch=1, stream=20, name="ncclDevKernel_AllReduce_Sum_bf16_RING_LL(…)")
    found = gpu_time(trace)
    assert (found.comm_us, found.exposed_comm_us, found.compute_us) == (40.0, 20.0, 50.0)


def test_a_copy_is_exposed_where_nothing_computes_or_communicates() -> None:
    trace = Trace()
    trace.kernel(0, 20, launch=0)
    trace.kernel(20, 20, launch=1, stream=20, name="void rcclGenericKernel<1, false>(…)")
    trace.copy(10, 50, launch=2, stream=8)
    found = gpu_time(trace)
    assert (found.copy_us, found.exposed_copy_us) == (50.0, 20.0)
    assert found.compute_us + found.exposed_comm_us + found.exposed_copy_us == found.busy_us == 60.0


@pytest.mark.parametrize(
    ("name", "cat", "kind"),
    [
        ("gemm", "kernel", "compute"),
        ("ncclKernel_AllGather_RING_LL_Sum_int8_t(ncclWorkElem)", "kernel", "comm"),
        ("Memcpy HtoD (Pinned -> Device)", "gpu_memcpy", "copy"),
        ("a copy that says nccl", "gpu_memcpy", "copy"),
        ("Memset (Device)", "gpu_memset", "set"),
        ("__amd_rocclr_copyBuffer", "kernel", "copy"),
        ("__amd_rocclr_copyBufferRectAligned.kd", "kernel", "copy"),
        ("MEMORY_COPY_DEVICE_TO_HOST", "kernel", "copy"),
        ("__amd_rocclr_fillBufferAligned.kd", "kernel", "set"),
        ("my__amd_rocclr_copyBuffer", "kernel", "compute"),
    ],
)
def test_the_kind_of_a_gpu_event(name: str, cat: str, kind: str) -> None:
    trace = Trace()
    trace.kernel(0, 1, launch=0, name=name, cat=cat)
    assert [KINDS[code] for code in gpu_events(trace.columns()).kind] == [kind]


def test_a_set_counts_as_computing() -> None:
    trace = Trace()
    trace.kernel(0, 7, launch=0, cat="gpu_memset", name="Memset (Device)")
    assert gpu_time(trace).compute_us == 7.0


def test_what_was_launched_before_the_recording_is_in_no_time_but_is_counted() -> None:
    trace = Trace()
    trace.kernel(0, 100)  # no call has its correlation
    trace.kernel(110, 10, launch=105)
    trace.kernel(130, 10, launch=121)
    found = gpu_time(trace)
    assert (found.orphans, found.orphan_us) == (1, 100.0)
    assert (found.span_us, found.busy_us, found.events) == (30.0, 20.0, 2)


def test_where_no_calls_were_recorded_nothing_is_an_orphan() -> None:
    trace = Trace()
    trace.kernel(0, 10)
    trace.kernel(20, 10)
    found = gpu_time(trace)
    assert (found.orphans, found.busy_us, found.idle_us) == (0, 20.0, 10.0)


def test_each_device_has_its_time_and_the_trace_their_sum() -> None:
    trace = Trace()
    trace.kernel(0, 10, launch=0, device=1)
    trace.kernel(20, 10, launch=1, device=1)
    trace.kernel(5, 10, launch=2, device=0)
    columns = trace.columns()
    devices = device_times(gpu_events(columns))
    assert [(one.device, one.time.span_us, one.time.busy_us) for one in devices] == [
        (0, 10.0, 10.0),
        (1, 30.0, 20.0),
    ]
    assert (total(devices).span_us, total(devices).busy_us, total(devices).idle_us) == (40.0, 30.0, 10.0)


def test_a_trace_without_gpu_work_has_no_gpu_time() -> None:
    trace = Trace()
    trace.op("aten::mm", 0, 10)
    assert gpu_time(trace) == NO_TIME
