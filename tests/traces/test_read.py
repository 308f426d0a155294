"""Every form of file that profilers and other writers leave, and files that ended too early."""

import gzip
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chisel_shared.traces import source
from chisel_shared.traces.columns import KERNEL, Collective, Thread
from chisel_shared.traces.read import TraceError, read
from tests.traces.build import EPOCH_US, Trace, columns


def small() -> Trace:
    trace = Trace(traceName="t.json")
    trace.op("aten::mm", 0, 30, **{"Input Dims": [[2, 3], [3, 4]]})
    trace.kernel(20, 10, launch=5, grid=(4, 2, 1))
    trace.allocate(3, 512, 512, address=77, reserved=1024)
    return trace


def kernel_line(**changes: Any) -> bytes:
    event = {"ph": "X", "cat": "kernel", "name": "k", "pid": 0, "tid": 7, "ts": 1.5, "dur": 2, "args": {}}
    return json.dumps({"traceEvents": [event | changes]}).encode()


def test_columns_hold_what_the_events_say() -> None:
    found = small().columns()
    (kernel,) = found.of(KERNEL)
    assert (found.events, len(found), found.name_of(kernel)) == (4, 3, "gemm")
    assert (found.ts[kernel], found.dur[kernel], found.end[kernel]) == (EPOCH_US + 20, 10, EPOCH_US + 30)
    assert (found.device[kernel], found.stream[kernel], found.correlation[kernel]) == (0, 7, 1)
    assert (found.shapes[found.grid[kernel]], found.shapes[found.block[kernel]]) == ((4, 2, 1), (128, 1, 1))
    assert found.threads[found.thread[kernel]] == Thread(0, 7)
    assert found.metadata == {"schemaVersion": 1, "traceName": "t.json"}
    assert (found.memory.bytes.tolist(), found.memory.address.tolist()) == ([512], [77])
    assert (found.truncated, found.repaired, found.damaged) == (False, 0, 0)


def test_times_are_those_of_the_file_to_the_last_bit() -> None:
    found = columns(kernel_line(ts=1419247333430.849, dur=3.136))
    assert (found.ts[0], found.end[0]) == (1419247333430.849, 1419247333430.849 + 3.136)


def test_a_gzip_file_is_known_by_its_bytes_not_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_bytes(small().gz())
    assert read(path).events == read(str(path)).events == 4


def test_members_of_a_gzip_file_are_one_stream() -> None:
    data = small().data()
    found = columns(gzip.compress(data[:100]) + gzip.compress(data[100:]) + b"\0" * 10)
    assert (found.events, found.truncated) == (4, False)


def test_metadata_before_and_after_the_events() -> None:
    events = b'"traceEvents": [{"ph": "X", "ts": 1, "name": "a"}]'
    found = columns(b'{"before": {"x": [{"a": 1}, {"name": 2}]},' + events + b', "after": {"y": "]}"}}\n')
    assert found.metadata == {"before": {"x": [{"a": 1}, {"name": 2}]}, "after": {"y": "]}"}}
    assert (found.events, found.truncated) == (1, False)


def test_metadata_longer_than_a_block_on_either_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chisel_shared.traces.events.BLOCK_BYTES", 256)
    monkeypatch.setattr("chisel_shared.traces.source.BLOCK_BYTES", 256)
    long = [{"name": f"n{i}", "x": {"y": [{"z": 1}, {"z": 2}]}} for i in range(200)]
    events = [{"ph": "X", "ts": i, "name": "a"} for i in range(100)]
    for compress in (bytes, gzip.compress):
        data = json.dumps({"before": long, "traceEvents": events, "after": long}).encode()
        found = read(io.BytesIO(compress(data)))
        assert (found.events, found.metadata) == (100, {"before": long, "after": long})
        assert (found.truncated, found.damaged) == (False, 0)


