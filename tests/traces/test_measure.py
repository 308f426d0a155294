"""From files to comparisons: what is taken of a trace adds up to what its summary says."""

import io
import json

import pytest

from chisel_shared.traces.columns import Columns
from chisel_shared.traces.diff import diff
from chisel_shared.traces.measure import capture, on_one_clock, rank
from chisel_shared.traces.ranks import compare
from chisel_shared.traces.read import read
from chisel_shared.traces.report import Summary
from chisel_shared.traces.summary import summarize

Events = list[dict[str, object]]


def _event(category: str, name: str, ts: float, dur: float, **more: object) -> dict[str, object]:
    event: dict[str, object] = {
        "ph": "X",
        "cat": category,
        "name": name,
        "pid": 1,
        "tid": 1,
        "ts": ts,
        "dur": dur,
    }
    return event | more


def _read(events: Events, **metadata: object) -> tuple[Columns, Summary]:
    data = json.dumps({"schemaVersion": 1, **metadata, "traceEvents": events}).encode()
    columns = read(io.BytesIO(data))
    return columns, summarize(columns, name="step.json")


def _call(us: float) -> dict[str, object]:
    return _event("user_annotation", "chisel::step", 0.0, us)


def _kernel(
    ts: float, dur: float, correlation: int, *, device: int = 0, name: str = "k"
) -> dict[str, object]:
    args = {"device": device, "stream": 7, "correlation": correlation, "grid": [1, 1, 1], "block": [32, 1, 1]}
    return _event("kernel", name, ts, dur, pid=device, tid=7, args=args)


def _launched(ts: float, correlation: int) -> dict[str, object]:
    return _event("cuda_runtime", "cudaLaunchKernel", ts, 1.0, args={"correlation": correlation})


def _gpu_trace(run_us: float, *, wall_us: float = 1000.0, device: int = 0) -> Events:
    """Two kernels of one operator: launched at 100 and, when the first has run, at 400."""
    return [
        _call(wall_us),
        _event("cpu_op", "aten::mm", 90.0, 20.0),
        _launched(100.0, 1),
        _kernel(110.0, run_us, 1, device=device),
        _event("cpu_op", "aten::mm", 395.0, 20.0),
        _launched(400.0, 2),
        _kernel(410.0, run_us, 2, device=device),
    ]


@pytest.mark.parametrize("devices", [1, 2])
def test_categories_make_the_wall_time(devices: int) -> None:
    events = _gpu_trace(50.0)
    if devices == 2:
        events += [_launched(500.0, 3), _kernel(520.0, 200.0, 3, device=1)]
    made = capture(*_read(events))
    assert sum(made.categories.values()) == pytest.approx(1000.0)
    if devices == 1:
        assert made.categories == {
            "compute": 100.0, "exposed comm": 0.0, "exposed copy": 0.0,
            "idle: host": 250.0, "idle: launch": 0.0, "idle: unknown": 0.0, "outside": 650.0,
        }  # fmt: skip


def test_kernels_and_operators_by_call() -> None:
    made = capture(*_read(_gpu_trace(50.0)))
    (kernel,), (op,) = made.kernels, made.ops
    assert (kernel.name, kernel.op, kernel.grid, kernel.durations.tolist()) == (
        "k",
        "aten::mm",
        (1, 1, 1),
        [50, 50],
    )
    assert (op.name, op.kind, op.durations.tolist()) == ("aten::mm", "op", [50.0, 50.0])


def test_two_files_compared() -> None:
    before, after = (
        capture(*_read(_gpu_trace(us, wall_us=wall))) for us, wall in ((50.0, 1000.0), (60.0, 900.0))
    )
    found = diff([before], [after])
    assert [(change.name, change.delta_us) for change in found.changes if change.delta_us] == [
        ("compute", 20.0), ("idle: host", -10.0), ("outside", -110.0),
    ]  # fmt: skip
    assert sum(change.delta_us for change in found.changes) == pytest.approx(-100.0)
    assert found.kernels[0].delta_us == 20.0


def test_without_a_gpu_operators_are_compared_by_their_own_cpu_time() -> None:
    events = [
        _call(100.0),
        _event("cpu_op", "aten::linear", 10.0, 30.0),
        _event("cpu_op", "aten::mm", 15.0, 20.0),
        _event("cpu_op", "aten::mm", 50.0, 5.0),
        _event("cpu_op", "elsewhere", 0.0, 90.0, tid=2),
        _event("cpu_op", "afterwards", 120.0, 90.0),
    ]
    made = capture(*_read(events))
    assert made.categories == {"in operators": 35.0, "outside operators": 65.0}
    assert {op.name: op.durations.tolist() for op in made.ops}["aten::linear"] == [10.0]
    assert sorted({op.name: op.durations.tolist() for op in made.ops}["aten::mm"]) == [5.0, 20.0]
    assert made.kernels == ()


def test_an_empty_trace_can_be_compared() -> None:
    nothing = capture(*_read([]))
    assert diff([nothing], [nothing]).verdict == "same"


# Ranks


def _nccl(ts: float, dur: float, correlation: int) -> dict[str, object]:
    event = _kernel(ts, dur, correlation, name="ncclDevKernel_AllReduce")
    args = {
        "Collective name": "allreduce", "In msg nelems": 1024, "Out msg nelems": 1024,
        "Process Group Name": "0", "Process Group Ranks": "[0, 1]", "Group size": 2, "dtype": "Float",
    }  # fmt: skip
    event["args"] = {**args, **event["args"]}  # type: ignore[dict-item]
    return event


def test_ranks_are_put_on_one_clock() -> None:
    traces = []
    # On the common clock rank 0 starts at 100, rank 1 at 140: its file counts from 1 ms earlier.
    for number, (base, start, us) in enumerate(((2_000_000, 100.0, 50.0), (1_000_000, 1140.0, 10.0))):
        events = [_call(3000.0), _launched(start - 5, 1), _nccl(start, us, 1)]
        columns, summary = _read(events, baseTimeNanoseconds=base)
        traces.append((rank(columns, summary, number), columns))
    found = compare(on_one_clock(traces))
    assert [(one.wait_us, one.caused_us) for one in found.ranks] == [(40.0, 0.0), (0.0, 40.0)]
    (kind,) = found.collectives
    assert (kind.name, kind.group, kind.elements, kind.transfer_us) == ("allreduce", "0 [0, 1]", 1024, 10.0)
    assert found.straggler == 1


def test_collectives_of_the_cpu() -> None:
    traces = []
    for number, start in enumerate((10.0, 30.0)):
        events = [_call(100.0), _event("user_annotation", "gloo:all_reduce", start, 40.0 - start, tid=9)]
        columns, summary = _read(events)
        traces.append((rank(columns, summary, number), columns))
    found = compare(on_one_clock(traces))
    assert [one.wait_us for one in found.ranks] == [20.0, 0.0]
    assert found.straggler == 1
