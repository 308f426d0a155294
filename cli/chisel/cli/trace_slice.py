"""`chisel trace slice`, and the other forms in which a trace is saved here."""

import os
from pathlib import Path

from chisel.cli import wording
from chisel.cli.render import Screen
from chisel.cli.trace_desk import Desk, columns_of, parse, reading, statuses
from chisel.cli.trace_sources import NotWhole
from chisel.cli.values import UsageError
from chisel_shared.traces import words

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is
if TYPE_CHECKING:
    from chisel.cli.trace_desk import File

_UNITS_US = {"us": 1.0, "µs": 1.0, "ms": 1e3, "s": 1e6}


def slice_trace(
    trace: str, steps: str | None, start: str | None, end: str | None, drop: str | None, output: str | None,
    json: bool,
) -> int:  # fmt: skip
    wanted = None if steps is None else step_range(steps)
    start_us, end_us = (None if text is None else moment(text) for text in (start, end))
    if start_us is not None and end_us is not None and start_us >= end_us:
        raise UsageError(f"--start {start} is not before --end {end}")
    dropped = [name.strip() for name in (drop or "").split(",") if name.strip()]
    if not dropped and wanted is None and start_us is None and end_us is None:
        raise UsageError("a slice of what? --steps 2-3, --start 10ms --end 20ms, or --drop python,flows")
    screen = Screen()
    with statuses(), Desk(screen) as desk:
        file = desk.one_file(parse(trace))
        target = Path(output or f"{words.stem(file.name)}.slice.json.gz")
        if target.exists() and target.samefile(file.path):
            raise UsageError(f"{target} is the trace itself: name another file with --output")
        if not target.parent.is_dir():
            raise UsageError(f"there is no folder {target.parent} to save {target.name} in")
        with reading(file):
            from chisel_shared.traces.columns import CATEGORIES
            from chisel_shared.traces.slice import ALIASES, SliceError, write_slice

            unknown = sorted(set(dropped) - {*ALIASES, *CATEGORIES})
            if unknown:
                raise UsageError(f"--drop takes {', '.join(ALIASES)} or a category, not {unknown[0]}")
            try:
                done = write_slice(
                    Path(file.path), target, steps=wanted, start_us=start_us, end_us=end_us, drop=dropped
                )
            except SliceError as error:
                raise UsageError(str(error)) from error
    if json:
        size = target.stat().st_size
        screen.json({"saved_as": str(target), "events": done.events, "of": done.of, "size_bytes": size})
    else:
        screen.result(str(target))
        screen.say(f"{done.events:,} of {done.of:,} events, {wording.size(target.stat().st_size)}")
    if done.cut:
        screen.error(f"{file.name} is cut off: the slice has whole events before the cut")
        return NotWhole.exit_code
    return 0


def save_as(file: "File", folder: str, *, folded: bool) -> str:
    """A trace as a flame graph in `folder`; the path of the file."""
    columns = columns_of(file)
    from chisel_shared.traces import convert

    stem = words.stem(file.name)
    name = f"{stem}.folded.txt" if folded else f"{stem}.speedscope.json"
    data = convert.folded(columns) if folded else convert.speedscope(columns, name=stem)
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, name)
    aside = os.path.join(folder, f".{name}.{os.getpid()}.tmp")
    try:
        Path(aside).write_bytes(data)
        os.replace(aside, path)
    finally:
        Path(aside).unlink(missing_ok=True)
    return path


def step_range(text: str) -> tuple[int, int]:
    """`2-3` and `2`, as the first and the last."""
    first, dash, last = text.partition("-")
    last = last if dash else first
    if not (first.isascii() and first.isdecimal() and last.isascii() and last.isdecimal()):
        raise UsageError(f"--steps takes numbers such as 2 or 2-3, not {text!r}")
    if int(first) > int(last):
        raise UsageError(f"--steps {text}: the first comes after the last")
    return int(first), int(last)


def moment(text: str) -> float:
    """µs of `10ms`, `1.5s` or `300us`, from the beginning of the recording."""
    number = text.strip()
    for unit in sorted(_UNITS_US, key=len, reverse=True):
        if number.endswith(unit):
            try:
                value = float(number.removesuffix(unit)) * _UNITS_US[unit]
            except ValueError:
                break
            if 0 <= value < 1e15:
                return value
            break
    raise UsageError(f"a moment of a trace is written like 10ms, 1.5s or 300us, not {text!r}")
