"""Kernels, operators, memory, steps, and what a summary says of its trace, by hand."""

import io
import sys
from pathlib import Path
from subprocess import run

import msgspec

from chisel_shared.traces import kernels, memory
from chisel_shared.traces.columns import CPU_OP
from chisel_shared.traces.gpu import gpu_events
from chisel_shared.traces.kernels import Key
from chisel_shared.traces.nesting import nest
from chisel_shared.traces.read import read
from chisel_shared.traces.report import Op, Summary
from chisel_shared.traces.sidecar import Gpu, Options, Sidecar
from chisel_shared.traces.summary import first_line, summarize
from tests.support.source import ROOT
from tests.traces.build import Trace


def summary(trace: Trace, **more: object) -> Summary:
    return summarize(trace.columns(), **more)  # type: ignore[arg-type]


# Kernels


def test_a_kernel_with_another_grid_is_another_row() -> None:
    trace = Trace()
    for dur in (3.0, 1.0, 2.0, 6.0):
        trace.kernel(dur * 10, dur, launch=0, grid=(4, 1, 1))
    trace.kernel(100, 8, launch=1, grid=(8, 1, 1))
    trace.kernel(200, 1, launch=2, grid=(4, 1, 1), block=(256, 1, 1))
    trace.copy(300, 2, launch=3)
    rows = summary(trace).kernels
    assert [(row.grid, row.block, row.count, row.us, row.kind) for row in rows] == [
        ((4, 1, 1), (128, 1, 1), 4, 12.0, "compute"),
        ((8, 1, 1), (128, 1, 1), 1, 8.0, "compute"),
        ((), (), 1, 2.0, "copy"),
        ((4, 1, 1), (256, 1, 1), 1, 1.0, "compute"),
    ]
    assert (rows[0].mean_us, rows[0].median_us, rows[0].min_us, rows[0].max_us) == (3.0, 2.5, 1.0, 6.0)
    assert rows[0].share == 12 / 23


def test_durations_are_those_of_each_run_by_kernel_and_shape() -> None:
    trace = Trace()
    trace.kernel(0, 3, launch=0)
    trace.kernel(10, 5, launch=1)
    trace.kernel(20, 7)
    columns = trace.columns()
    gpu = gpu_events(columns)
    key = Key("gemm", (1, 1, 1), (128, 1, 1), "compute")
    assert {k: some.tolist() for k, some in kernels.durations(columns, gpu.known).items()} == {
        key: [3.0, 5.0]
    }
    assert {k: some.tolist() for k, some in kernels.durations(columns, gpu).items()} == {key: [3.0, 5.0, 7.0]}
    assert kernels.totals(gpu.known) == {"compute": 8.0, "comm": 0.0, "copy": 0.0, "set": 0.0}


def test_orphans_have_rows_of_their_own() -> None:
    trace = Trace()
    trace.kernel(0, 30)
    trace.kernel(50, 10, launch=40)
    assert [(row.orphan, row.us, row.share) for row in summary(trace).kernels] == [
        (True, 30.0, 0.75),
        (False, 10.0, 0.25),
    ]


def test_the_operator_of_a_kernel_is_the_one_that_launched_most_of_its_time() -> None:
    trace = Trace()
    trace.op("aten::mm", 0, 10)
    trace.op("aten::bmm", 20, 10)
    trace.kernel(40, 5, launch=1)
    trace.kernel(50, 5, launch=2)
    trace.kernel(60, 20, launch=21)
    assert [row.op for row in summary(trace).kernels] == ["aten::bmm"]


# Operators


def test_gpu_time_belongs_to_the_innermost_operator_around_the_launch() -> None:
    trace = Trace()
    trace.op("aten::linear", 0, 30)
    trace.op("aten::addmm", 5, 10)
    trace.kernel(50, 7, launch=8)
    trace.kernel(60, 2, launch=20)  # in linear, after addmm
    trace.kernel(70, 1, launch=90)  # in none
    found = {op.name: op for op in summary(trace).ops}
    assert found == {
        "aten::addmm": Op("aten::addmm", 1, 7.0, 10.0, 10.0, 7 / 9, launching=1),
        "aten::linear": Op("aten::linear", 1, 2.0, 30.0, 20.0, 2 / 9, launching=1),
    }


def test_a_launch_of_another_thread_is_not_inside_of_an_operator() -> None:
    trace = Trace()
    trace.op("aten::mm", 0, 30)
    trace.op("aten::add", 0, 30, tid=2)
    trace.kernel(50, 7, launch=8, tid=2)
    assert [(op.name, op.gpu_us) for op in summary(trace).ops] == [("aten::add", 7.0), ("aten::mm", 0.0)]


