"""A trace file into `Columns`: one pass, block by block, with bounded memory."""

import contextlib
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec
import numpy as np

from chisel_shared.traces.columns import (
    CATEGORIES,
    DRIVER,
    KERNEL,
    MEMSET,
    Collective,
    Columns,
    MemoryEvents,
    Thread,
)
from chisel_shared.traces.events import Event, Events, parsed
from chisel_shared.traces.lenient import number
from chisel_shared.traces.source import Blocks, Readable, TraceError, Where

__all__ = ["MAX_BYTES", "MAX_EVENTS", "TraceError", "read"]

MAX_EVENTS = 20_000_000
MAX_BYTES = 16 << 30
"""Of the plain file. An event takes about 90 bytes of memory once it is read."""

_INT64 = range(-(1 << 63), 1 << 63)
_MAX_BYTES = 1 << 53
"""No machine has so many; sums of a few of them stay numbers that every JSON reader takes."""
_MAX_TIME_US = 1e17
"""Three thousand years: beyond it float64 microseconds do not tell events apart."""


class _LaunchArgs(msgspec.Struct, gc=False):
    """Of a GPU event or the call that launched it."""

    correlation: int = -1
    device: int = -1
    stream: int = -1
    grid: tuple[int, ...] = ()
    block: tuple[int, ...] = ()
    collective: str = msgspec.field(default="", name="Collective name")
    in_elements: int = msgspec.field(default=0, name="In msg nelems")
    out_elements: int = msgspec.field(default=0, name="Out msg nelems")
    dtype: str = ""
    group_size: int = msgspec.field(default=0, name="Group size")
    group: str = msgspec.field(default="", name="Process Group Name")
    description: str = msgspec.field(default="", name="Process Group Description")
    ranks: str = msgspec.field(default="", name="Process Group Ranks")


class _MemoryArgs(msgspec.Struct, gc=False):
    bytes: int = msgspec.field(default=0, name="Bytes")
    allocated: int = msgspec.field(default=0, name="Total Allocated")
    reserved: int = msgspec.field(default=0, name="Total Reserved")
    address: int = msgspec.field(default=-1, name="Addr")
    kind: int = msgspec.field(default=0, name="Device Type")
    device: int = msgspec.field(default=-1, name="Device Id")


class _NameArgs(msgspec.Struct, gc=False):
    name: str = ""


_Args = TypeVar("_Args", bound=msgspec.Struct)


class _ArgsDecoder:
    """The `args` of many events in one go; one that is not as expected is read as far as it is."""

    def __init__(self, kind: type[_Args]) -> None:
        self._kind = kind
        self._many = msgspec.json.Decoder(list[kind], strict=False)  # type: ignore[valid-type]

    def decode(self, raw: list[msgspec.Raw]) -> list[Any]:
        try:
            return self._many.decode(b"[" + b",".join(raw) + b"]")
        except (ValueError, RecursionError):
            return [self._one(args) for args in raw]

    def _one(self, raw: msgspec.Raw) -> Any:
        fields: dict[str, Any] = {}
        try:
            value = json.loads(bytes(raw).decode(errors="replace"), strict=False)
        except (ValueError, RecursionError):
            value = None
        for field in msgspec.structs.fields(self._kind) if isinstance(value, dict) else ():
            if field.encode_name in value:
                with contextlib.suppress(ValueError, OverflowError):
                    fields[field.name] = _as(field.type, value[field.encode_name])
        return self._kind(**fields)


def _as(kind: Any, value: object) -> object:
    if kind is str:
        return (value if isinstance(value, str) else json.dumps(value)).encode(errors="replace").decode()
    if kind is int:
        return int(number(value, float("nan"))) if not isinstance(value, int) else value
    if not isinstance(value, list):
        raise ValueError("not a shape")
    return tuple(int(number(one, float("nan"))) for one in value)


_LAUNCH = _ArgsDecoder(_LaunchArgs)
_MEMORY = _ArgsDecoder(_MemoryArgs)
_NAME = _ArgsDecoder(_NameArgs)


