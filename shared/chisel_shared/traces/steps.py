"""The marked stretches of a trace: the recorded call itself and the steps in it."""

import re
from typing import NamedTuple

import numpy as np

from chisel_shared.traces import intervals, timeline
from chisel_shared.traces.columns import ANNOTATION, CPU_OP, Columns
from chisel_shared.traces.gpu import GpuEvents
from chisel_shared.traces.report import Step

CALL = "chisel::"
"""Marks the recorded call: an annotation `chisel::NAME`."""
STEP = "ProfilerStep#"


class Call(NamedTuple):
    start: float
    end: float
    us: float
    thread: int
    """-1: unknown."""


def call(columns: Columns) -> Call:
    """The recorded call, the longest of several. Where none is marked, the whole window, on the thread on
    which most operators ran."""
    rows = columns.of(ANNOTATION, CPU_OP)
    rows = rows[columns.names_that(lambda name: name.startswith(CALL))[columns.name[rows]]]
    if len(rows):
        row = int(rows[columns.dur[rows].argmax()])
        start, end, us = float(columns.ts[row]), float(columns.end[row]), float(columns.dur[row])
        return Call(start, end, us, int(columns.thread[row]))
    ops = columns.thread[columns.of(CPU_OP)]
    thread = int(np.bincount(ops).argmax()) if len(ops) else -1
    return Call(columns.start_us, columns.end_us, columns.end_us - columns.start_us, thread)


def steps(columns: Columns, gpu: GpuEvents) -> tuple[Step, ...]:
    """In the order of time. `busy_us` is what lies in the step of the time in which a GPU ran something,
    summed over devices."""
    rows = columns.of(ANNOTATION)
    rows = rows[columns.names_that(re.compile(rf"{STEP}\d+").fullmatch)[columns.name[rows]]]
    rows = rows[np.argsort(columns.ts[rows], kind="stable")]
    known = gpu.known
    busy = np.zeros(len(rows))
    for device in np.unique(known.device).tolist():
        within = timeline.busy(known.where(known.device == device))
        busy += intervals.covered(within, columns.ts[rows], columns.end[rows])
    return tuple(
        Step(
            name=columns.name_of(row),
            start_us=float(columns.ts[row]) - columns.start_us,
            wall_us=float(columns.dur[row]),
            busy_us=float(us),
        )
        for row, us in zip(rows.tolist(), busy.tolist(), strict=True)
    )