def test_what_a_call_runs_at_the_same_time_counts_once() -> None:
    trace = Trace()
    trace.op("aten::x", 0, 30)
    trace.kernel(50, 10, launch=1)
    trace.kernel(55, 10, launch=2, stream=8)
    trace.op("aten::x", 40, 30)
    trace.kernel(80, 10, launch=41)
    (found,) = summary(trace).ops
    assert (found.gpu_us, found.count, found.launching) == (25.0, 2, 2)


def test_operators_that_use_the_cpu_alone_are_rows_too() -> None:
    trace = Trace()
    trace.op("aten::view", 0, 2)
    trace.op("aten::item", 5, 9)
    assert [(op.name, op.cpu_self_us, op.launching) for op in summary(trace).ops] == [
        ("aten::item", 9.0, 0),
        ("aten::view", 2.0, 0),
    ]


def test_what_a_graph_launched_is_grouped_under_its_launch_and_said() -> None:
    trace = Trace()
    trace.op("aten::mm", 0, 30)
    trace.call("cudaGraphLaunch", 5, 3, correlation=77)
    trace.kernel(50, 10, correlation=77)
    trace.kernel(65, 10, correlation=77, name="softmax")
    found = summary(trace)
    graph = found.ops[0]
    assert (graph.name, graph.gpu_us, graph.count, graph.launching) == ("cudaGraphLaunch", 20.0, 1, 1)
    assert {kernel.op for kernel in found.kernels} == {"cudaGraphLaunch"}
    assert any("graphs" in note for note in found.notes)
    assert found.gpu.orphans == 0


# Memory


def allocations() -> Trace:
    trace = Trace()
    trace.op("aten::empty", 0, 10)
    trace.op("aten::mm", 20, 10)
    trace.allocate(5, 100, 1100, address=1, reserved=4000)
    trace.allocate(25, 300, 1400, address=2, reserved=5000)
    trace.allocate(26, -100, 1300, address=1, reserved=5000)
    trace.allocate(27, 200, 1500, address=1, reserved=5000)
    trace.allocate(40, -300, 1200, address=2, reserved=4500)
    trace.allocate(50, -50, 1150, address=99, reserved=4500)
    return trace


def test_the_peak_of_memory_and_who_held_it() -> None:
    (found,) = summary(allocations()).memory
    assert found.device == "cuda:0"
    assert (found.peak_allocated_bytes, found.peak_reserved_bytes, found.peak_at_us) == (1500, 5000, 27.0)
    assert (found.start_allocated_bytes, found.end_allocated_bytes) == (1000, 1150)
    assert [(block.op, block.bytes, block.count) for block in found.at_peak] == [
        ("(before the recording)", 1000, 0),
        ("aten::mm", 500, 2),
    ]
    assert [point.allocated_bytes for point in found.timeline] == [1100, 1400, 1300, 1500, 1200, 1150]


def test_host_memory_is_a_device_of_its_own() -> None:
    trace = allocations()
    trace.allocate(60, 64, 64, address=1, gpu=False)
    assert [one.device for one in summary(trace).memory] == ["cuda:0", "cpu"]


def test_totals_that_were_not_recorded_are_added_up() -> None:
    trace = Trace()
    for at, change in enumerate((64, 32, -64)):
        trace.allocate(at, change, 0, address=at, gpu=False)
    (found,) = summary(trace).memory
    assert (found.peak_allocated_bytes, found.start_allocated_bytes, found.end_allocated_bytes) == (96, 0, 32)


def test_a_long_timeline_keeps_its_peaks() -> None:
    trace = Trace()
    for at in range(5000):
        spike = 10**6 if at == 3333 else 0
        trace.allocate(at, 1, 1000 + at % 7 + spike, address=at)
    columns = trace.columns()
    (found,) = memory.memory(columns, nest(columns, CPU_OP))
    assert len(found.timeline) <= memory.MOST_POINTS
    assert max(point.allocated_bytes for point in found.timeline) == found.peak_allocated_bytes
    times = [point.at_us for point in found.timeline]
    assert times == sorted(times)
    assert (times[0], times[-1]) == (0.0, 4999.0)


# Steps


def test_steps_have_their_wall_time_and_what_of_it_gpus_were_busy() -> None:
    trace = Trace()
    trace.span("ProfilerStep#8", 100, 100)
    trace.span("ProfilerStep#7", 0, 100)
    trace.span("ProfilerStep", 0, 100)
    trace.kernel(90, 30, launch=5)
    found = summary(trace)
    assert [(step.name, step.start_us, step.wall_us, step.busy_us) for step in found.steps] == [
        ("ProfilerStep#7", 0.0, 100.0, 10.0),
        ("ProfilerStep#8", 100.0, 100.0, 20.0),
    ]