def read(trace: Where, *, max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES) -> Columns:
    """The trace in a file or an open binary file, plain or gzip, also cut or with broken names.

    `TraceError` (a `ValueError`) for what is no trace or is beyond the limits, `OSError` as it comes. Nothing
    else is raised, whatever the bytes are.
    """
    if isinstance(trace, str | Path):
        with open(trace, "rb", buffering=0) as file:  # whole blocks are read: a buffer would copy them
            return _read(file, max_events, max_bytes)
    return _read(trace, max_events, max_bytes)


def _read(file: Readable | BinaryIO, max_events: int, max_bytes: int) -> Columns:
    events = parsed(Blocks(file, limit=max_bytes))
    builder = _Builder()
    for some in events:
        builder.add(some)
        if builder.events > max_events:
            raise TraceError(f"The trace has more than {max_events:,} events, the most that are read.")
    if events.damaged and not builder.events:
        raise TraceError("The file is no trace: nothing in its list is an event.")
    return builder.columns(events)


class _Interned(defaultdict[Any, int]):
    """A number for each value, in the order of their first appearance. Looking up is inserting."""

    def __init__(self, known: Iterable[Any] = ()) -> None:
        super().__init__()
        self.default_factory = self.__len__
        for value in known:
            self[value]


class _Builder:
    def __init__(self) -> None:
        self.events = 0
        self._damaged = 0
        self._names = _Interned()
        self._categories = _Interned(CATEGORIES)
        self._threads = _Interned()
        self._thread_names: dict[int, str] = {}
        self._shapes = _Interned([()])
        self._collectives: dict[int, Collective] = {}
        self._rows = 0
        self._parts: dict[str, list[Any]] = defaultdict(list)
        self._memory: dict[str, list[Any]] = defaultdict(list)

    def add(self, events: list[Event]) -> None:
        self.events += len(events)
        complete = [event for event in events if event.ph == "X"]
        if complete:
            self._add_complete(complete)
        if len(complete) < len(events):
            others = [event for event in events if event.ph in ("i", "I", "M")]
            self._add_memory([e for e in others if e.name == "[memory]" and e.ph != "M"])
            self._add_thread_names([e for e in others if e.name == "thread_name" and e.ph == "M"])

    def _add_complete(self, events: list[Event]) -> None:
        # A list for each field is the fastest way out of so many objects.
        count = len(events)
        pids = [event.pid for event in events]
        threads = zip(pids, [event.tid for event in events], strict=True)
        columns = {
            "name": _column(map(self._names.__getitem__, [event.name for event in events]), np.int32, count),
            "category": _column(
                map(self._categories.__getitem__, [event.cat for event in events]), np.int32, count
            ),
            "ts": np.array([event.ts for event in events], np.float64),
            "dur": np.array([event.dur for event in events], np.float64),
            "thread": _column(map(self._threads.__getitem__, threads), np.int32, count),
            "device": np.full(count, -1, np.int32),
            "stream": np.full(count, -1, np.int64),
            "correlation": np.full(count, -1, np.int64),
            "grid": np.zeros(count, np.int32),
            "block": np.zeros(count, np.int32),
        }
        # NaN fails every comparison.
        sound = (np.abs(columns["ts"]) < _MAX_TIME_US) & (columns["dur"] < _MAX_TIME_US)
        sound &= columns["dur"] > -_MAX_TIME_US
        np.maximum(columns["dur"], 0.0, out=columns["dur"])
        self._add_launches(columns, events, pids, sound)
        if not sound.all():
            self._damaged += count - int(sound.sum())
            columns = {name: column[sound] for name, column in columns.items()}
        for name, column in columns.items():
            self._parts[name].append(column)
        self._rows += len(columns["ts"])

    def _add_launches(
        self, columns: dict[str, Any], events: list[Event], pids: list[Any], sound: Any
    ) -> None:
        """What GPU events and runtime calls say in their `args`; the others' are never looked at."""
        rows = np.flatnonzero(columns["category"] <= DRIVER)
        if not len(rows):
            return
        where = rows.tolist()
        found = _LAUNCH.decode([events[row].args for row in where])
        columns["correlation"][rows] = _numbers(one.correlation for one in found)
        gpu = columns["category"][rows] <= MEMSET
        rows, found = rows[gpu], [one for one, is_gpu in zip(found, gpu.tolist(), strict=True) if is_gpu]
        devices = [one.device if one.device >= 0 else pids[row] for one, row in zip(found, rows, strict=True)]
        columns["device"][rows] = [
            device if isinstance(device, int) and 0 <= device < 1 << 20 else 0 for device in devices
        ]
        columns["stream"][rows] = _numbers(one.stream for one in found)
        columns["grid"][rows] = _column((self._shapes[one.grid] for one in found), np.int32, len(found))
        columns["block"][rows] = _column((self._shapes[one.block] for one in found), np.int32, len(found))
        kept = np.cumsum(sound) - 1 + self._rows
        for row, one in zip(rows.tolist(), found, strict=True):
            if one.collective and sound[row] and columns["category"][row] == KERNEL:
                self._collectives[int(kept[row])] = Collective(
                    name=one.collective,
                    in_elements=one.in_elements,
                    out_elements=one.out_elements,
                    dtype=one.dtype,
                    group_size=one.group_size,
                    group=one.group,
                    description=one.description,
                    ranks=one.ranks,
                )

    def _add_memory(self, events: list[Event]) -> None:
        if not events:
            return
        found = _MEMORY.decode([event.args for event in events])
        parts = self._memory
        parts["ts"].append(np.array([event.ts for event in events], np.float64))
        parts["bytes"].append(np.clip(_numbers(one.bytes for one in found), -_MAX_BYTES, _MAX_BYTES))
        parts["allocated"].append(np.clip(_numbers(one.allocated for one in found), -_MAX_BYTES, _MAX_BYTES))
        parts["reserved"].append(np.clip(_numbers(one.reserved for one in found), -_MAX_BYTES, _MAX_BYTES))
        parts["address"].append(_numbers(one.address for one in found))
        parts["gpu"].append(np.array([one.kind != 0 for one in found], np.bool_))
        parts["device"].append(_numbers(one.device for one in found))
        parts["thread"].append(np.array([self._threads[event.pid, event.tid] for event in events], np.int64))

    def _add_thread_names(self, events: list[Event]) -> None:
        for event, args in zip(events, _NAME.decode([event.args for event in events]), strict=True):
            self._thread_names[self._threads[event.pid, event.tid]] = args.name

    def columns(self, source: Events[Event]) -> Columns:
        """What has been added, as one. The parts are given up on the way."""
        memory = {name: _joined(self._memory, name, kind) for name, kind in _MEMORY_KINDS.items()}
        timed = np.abs(memory["ts"]) < _MAX_TIME_US
        self._damaged += len(timed) - int(timed.sum())
        return Columns(
            events=self.events,
            names=list(self._names),
            categories=list(self._categories),
            threads=[
                Thread(pid, tid, self._thread_names.get(number, ""))
                for number, (pid, tid) in enumerate(self._threads)
            ],
            shapes=list(self._shapes),
            **{name: _joined(self._parts, name, kind) for name, kind in _KINDS.items()},
            collectives=self._collectives,
            memory=MemoryEvents(**{name: column[timed] for name, column in memory.items()}),
            metadata=source.metadata,
            truncated=source.truncated,
            repaired=source.repaired,
            damaged=source.damaged + self._damaged,
        )


_KINDS: dict[str, Any] = {
    "name": np.int32,
    "category": np.int32,
    "ts": np.float64,
    "dur": np.float64,
    "thread": np.int32,
    "device": np.int32,
    "stream": np.int64,
    "correlation": np.int64,
    "grid": np.int32,
    "block": np.int32,
}
_MEMORY_KINDS: dict[str, Any] = {
    "ts": np.float64,
    "bytes": np.int64,
    "allocated": np.int64,
    "reserved": np.int64,
    "address": np.int64,
    "gpu": np.bool_,
    "device": np.int64,
    "thread": np.int64,
}


def _column(values: Iterable[int], kind: Any, count: int) -> Any:
    return np.fromiter(values, kind, count)


def _numbers(values: Iterable[int]) -> Any:
    """As int64; -1 for what does not fit."""
    found = list(values)
    try:
        return np.array(found, np.int64)
    except OverflowError:
        return np.array([value if value in _INT64 else -1 for value in found], np.int64)


def _joined(parts: dict[str, list[Any]], name: str, kind: Any) -> Any:
    found = parts.pop(name, [])
    return np.concatenate(found) if found else np.zeros(0, kind)