def test_a_nested_key_of_that_name_is_not_the_list_of_events() -> None:
    found = columns(b'{"m": {"traceEvents": [{"a": 1}]}, "traceEvents": [{"ph": "X", "ts": 1}, {"ph": "M"}]}')
    assert found.events == 2
    assert "m" in found.metadata


def test_the_list_alone_is_a_trace() -> None:
    data = json.dumps(small().events)
    assert (columns(data.encode()).events, columns(data.encode()).truncated) == (4, False)
    assert columns(b"\xef\xbb\xbf  " + data.encode()).events == 4


@pytest.mark.parametrize("data", [b'{"traceEvents": []}', b"[]", b'{"traceEvents" : [ ] , "a": 1}'])
def test_no_events_are_an_empty_trace(data: bytes) -> None:
    found = columns(data)
    assert (found.events, len(found), found.truncated) == (0, 0, False)


@pytest.mark.parametrize(
    "data",
    [b"", b"   ", b"hello", b"{}", b'{"traceEvents": null}', b"\x1f\x8b", b"12", b"\0" * 99, b"[1, 2, 3]"],
)
def test_what_is_no_trace_is_an_error_that_says_so(data: bytes) -> None:
    with pytest.raises(TraceError, match="no trace"):
        columns(data)


def test_keys_come_in_any_order() -> None:
    event = small().events[2]
    turned = dict(reversed(event.items()))
    data = json.dumps([turned, {"args": [{"a": 1}, {"b": 2}], "ph": "X", "ts": 5}, turned]).encode()
    found = columns(data)
    assert len(found.of(KERNEL)) == 2
    assert (found.events, found.damaged) == (3, 0)


def test_events_inside_of_which_lists_of_objects_look_like_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chisel_shared.traces.events.BLOCK_BYTES", 512)
    monkeypatch.setattr("chisel_shared.traces.source.BLOCK_BYTES", 512)
    nested = [{"name": "x", "ph": "X", "ts": 1}, {"name": "y"}, {"ph": "X", "ts": 2}]
    events = [{"ph": "X", "ts": i, "name": "real", "args": {"calls": nested * (i % 7)}} for i in range(300)]
    found = columns(json.dumps({"traceEvents": events}).encode())
    assert (found.events, found.ts.tolist(), found.damaged) == (300, [float(i) for i in range(300)], 0)


def test_phases_that_are_not_known_are_counted_and_left_out() -> None:
    events = [{"ph": "Q", "ts": 1}, {"ts": 2}, {"ph": "X", "ts": 3}, {"ph": 7, "ts": 1}, {"ph": "B", "ts": 4}]
    found = columns(json.dumps(events).encode())
    assert (found.events, found.ts.tolist()) == (5, [3.0])


@pytest.mark.parametrize(
    ("changes", "thread"),
    [
        ({"pid": "Spans", "tid": "PyTorch Profiler"}, Thread("Spans", "PyTorch Profiler")),
        ({"pid": 10**30, "tid": -5}, Thread(10**30, -5)),
        ({"pid": None, "tid": [1]}, Thread(None, "[1]")),
        ({"pid": 1.5}, Thread("1.5", 7)),
    ],
)
def test_processes_and_threads_are_whatever_they_are(changes: Any, thread: Thread) -> None:
    found = columns(kernel_line(**changes))
    assert (found.threads[found.thread[0]], found.damaged) == (thread, 0)


@pytest.mark.parametrize(
    ("args", "correlation"),
    [
        ({"correlation": 5}, 5),
        ({"correlation": "5"}, 5),
        ({"correlation": 2**80}, -1),
        ({"correlation": "five"}, -1),
        ({"correlation": None}, -1),
        ({}, -1),
        (None, -1),
        ([1, 2], -1),
        ("text", -1),
    ],
)
def test_arguments_that_are_not_as_expected_are_taken_as_missing(args: Any, correlation: int) -> None:
    found = columns(kernel_line(args=args))
    assert (found.correlation.tolist(), found.events, found.damaged) == ([correlation], 1, 0)