# The trace itself


def test_wall_time_is_that_of_the_marked_call() -> None:
    trace = Trace()
    trace.span("chisel::train", 10, 50)
    trace.span("chisel::inner", 20, 5)
    trace.op("aten::mm", 0, 100)
    assert summary(trace).trace.wall_us == 50.0


def test_wall_time_without_a_mark_is_the_window() -> None:
    trace = Trace()
    trace.op("aten::mm", 10, 30)
    trace.op("aten::mm", 50, 30)
    assert summary(trace).trace.wall_us == 70.0
    trace.add("Trace", "PyTorch Profiler (0)", 0, 200, pid="Spans", tid="PyTorch Profiler")
    assert summary(trace).trace.wall_us == 200.0


def test_the_file_tells_what_the_sidecar_does_not() -> None:
    trace = Trace(
        deviceProperties=[{"name": "NVIDIA H100"}], cuda_runtime_version=12040, with_stack=1, record_shapes=0,
        distributedInfo={"rank": 3, "world_size": 8},
    )  # fmt: skip
    trace.op("aten::mm", 0, 1)
    found = summary(trace, name="t.json").trace
    assert (found.name, found.gpu, found.cuda, found.rank, found.world_size) == (
        "t.json",
        "NVIDIA H100",
        "12.4",
        3,
        8,
    )
    assert (found.options, found.cold, found.call) == (("with_stack",), False, 1)


def test_the_sidecar_comes_first() -> None:
    sidecar = Sidecar(
        trace="My run", call=1, rank=0, world_size=2, torch="2.13.0", cuda="13.0",
        options=Options(all_threads=True),
        gpus=(Gpu(index=1, model="H200", driver="580.1", neighbours=2),),
    )  # fmt: skip
    trace = Trace(deviceProperties=[{"name": "other"}], distributedInfo={"rank": 3})
    trace.op("aten::mm", 0, 1)
    found = summary(trace, sidecar=sidecar)
    told = found.trace
    assert (told.name, told.gpu, told.torch, told.cuda, told.driver) == (
        "My run",
        "H200",
        "2.13.0",
        "13.0",
        "580.1",
    )
    assert (told.rank, told.world_size, told.cold, told.options) == (0, 2, True, ("all_threads",))
    assert any("first call" in note for note in found.notes)
    assert "Other processes computed on GPU 1: times are not its own alone." in found.notes


def test_notes_say_what_limits_the_reading(tmp_path: Path) -> None:
    trace = Trace()
    trace.op("outer", 0, 10)
    trace.op("late", 5, 20)
    trace.kernel(0, 5)
    trace.kernel(20, 5, launch=10)
    path = tmp_path / "cut.json"
    path.write_bytes(trace.data()[:-3])
    found = summarize(path)
    assert found.trace.name == "cut.json"
    assert [note.split(":")[0] for note in found.notes] == [
        "The file ends in the middle",
        "1 GPU events were launched before the recording began and are in none of the times",
        "1 operators outlast the one around them; they are cut at its end.",
    ]


def test_of_a_file_that_ends_before_its_gpu_events_nothing_is_said_about_the_gpu() -> None:
    trace = Trace()
    trace.python("train.py(7): loop", 0, 100)
    trace.op("aten::mm", 0, 50)
    trace.kernel(20, 5, launch=10)
    whole = trace.data()
    found = summarize(read(io.BytesIO(whole[: whole.index(b'"kernel"')])))
    assert (found.gpu.events, found.trace.truncated, found.findings) == (0, True, ())
    assert "It ends before its GPU events, so what the GPU did is unknown." in found.notes
    assert first_line(found) == "cut off before any GPU work: 100 % of the call in loop at train.py:7"


def test_lists_are_cut_but_counted() -> None:
    trace = Trace()
    for number in range(9):
        trace.kernel(number * 10, 1, launch=0, name=f"k{number}")
        trace.op(f"aten::op{number}", number * 10, 5)
    found = summary(trace, rows=4)
    assert (len(found.kernels), found.kernels_count, len(found.ops), found.ops_count) == (4, 9, 4, 9)
    assert len(summary(trace, rows=None).kernels) == 9
    assert msgspec.json.decode(msgspec.json.encode(found), type=Summary) == found


def test_whoever_only_shows_results_loads_no_numpy() -> None:
    code = (
        "import sys; from chisel_shared.traces import report, sidecar, first_line, repair;"
        " sys.exit('numpy' in sys.modules)"
    )
    done = run([sys.executable, "-c", code], cwd=ROOT / "shared", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
