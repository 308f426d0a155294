"""A part of a trace as a trace of its own: some steps, a stretch of time, without some categories.

What a step launched belongs to it, also where the GPU ran it later. CPU events that reach beyond the stretch
are cut at its ends, so that callers stay and no time is counted that is not in the slice. Everything else is
written as it was.
"""

import gzip
import json
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec
import numpy as np

from chisel_shared.traces.columns import ANNOTATION, CATEGORIES, DRIVER, MEMSET, RUNTIME, Columns
from chisel_shared.traces.events import NO_TIME, raw
from chisel_shared.traces.lenient import UNREADABLE, decoded, encoded, number
from chisel_shared.traces.read import MAX_BYTES, read
from chisel_shared.traces.source import Blocks

ALIASES = {"python": "python_function", "flows": "ac2g", "memory": "cpu_instant_event"}
"""What may be said for a category in `drop`."""
_FLOWS = {"s", "t", "f"}
_GPU = set(CATEGORIES[: MEMSET + 1])
_STEP = re.compile(r"ProfilerStep#(\d+)")
_LEVEL = 1
"""gzip's fastest: traces shrink to a tenth with it."""


class SliceError(ValueError):
    """What was asked for is not in the trace. Says what is."""


@dataclass(frozen=True)
class Sliced:
    events: int
    """Written."""
    of: int
    """In the whole trace."""
    cut: bool
    """The trace ends in the middle: this is of the whole events before that."""


@dataclass(frozen=True)
class Stretch:
    """Of time as the file has it, µs; and which launches are in it."""

    start: float
    end: float
    launched: frozenset[int] | None
    """Correlations of the calls that began in it; None for a trace without calls."""


class _Head(msgspec.Struct, gc=False):
    """What decides about an entry, whatever its types are."""

    name: Any = None
    """Looked at, so that it is known to be text."""
    ph: Any = ""
    cat: Any = ""
    ts: Any = None
    dur: Any = None
    id: Any = None
    args: Any = None


_HEAD = msgspec.json.Decoder(_Head)


def write_slice(
    source: Path,
    target: Path,
    *,
    steps: tuple[int, int] | None = None,
    start_us: float | None = None,
    end_us: float | None = None,
    drop: Collection[str] = (),
) -> Sliced:
    """The slice of the file `source` as the file `target`, whole or not at all; gzip if its name ends so.

    `steps` are numbers of `ProfilerStep#N`, both included. `start_us` and `end_us` count from the beginning
    of the window, as the gaps of a summary do. `drop` has categories or `ALIASES`.
    `SliceError` when the trace has no such step, or `target` is there and no plain file: it would be lost,
    and `/dev/null` with it. `TraceError` and `OSError` as from `read`.
    """
    if target.exists() and not target.is_file():
        raise SliceError(f"{target} is no plain file, so no trace can be saved as it.")
    stretch = None
    if steps is not None or start_us is not None or end_us is not None:
        stretch = _stretch(read(source), steps, start_us, end_us)
    dropped = {ALIASES.get(name, name) for name in drop}
    aside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with open(source, "rb") as file, open(aside, "wb") as plain:
            if target.name.endswith(".gz"):
                with gzip.GzipFile("", "wb", _LEVEL, plain, mtime=0) as packed:
                    found = _write(file, cast("BinaryIO", packed), stretch, dropped)
            else:
                found = _write(file, plain, stretch, dropped)
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)
    return found


def _stretch(
    columns: Columns, steps: tuple[int, int] | None, start_us: float | None, end_us: float | None
) -> Stretch:
    start = columns.start_us + (start_us or 0.0)
    end = columns.start_us + end_us if end_us is not None else float("inf")
    if steps is not None:
        rows = columns.of(ANNOTATION)
        marks = {
            int(mark[1]): row for row in rows.tolist() if (mark := _STEP.fullmatch(columns.name_of(row)))
        }
        wanted = [row for step, row in marks.items() if steps[0] <= step <= steps[1]]
        if not wanted:
            has = f"it has {min(marks)} to {max(marks)}" if marks else "it marks no steps"
            raise SliceError(f"The trace has no step {steps[0]} to {steps[1]}: {has}.")
        start = max(start, float(columns.ts[wanted].min()))
        end = min(end, float(columns.end[wanted].max()))
    calls = columns.of(RUNTIME, DRIVER)
    if not len(calls):
        return Stretch(start, end, None)
    inside = (columns.ts[calls] >= start) & (columns.ts[calls] < end)
    launched = columns.correlation[calls[inside]]
    return Stretch(start, end, frozenset(np.unique(launched[launched >= 0]).tolist()))


def _write(file: BinaryIO, target: BinaryIO, stretch: Stretch | None, dropped: Collection[str]) -> Sliced:
    entries = raw(Blocks(file, limit=MAX_BYTES))
    count = kept = 0
    target.write(b'{"traceEvents": [\n')
    for some in entries:
        for entry in some:
            count += 1
            for data in _kept(entry, stretch, dropped):
                target.write(b",\n" if kept else b"")
                target.write(data)
                kept += 1
    target.write(b"\n]")
    for key, value in entries.metadata.items():
        target.write(b",\n" + json.dumps(key).encode() + b": " + encoded(value))
    target.write(b"}\n")
    return Sliced(kept, count, entries.truncated)


def _kept(entry: msgspec.Raw, stretch: Stretch | None, dropped: Collection[str]) -> Iterator[bytes]:
    """The entry, the part of it that is in the stretch, or nothing."""
    data = bytes(entry)
    try:
        head = _HEAD.decode(data)
    except UNREADABLE:
        try:
            data = encoded(decoded(data))
            head = _HEAD.decode(data)
        except UNREADABLE:
            return  # no event at all
    if _is(head.cat, dropped) or (_is(head.ph, _FLOWS) and "ac2g" in dropped):
        return
    if stretch is None or head.ph == "M":
        yield data
        return
    start = number(head.ts, NO_TIME)
    end = start + max(number(head.dur, 0.0), 0.0) if head.ph == "X" else start
    launched = _launched(head)
    if launched is not None and stretch.launched is not None:
        if launched in stretch.launched:
            yield data
    elif start < stretch.end and (end > stretch.start or start == stretch.start):
        whole = head.ph != "X" or (stretch.start <= start and end <= stretch.end)
        yield data if whole else _clipped(data, max(start, stretch.start), min(end, stretch.end))


def _launched(head: _Head) -> int | None:
    """The correlation by which an entry belongs to a call; None: it belongs where its time is."""
    if _is(head.ph, _FLOWS) and head.cat == "ac2g":
        known = head.id
    elif head.ph == "X" and _is(head.cat, _GPU) and isinstance(head.args, dict):
        known = head.args.get("correlation")
    else:
        return None
    return known if isinstance(known, int) and known >= 0 else None


def _is(value: Any, one_of: Collection[str]) -> bool:
    return isinstance(value, str) and value in one_of


def _clipped(data: bytes, start: float, end: float) -> bytes:
    return encoded(decoded(data) | {"ts": round(start, 3), "dur": round(end - start, 3)})
