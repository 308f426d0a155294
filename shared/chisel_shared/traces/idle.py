"""Why GPUs had nothing to do: the gaps by cause, and what the CPU was in meanwhile."""

from dataclasses import dataclass

import numpy as np

from chisel_shared.traces import frames, intervals
from chisel_shared.traces.columns import ANNOTATION, CPU_OP, DRIVER, PYTHON, RUNTIME, Columns, Ints
from chisel_shared.traces.gaps import CAUSES, HOST, LAUNCH, UNKNOWN, Gaps, syncs
from chisel_shared.traces.nesting import Nesting, nest_rows
from chisel_shared.traces.report import Frame, Gap, Idle
from chisel_shared.traces.waits import wait

MOST_GAPS = 10
MOST_FRAMES = 10
MOST_CALLERS = 5
_MARKS = ("ProfilerStep#", "chisel::")
"""Annotations that enclose everything say nothing."""


@dataclass(frozen=True)
class _Stack:
    """What enclosed more than half of a gap on a thread, outermost first."""

    python: list[str]
    calls: list[str]


def idle(columns: Columns, gaps: Gaps) -> Idle:
    largest = np.argsort(-gaps.us, kind="stable")[:MOST_GAPS]
    return Idle(
        host_us=gaps.total(HOST),
        launch_us=gaps.total(LAUNCH),
        unknown_us=gaps.total(UNKNOWN),
        gaps=tuple(_explained(columns, gaps.where(largest))),
        frames=innermost(columns, gaps.where(gaps.cause == HOST)),
    )


# Single gaps


def _explained(columns: Columns, gaps: Gaps) -> list[Gap]:
    waits = syncs(columns, gaps)
    stacks = _stacks(columns, gaps)
    found = []
    for place, stack in enumerate(stacks):
        us = float(gaps.us[place])
        is_host = gaps.cause[place] == HOST
        frame, callers = _frame(stack, us) if is_host else (None, ())
        found.append(
            Gap(
                device=int(gaps.device[place]),
                start_us=float(gaps.start[place]) - columns.start_us,
                us=us,
                cause=CAUSES[gaps.cause[place]],
                frame=frame,
                callers=callers,
                waits_in=_waits_in(columns, stack, int(waits[place])) if is_host else "",
            )
        )
    return found


def _stacks(columns: Columns, gaps: Gaps) -> list[_Stack]:
    if not len(gaps):
        return []
    rows = columns.of(PYTHON, CPU_OP, ANNOTATION, RUNTIME, DRIVER)
    rows = rows[columns.dur[rows] > float(gaps.us.min()) / 2]
    is_python = columns.category[rows] == PYTHON
    python, calls = rows[is_python], rows[~is_python]
    threads = _python_threads(columns, gaps.thread)
    stacks = []
    for place in range(len(gaps)):
        start, end = float(gaps.start[place]), float(gaps.end[place])
        stacks.append(
            _Stack(
                _around(columns, python, int(threads[place]), start, end),
                _around(columns, calls, int(gaps.thread[place]), start, end),
            )
        )
    return stacks


def _around(columns: Columns, rows: Ints, thread: int, start: float, end: float) -> list[str]:
    # Two that do not enclose each other cannot both cover more than half, so these are one stack.
    overlap = np.minimum(columns.end[rows], end) - np.maximum(columns.ts[rows], start)
    rows = rows[(overlap > (end - start) / 2) & (columns.thread[rows] == thread)]
    rows = rows[np.lexsort((-columns.dur[rows], columns.ts[rows]))]
    return [columns.name_of(row) for row in rows.tolist()]


def _frame(stack: _Stack, us: float) -> tuple[Frame | None, tuple[str, ...]]:
    shown = [name for name in reversed(stack.python) if frames.is_shown(name)]
    if not shown:
        shown = [name for name in reversed(stack.calls) if not name.startswith(_MARKS)]
    if not shown:
        return None, ()
    return _as_frame(shown[0], us), tuple(shown[1 : 1 + MOST_CALLERS])


def _as_frame(name: str, us: float) -> Frame:
    place = frames.place(name)
    return Frame(name, "", 0, us) if place is None else Frame(place.function, place.file, place.line, us)


def _waits_in(columns: Columns, stack: _Stack, sync: int) -> str:
    for name in (*reversed(stack.calls), *reversed(stack.python)):
        if wait(name) is not None:
            return name
    return columns.name_of(sync) if sync >= 0 else ""


def _python_threads(columns: Columns, thread: Ints) -> Ints:
    """The thread whose Python frames tell what a thread waited for: its own where it has any, else the one
    with the most, since the engine's threads run no Python and some traces put frames on no thread."""
    python = columns.thread[columns.of(PYTHON)]
    if not len(python):
        return thread
    counts = np.bincount(python, minlength=len(columns.threads))
    own = (thread >= 0) & (counts[thread] > 0)
    return np.where(own, thread, int(counts.argmax()))


# All gaps together


def innermost(columns: Columns, gaps: Gaps) -> tuple[Frame, ...]:
    """How long each shown frame, or each call where no Python was recorded, was the innermost one."""
    python = columns.of(PYTHON)
    rows = python if len(python) else columns.of(CPU_OP, ANNOTATION, RUNTIME, DRIVER)
    threads = _python_threads(columns, gaps.thread) if len(python) else gaps.thread
    us = np.zeros(len(columns.names))
    for device in np.unique(gaps.device).tolist():
        for thread in np.unique(threads).tolist():
            some = (gaps.device == device) & (threads == thread)
            within = intervals.Intervals(gaps.start[some], gaps.end[some])
            mine = rows[columns.thread[rows] == thread]
            mine = mine[intervals.covered(within, columns.ts[mine], columns.end[mine]) > 0]
            nesting = nest_rows(columns, mine)
            own = nesting.own(intervals.covered(within, nesting.start, nesting.end))
            anchor = _anchors(columns, nesting, python=bool(len(python)))
            known = anchor >= 0
            name = columns.name[nesting.row[anchor[known]]]
            us += np.bincount(name, weights=np.maximum(own[known], 0.0), minlength=len(us))
    most = np.argsort(-us, kind="stable")[:MOST_FRAMES]
    return tuple(_as_frame(columns.names[name], float(us[name])) for name in most.tolist() if us[name] > 0)


def _anchors(columns: Columns, nesting: Nesting, *, python: bool) -> Ints:
    """For each event the innermost one around it, itself included, that is shown; -1: none."""
    if python:
        shown = columns.names_that(frames.is_shown)
    else:
        shown = columns.names_that(lambda name: not name.startswith(_MARKS))
    name = columns.name[nesting.row]
    return nesting.climb(np.arange(len(nesting)), lambda place, asked: ~shown[name[place]])
