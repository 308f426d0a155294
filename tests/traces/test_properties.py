"""What holds for every trace, tried on many that hypothesis makes up."""

import contextlib
import io
import json
from typing import Any

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from chisel_shared.traces import intervals, nesting, ops
from chisel_shared.traces.columns import CPU_OP
from chisel_shared.traces.gaps import find_gaps
from chisel_shared.traces.gpu import gpu_events
from chisel_shared.traces.idle import idle
from chisel_shared.traces.intervals import Intervals
from chisel_shared.traces.nesting import nest
from chisel_shared.traces.read import TraceError, read
from chisel_shared.traces.report import Summary
from chisel_shared.traces.summary import first_line, summarize
from chisel_shared.traces.timeline import device_times, total
from tests.traces.build import EPOCH_US, Trace, columns

ENDS = 60
points = st.integers(0, ENDS)
spans = st.tuples(points, points).map(lambda pair: (min(pair), max(pair)))
span_lists = st.lists(spans, max_size=12)


def arrays(some: list[tuple[int, int]]) -> tuple[Any, Any]:
    return np.array([a for a, _ in some], np.float64), np.array([b for _, b in some], np.float64)


def union(some: list[tuple[int, int]]) -> Intervals:
    return intervals.union(*arrays(some))


def cells(some: list[tuple[int, int]]) -> set[int]:
    """The unit cells that intervals cover: the same thing, the slow way."""
    return {cell for a, b in some for cell in range(a, b)}


def as_cells(found: Intervals) -> set[int]:
    return cells([(int(a), int(b)) for a, b in zip(found.start.tolist(), found.end.tolist(), strict=True)])


@given(span_lists)
def test_a_union_covers_what_its_intervals_cover_in_order_and_without_overlap(
    some: list[tuple[int, int]],
) -> None:
    found = union(some)
    assert as_cells(found) == cells(some)
    assert found.length == len(cells(some))
    assert (found.start[1:] > found.end[:-1]).all()


@given(span_lists, span_lists)
def test_a_difference_is_what_one_covers_and_the_other_does_not(a: Any, b: Any) -> None:
    found = intervals.without(union(a), union(b))
    assert as_cells(found) == cells(a) - cells(b)
    assert found.length == len(cells(a) - cells(b))


@given(span_lists, span_lists)
def test_what_lies_inside_of_a_union_is_counted_once(within: Any, asked: Any) -> None:
    found = intervals.covered(union(within), *arrays(asked))
    assert found.tolist() == [len(cells([one]) & cells(within)) for one in asked]


# Traces

quarters = st.integers(0, 400).map(lambda quarter: quarter / 4)
names = st.sampled_from(
    ["gemm", "softmax", "ncclDevKernel_AllReduce", "Memset (Device)", "__amd_rocclr_copyBuffer"]
)


gpu_work: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "start": quarters,
        "dur": quarters,
        "launch": st.none() | quarters,
        "name": names,
        "cat": st.sampled_from(["kernel", "kernel", "gpu_memcpy", "gpu_memset"]),
        "device": st.integers(0, 1),
        "stream": st.integers(7, 9),
        "by": st.sampled_from(["cudaLaunchKernel", "cudaGraphLaunch"]),
    },
    optional={"correlation": st.integers(-1, 5)},
)
cpu_work = st.tuples(
    st.sampled_from(["aten::mm", "aten::item", "a.py(1): f", "torch/x.py(2): g", "<built-in h>"]),
    quarters,
    quarters,
    st.integers(1, 2),
)


@st.composite
def gpu_traces(draw: st.DrawFn) -> Trace:
    trace = Trace()
    for work in draw(st.lists(gpu_work, max_size=10)):
        trace.kernel(**work)
    for name, start, dur, thread in draw(st.lists(cpu_work, max_size=10)):
        add = trace.op if name.startswith("aten") else trace.python
        add(name, start, dur, tid=thread)
    return trace


def close(a: float, b: float) -> bool:
    return abs(a - b) < 1e-6


