"""Parts of traces: what belongs to a step, and that the file is a trace again."""

import gzip
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from chisel_shared.traces.read import read
from chisel_shared.traces.slice import Sliced, SliceError, write_slice
from chisel_shared.traces.summary import summarize
from tests.traces.build import EPOCH_US, Event, Trace


def three_steps() -> Trace:
    trace = Trace(traceName="x.json", deviceProperties=[{"name": "H100"}])
    trace.span("chisel::train", 0, 300)
    trace.python("train.py(1): main", 0, 300)
    for step in range(3):
        at = 100.0 * step
        trace.span(f"ProfilerStep#{step + 4}", at, 100)
        trace.op("aten::mm", at + 10, 20)
        # The GPU is late: what a step launches runs in the next one.
        kernel = trace.kernel(at + 110, 30, launch=at + 15, name=f"of{step + 4}")
        trace.allocate(at + 11, 512, 512, address=step)
        for phase in "sf":
            flow = {
                "ph": phase,
                "id": kernel["args"]["correlation"],
                "cat": "ac2g",
                "name": "ac2g",
                "pid": 1,
                "tid": 1,
            }
            trace.events.append(flow | {"ts": EPOCH_US + at + (15 if phase == "s" else 110)})
    trace.events.append({"ph": "M", "name": "thread_name", "pid": 1, "tid": 1, "args": {"name": "main"}})
    return trace


def sliced(
    tmp_path: Path, trace: Trace, name: str = "part.json", **how: Any
) -> tuple[Sliced, dict[str, Any]]:
    source = tmp_path / "whole.json"
    source.write_bytes(trace.data())
    found = write_slice(source, tmp_path / name, **how)
    data = (tmp_path / name).read_bytes()
    return found, json.loads(gzip.decompress(data) if name.endswith(".gz") else data)


def complete(whole: dict[str, Any]) -> dict[str, Event]:
    return {event["name"]: event for event in whole["traceEvents"] if event["ph"] == "X"}


def test_a_step_has_what_it_launched_and_its_callers_cut_at_its_ends(tmp_path: Path) -> None:
    found, whole = sliced(tmp_path, three_steps(), steps=(5, 5))
    kept = complete(whole)
    callers = {"chisel::train", "train.py(1): main", "ProfilerStep#5"}
    assert set(kept) == callers | {"aten::mm", "cudaLaunchKernel", "of5"}
    assert (kept["of5"]["ts"], kept["of5"]["dur"]) == (EPOCH_US + 210, 30)
    assert (kept["train.py(1): main"]["ts"], kept["train.py(1): main"]["dur"]) == (EPOCH_US + 100, 100)
    assert [event["id"] for event in whole["traceEvents"] if event["ph"] in "sf"] == [2, 2]
    assert [event["ph"] for event in whole["traceEvents"]].count("i") == 1
    assert [event["ph"] for event in whole["traceEvents"]].count("M") == 1
    assert found == Sliced(events=len(whole["traceEvents"]), of=len(three_steps().events), cut=False)
    assert whole["deviceProperties"] == [{"name": "H100"}]


def test_a_slice_is_summarised_like_any_trace(tmp_path: Path) -> None:
    sliced(tmp_path, three_steps(), "part.json.gz", steps=(5, 6))
    found = summarize(tmp_path / "part.json.gz")
    assert (found.trace.wall_us, len(found.steps)) == (200.0, 2)
    assert (found.gpu.span_us, found.gpu.busy_us, found.gpu.orphans) == (130.0, 60.0, 0)


def test_a_stretch_counts_from_the_beginning_of_the_window(tmp_path: Path) -> None:
    _, whole = sliced(tmp_path, three_steps(), start_us=205.0, end_us=212.0)
    kept = complete(whole)
    assert set(kept) == {"chisel::train", "train.py(1): main", "ProfilerStep#6", "aten::mm"}
    assert (kept["aten::mm"]["ts"], kept["aten::mm"]["dur"]) == (EPOCH_US + 210, 2)


@pytest.mark.parametrize(
    ("drop", "gone"),
    [
        ("python", lambda event: event["cat"] == "python_function"),
        ("flows", lambda event: event["ph"] in "sf"),
        ("memory", lambda event: event["name"] == "[memory]"),
        ("cpu_op", lambda event: event["cat"] == "cpu_op"),
    ],
)
def test_dropping_takes_a_kind_of_event_out_and_nothing_else(tmp_path: Path, drop: str, gone: Any) -> None:
    trace = three_steps()
    _, whole = sliced(tmp_path, trace, drop=[drop])
    assert whole["traceEvents"] == [event for event in trace.events if not gone({"cat": "", **event})]
    assert len(whole["traceEvents"]) < len(trace.events)


def test_nothing_asked_for_is_the_whole_trace(tmp_path: Path) -> None:
    found, whole = sliced(tmp_path, three_steps())
    assert whole == json.loads(three_steps().data())
    assert found.events == found.of


def test_a_trace_without_launches_is_cut_by_the_time_of_its_kernels(tmp_path: Path) -> None:
    trace = Trace()
    trace.kernel(0, 10, name="a")
    trace.kernel(20, 10, name="b")
    _, whole = sliced(tmp_path, trace, start_us=15.0)
    assert set(complete(whole)) == {"b"}


@pytest.mark.parametrize(
    ("trace", "said"), [(three_steps(), "no step 8 to 9: it has 4 to 6"), (Trace(), "it marks no steps")]
)
def test_a_step_that_is_not_there_is_an_error_that_says_which_are(
    tmp_path: Path, trace: Trace, said: str
) -> None:
    with pytest.raises(SliceError, match=said):
        sliced(tmp_path, trace, steps=(8, 9))
    assert [path.name for path in tmp_path.iterdir()] == ["whole.json"]


def test_a_slice_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_bytes(b"{}")
    (tmp_path / "part.json").write_text("before")
    with pytest.raises(ValueError, match="no trace"):
        write_slice(tmp_path / "bad.json", tmp_path / "part.json", drop=["python"])
    assert (tmp_path / "part.json").read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_device_or_a_pipe_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "trace.json").write_bytes(Trace().data())
    os.mkfifo(tmp_path / "pipe.json")
    for target in (tmp_path / "pipe.json", tmp_path):
        with pytest.raises(SliceError, match="no plain file"):
            write_slice(tmp_path / "trace.json", target, drop=["python"])
    assert stat.S_ISFIFO((tmp_path / "pipe.json").lstat().st_mode)
    assert len(list(tmp_path.iterdir())) == 2


def test_what_was_no_json_is_json_in_the_slice(tmp_path: Path) -> None:
    odd = b'{"ph": "X", "ts": 1, "dur": 9, "args": {"x": NaN}, "name": "\\ud800"}'
    events = odd + b', 7, {"ph": "X", "ts": 20, "name": "\xff"}'
    (tmp_path / "bad.json").write_bytes(b'{"traceEvents": [' + events + b'], "deviceProperties": [Infinity]}')
    write_slice(tmp_path / "bad.json", tmp_path / "part.json", end_us=10.0)
    data = (tmp_path / "part.json").read_bytes()
    (event,) = json.loads(data, parse_constant=lambda token: pytest.fail(token))["traceEvents"]
    assert (event["name"], event["args"]) == ("?", {"x": None})
    assert read(tmp_path / "part.json").damaged == 0