def test_one_odd_argument_takes_nothing_from_the_others() -> None:
    odd = {"correlation": 4, "grid": "big", "block": [32, "1", 1], "stream": 2**70, "device": -3}
    events = [
        {"ph": "X", "cat": "kernel", "ts": 1, "pid": 3, "args": args} for args in (odd, {"correlation": 9})
    ]
    found = columns(json.dumps(events).encode())
    assert found.correlation.tolist() == [4, 9]
    assert [found.shapes[shape] for shape in found.block] == [(32, 1, 1), ()]
    assert (found.shapes[found.grid[0]], found.stream[0], found.device.tolist()) == ((), -1, [3, 3])


@pytest.mark.parametrize(
    "token", [b"NaN", b"Infinity", b"-Infinity", b"1e400", b'"soon"', b"null", b"[]", b"1e99"]
)
def test_an_impossible_time_is_left_out_and_counted(token: bytes) -> None:
    data = b'[{"ph": "X", "ts": 1, "dur": 1}, {"ph": "X", "ts": %b}, {"ph": "X", "ts": 3}]' % token
    found = columns(data)
    assert (found.ts.tolist(), found.events, found.damaged) == ([1.0, 3.0], 3, 1)


def test_not_a_number_among_the_arguments_spoils_nothing() -> None:
    data = kernel_line(args={"correlation": 8, "memory bandwidth (GB/s)": math.inf, "occupancy": math.nan})
    found = columns(data)
    assert (found.correlation.tolist(), found.damaged) == ([8], 0)


def test_a_negative_duration_is_none() -> None:
    assert columns(kernel_line(dur=-4)).dur.tolist() == [0.0]


def test_names_that_are_no_text_become_text() -> None:
    names = ["ok", None, 5, "\ud800", "Ünï"]
    data = json.dumps([{"ph": "X", "ts": 1, "name": name} for name in names]).encode()
    assert [columns(data).name_of(i) for i in range(5)] == ["ok", "", "5", "?", "Ünï"]


def test_bytes_that_are_no_utf8_are_replaced() -> None:
    found = columns(b'[{"ph": "X", "ts": 1, "name": "caf\xe9"}, {"ph": "X", "ts": 2, "name": "ok"}]')
    assert [found.name_of(0), found.name_of(1)] == ["caf\N{REPLACEMENT CHARACTER}", "ok"]
    assert found.damaged == 0


def test_a_quote_in_a_name_is_mended_and_said() -> None:
    lines = [
        '{"traceEvents": [',
        '  {\n    "ph": "X", "cat": "cpu_op", "name": "say "hi"", "pid": 1, "tid": 1,\n    "ts": 1\n  },',
        '  {\n    "ph": "X", "cat": "cpu_op", "name": "ok", "pid": 1, "tid": 1,\n    "ts": 2, "dur": 1\n  }',
        "]}",
    ]
    found = columns("\n".join(lines).encode())
    assert [found.name_of(0), found.name_of(1)] == ['say "hi"', "ok"]
    assert (found.repaired, found.damaged, found.truncated) == (1, 0, False)


def test_an_event_that_cannot_be_mended_is_left_out_and_counted() -> None:
    found = columns(
        b'[{"ph": "X", "ts": 1}, {"ph": "X", "ts": 2 2}, {"ph": "X", "ts": 3}, 7, {"ph": "X", "ts": 4},]'
    )
    assert (found.ts.tolist(), found.damaged, found.truncated) == ([1.0, 3.0, 4.0], 2, False)


def test_a_file_that_is_mostly_damaged_is_no_trace() -> None:
    with pytest.raises(TraceError, match="not JSON"):
        columns(b"[" + b'{"ph": "X" "ts": 2}, ' * 1002 + b"]")