@given(gpu_traces())
def test_the_parts_of_gpu_time_make_the_whole(trace: Trace) -> None:
    found = trace.columns()
    gpu = gpu_events(found)
    devices = device_times(gpu)
    for time in [*(one.time for one in devices), total(devices)]:
        assert close(time.compute_us + time.exposed_comm_us + time.exposed_copy_us, time.busy_us)
        assert close(time.busy_us + time.idle_us, time.span_us)
        assert time.exposed_comm_us <= time.comm_us
        assert time.exposed_copy_us <= time.copy_us
        assert time.idle_us >= 0
    assert total(devices).events + total(devices).orphans == len(gpu)


@given(gpu_traces())
def test_the_causes_of_idling_make_all_of_it(trace: Trace) -> None:
    found = trace.columns()
    gpu = gpu_events(found)
    parts = idle(found, find_gaps(found, gpu))
    assert close(parts.host_us + parts.launch_us + parts.unknown_us, total(device_times(gpu)).idle_us)
    assert sum(frame.us for frame in parts.frames) <= parts.host_us + 1e-6


@given(gpu_traces())
def test_every_trace_has_a_summary_that_survives_its_own_json(trace: Trace) -> None:
    found = summarize(trace.columns())
    assert msgspec.json.decode(msgspec.json.encode(found), type=Summary) == found
    assert first_line(found)
    costs = [finding.us for finding in found.findings]
    assert costs == sorted(costs, reverse=True)


@given(gpu_traces())
def test_each_gpu_event_is_in_one_row_of_the_kernels_and_of_the_operators(trace: Trace) -> None:
    found = summarize(trace.columns(), rows=None)
    assert sum(row.count for row in found.kernels) == found.gpu.events + found.gpu.orphans
    if found.kernels and sum(row.us for row in found.kernels):
        assert close(sum(row.share for row in found.kernels), 1)


@st.composite
def stacks(draw: st.DrawFn) -> list[tuple[float, float]]:
    """Spans as a stack makes them: each inside of another or beside it."""
    made: list[tuple[float, float]] = []

    def fill(low: int, high: int, depth: int) -> None:
        at = low
        while at < high and len(made) < 30 and draw(st.booleans()):
            a = draw(st.integers(at, high))
            b = draw(st.integers(a, high))
            made.append((a, b))
            if depth < 4 and b > a:
                fill(a, b, depth + 1)
            at = b

    fill(0, 100, 0)
    return made


@given(stacks())
def test_both_ways_of_nesting_find_the_same_in_what_nests(made: list[tuple[float, float]]) -> None:
    ordered = sorted(made, key=lambda span: (span[0], span[0] - span[1]))
    start = np.array([a for a, _ in ordered], np.float64)
    end = np.array([b for _, b in ordered], np.float64)
    stacked, cut = nesting.by_stack(start, end)
    levelled = nesting.by_levels(start, end)
    assert cut == 0
    assert levelled is not None
    assert levelled.parent.tolist() == stacked.parent.tolist()
    assert levelled.end.tolist() == stacked.end.tolist() == end.tolist()


@given(st.lists(st.tuples(quarters, quarters, st.integers(1, 2)), max_size=15))
def test_own_times_are_never_negative_and_fill_the_threads(spans: list[tuple[float, float, int]]) -> None:
    """Whether the operators nest or overlap as they like."""
    trace = Trace()
    for start, dur, thread in spans:
        trace.op("aten::x", start, dur, tid=thread)
    found = nest(trace.columns(), CPU_OP)
    assert (found.self_us >= 0).all()
    roots = found.parent < 0
    assert close(float(found.self_us.sum()), float((found.end - found.start)[roots].sum()))
    filled = sum(
        len(
            cells([(int(4 * start), int(4 * (start + dur))) for start, dur, thread in spans if thread == one])
        )
        / 4
        for one in (1, 2)
    )
    assert float(found.self_us.sum()) <= filled + 1e-6
    if not found.cut:
        assert close(float(found.self_us.sum()), filled)


