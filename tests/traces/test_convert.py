"""Flame graphs, by hand."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chisel_shared.traces.columns import CPU_OP
from chisel_shared.traces.convert import folded, speedscope
from chisel_shared.traces.nesting import nest
from tests.traces.build import Trace


def small() -> Trace:
    trace = Trace()
    trace.python("train.py(1): main", 0, 100)
    trace.python("train.py(9): step; the first", 10, 30)
    trace.op("aten::mm", 15, 20)
    trace.call("cudaLaunchKernel", 20, 4)
    trace.python("train.py(9): step; the first", 50, 30)
    trace.op("aten::add", 0, 8, tid=2)
    return trace


def test_folded_stacks_have_the_time_that_is_their_own_added_up() -> None:
    assert folded(small().columns()).decode().splitlines() == [
        "thread 1;train.py(1): main 40",
        "thread 1;train.py(1): main;train.py(9): step: the first 40",
        "thread 1;train.py(1): main;train.py(9): step: the first;aten::mm 16",
        "thread 1;train.py(1): main;train.py(9): step: the first;aten::mm;cudaLaunchKernel 4",
        "thread 2;aten::add 8",
    ]


def test_speedscope_has_a_profile_for_each_thread_and_says_where_frames_are() -> None:
    whole = json.loads(speedscope(small().columns(), name="small"))
    assert whole["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    frames = whole["shared"]["frames"]
    assert frames[0] == {"name": "train.py(1): main", "file": "train.py", "line": 1}
    main, other = whole["profiles"]
    assert (main["name"], main["unit"], main["startValue"], main["endValue"]) == (
        *("thread 1", "microseconds"),
        *(0, 100),
    )
    found = [(one["type"], frames[one["frame"]]["name"].split()[-1], one["at"]) for one in main["events"]]
    assert found == [
        ("O", "main", 0), ("O", "first", 10), ("O", "aten::mm", 15), ("O", "cudaLaunchKernel", 20),
        ("C", "cudaLaunchKernel", 24), ("C", "aten::mm", 35), ("C", "first", 40), ("O", "first", 50),
        ("C", "first", 80), ("C", "main", 100),
    ]  # fmt: skip
    assert [event["at"] for event in other["events"]] == [0, 8]


def test_a_trace_without_cpu_events_has_no_profile() -> None:
    trace = Trace()
    trace.kernel(0, 5)
    assert json.loads(speedscope(trace.columns(), name="x"))["profiles"] == []
    assert folded(trace.columns()) == b""


spans = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(1, 2)), max_size=12)


@given(spans)
def test_whatever_overlaps_profiles_open_and_close_in_order(some: list[tuple[int, int, int]]) -> None:
    trace = Trace()
    for start, dur, thread in some:
        trace.op(f"op{start % 3}", start, dur, tid=thread)
    columns = trace.columns()
    for profile in json.loads(speedscope(columns, name="x"))["profiles"]:
        stack: list[Any] = []
        at = 0.0
        for event in profile["events"]:
            assert event["at"] >= at
            at = event["at"]
            if event["type"] == "O":
                stack.append(event["frame"])
            else:
                assert stack.pop() == event["frame"]
        assert not stack
    total = sum(int(line.rpartition(b" ")[2]) for line in folded(columns).splitlines())
    assert total == round(float(nest(columns, CPU_OP).self_us.sum()))