def test_collectives_say_what_they_move() -> None:
    trace = Trace()
    trace.kernel(0, 1, launch=0)
    told: dict[str, Any] = {
        "Collective name": "allreduce",
        "In msg nelems": 1024,
        "Out msg nelems": 1024,
        "dtype": "BFloat16",
    }
    told |= {"Group size": 2, "Process Group Name": "0", "Process Group Description": "default_pg"}
    told["Process Group Ranks"] = "[0, 1]"
    trace.kernel(5, 9, launch=2, name="ncclDevKernel_AllReduce", **told)
    found = trace.columns()
    event = int(found.of(KERNEL)[1])
    assert found.collectives == {
        event: Collective("allreduce", 1024, 1024, "BFloat16", 2, "0", "default_pg", "[0, 1]")
    }


def test_ranks_of_a_group_may_be_a_list() -> None:
    found = columns(kernel_line(args={"Collective name": "x", "Process Group Ranks": [0, 1]}))
    assert found.collectives[0].ranks == "[0, 1]"


def test_threads_have_the_names_that_the_file_gives_them() -> None:
    name = {"ph": "M", "name": "thread_name", "pid": 1, "tid": 1, "args": {"name": "main"}}
    data = json.dumps([name, {"ph": "X", "ts": 1, "pid": 1, "tid": 1}]).encode()
    assert columns(data).threads == [Thread(1, 1, "main")]


def test_limits_are_the_callers() -> None:
    data = small().data()
    with pytest.raises(TraceError, match="more than 3 events"):
        read(io.BytesIO(data), max_events=3)
    assert read(io.BytesIO(data), max_events=4, max_bytes=len(data)).events == 4
    for packed in (data, gzip.compress(data)):
        with pytest.raises(TraceError, match="larger than 300 bytes"):
            read(io.BytesIO(packed), max_bytes=300)


def test_little_that_unpacks_to_much_stops_at_the_limit() -> None:
    bomb = gzip.compress(b"[" + b" " * (64 << 20))
    with pytest.raises(TraceError, match="larger than"):
        read(io.BytesIO(bomb), max_bytes=16 << 20)


class Trickle:
    """A file that gives what it likes."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, 7))


def test_a_file_object_may_give_less_than_it_is_asked_for() -> None:
    assert read(Trickle(small().data())).events == 4
    assert read(Trickle(small().gz())).events == 4


def test_deep_nesting_is_left_out_not_a_crash() -> None:
    deep = b'{"ph": "X", "ts": 2, "args": ' + b"[" * 200_000 + b"}"
    found = columns(b'[{"ph": "X", "ts": 1}, ' + deep + b', {"ph": "X", "ts": 3}]')
    assert found.ts.tolist() == [1.0, 3.0]


# Files that end too early


def test_a_cut_gzip_stream_gives_what_came_before() -> None:
    events = [{"ph": "X", "ts": i, "name": f"n{i * 7919 % 1000}"} for i in range(2000)]
    whole = gzip.compress(json.dumps({"traceEvents": events}).encode())
    found = columns(whole[: len(whole) // 2])
    assert found.truncated
    assert 0 < found.events < 2000
    assert found.ts.tolist() == [float(i) for i in range(found.events)]


def test_a_gzip_stream_without_its_checksum_is_whole_but_said_to_be_cut() -> None:
    found = columns(small().gz()[:-8])
    assert (found.events, found.truncated) == (4, True)


def test_a_cut_in_the_metadata_after_the_events_loses_only_it() -> None:
    data = b'{"a": 1, "traceEvents": [{"ph": "X", "ts": 1}], "traceName": "/tmp/x.json", "b": 2}'
    for cut in range(data.index(b"],") + 1, len(data)):
        found = columns(data[:cut])
        assert (found.events, found.truncated, found.metadata) == (1, True, {"a": 1})


def test_columns_do_not_depend_on_where_blocks_end(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = small().columns()
    for size in (16, 40, 100, 333):
        monkeypatch.setattr("chisel_shared.traces.events.BLOCK_BYTES", size)
        monkeypatch.setattr(source, "BLOCK_BYTES", size)
        found = small().columns()
        assert np.array_equal(found.ts, whole.ts)
        assert (found.names, found.metadata, found.truncated) == (whole.names, whole.metadata, False)