@given(gpu_traces(), quarters, st.integers(1, 2))
def test_the_innermost_operator_at_a_moment_is_the_shortest_stack_top(
    trace: Trace, at: float, thread: int
) -> None:
    found = trace.columns()
    nested = nest(found, CPU_OP)
    if nested.cut:
        return
    ids = [number for number, one in enumerate(found.threads) if (one.pid, one.tid) == (1, thread)]
    if not ids:
        return
    (place,) = nested.innermost(np.array(ids), np.array([EPOCH_US + at])).tolist()
    around = [
        row
        for row in nested.row.tolist()
        if found.thread[row] == ids[0] and found.ts[row] <= EPOCH_US + at <= found.end[row]
    ]
    if place < 0:
        assert not around
    else:
        assert nested.row[place] in around
        assert found.ts[nested.row[place]] == max(found.ts[row] for row in around)


def test_an_operator_that_outlasts_the_one_around_it_is_cut_and_counted() -> None:
    trace = Trace()
    trace.op("outer", 0, 10)
    trace.op("late", 5, 20)
    trace.op("after", 12, 1)
    columns = trace.columns()
    found = {op.name: op for op in ops.ops(ops.attribute(columns, gpu_events(columns)))}
    assert nest(columns, CPU_OP).cut == 1
    assert {name: op.cpu_self_us for name, op in found.items()} == {"outer": 5.0, "late": 5.0, "after": 1.0}


# Files

texts = st.text(max_size=8)
finite = st.floats(-1e9, 1e12, allow_nan=False)
nested = st.sampled_from(
    [{"name": "x"}, {"ph": "X", "ts": 1}, {"s": "},{"}, {"n": [{"m": None}, {"m": True}]}]
)
events = st.fixed_dictionaries(
    {"ph": st.just("X"), "name": texts, "cat": st.sampled_from(["kernel", "cpu_op", "other", "cuda_runtime"]),
     "ts": finite, "dur": st.floats(0, 1e9), "pid": st.integers() | texts, "tid": st.integers() | texts,
     "args": st.fixed_dictionaries({}, optional={"name": st.lists(nested, max_size=4)}) },
)  # fmt: skip


@given(st.lists(events, max_size=20), st.booleans())
def test_what_was_written_is_read(some: list[dict[str, Any]], ascii_only: bool) -> None:
    data = json.dumps({"traceEvents": some, "after": some[:1]}, ensure_ascii=ascii_only).encode(
        errors="replace"
    )
    written = json.loads(data)["traceEvents"]
    found = columns(data)
    assert (found.events, found.damaged, found.repaired, found.truncated) == (len(some), 0, 0, False)
    assert found.ts.tolist() == [event["ts"] for event in written]
    assert found.dur.tolist() == [event["dur"] for event in written]
    assert [found.name_of(row) for row in range(len(found))] == [event["name"] for event in written]
    assert [found.categories[code] for code in found.category] == [event["cat"] for event in written]
    assert [(found.threads[t].pid, found.threads[t].tid) for t in found.thread] == [
        (event["pid"], event["tid"]) for event in written
    ]


@given(st.lists(events, min_size=1, max_size=8), st.data(), st.sampled_from([None, 2]))
def test_any_cut_gives_exactly_the_whole_events_before_it(
    some: list[dict[str, Any]], data: st.DataObject, indent: int | None
) -> None:
    head = b'{"schemaVersion": 1, "traceEvents": ['
    pieces = [json.dumps(event, indent=indent).encode() for event in some]
    whole = head + b", ".join(pieces) + b'], "displayTimeUnit": "ms"}'
    cut = data.draw(st.integers(len(head), len(whole) - 1))
    ends = [len(head) + sum(len(p) + 2 for p in pieces[: n + 1]) - 2 for n in range(len(pieces))]
    found = columns(whole[:cut])
    assert found.events == sum(end <= cut for end in ends)
    assert found.ts.tolist() == [event["ts"] for event in some[: found.events]]
    assert (found.truncated, found.damaged, found.repaired) == (True, 0, 0)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_trace_or_the_documented_error(data: bytes) -> None:
    for framed in (data, b"[" + data, b'{"traceEvents": [' + data):
        with contextlib.suppress(TraceError):
            read(io.BytesIO(framed))
