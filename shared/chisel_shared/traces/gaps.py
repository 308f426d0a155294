"""The stretches in which a device did nothing, and whether the CPU or the launch was what it waited for."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from chisel_shared.traces import intervals, timeline
from chisel_shared.traces.columns import CPU_OP, DRIVER, RUNTIME, Columns, Floats, Ints, Mask
from chisel_shared.traces.gpu import GpuEvents
from chisel_shared.traces.nesting import nest_rows
from chisel_shared.traces.waits import SYNC, wait

CAUSES = ("host", "launch", "unknown")
HOST, LAUNCH, UNKNOWN = range(len(CAUSES))


@dataclass(frozen=True)
class Gaps:
    """Parallel arrays, by device and time."""

    device: NDArray[np.int64]
    start: Floats
    end: Floats
    cause: NDArray[np.int8]
    launch: Ints
    """The row of the call that launched what ended the gap; -1: none."""
    thread: Ints
    """Of that call; -1: none."""

    def __len__(self) -> int:
        return len(self.start)

    @cached_property
    def us(self) -> Floats:
        return self.end - self.start

    def total(self, cause: int) -> float:
        return float(sum(self.us[self.cause == cause].tolist()))

    def where(self, mask: Mask | Ints) -> "Gaps":
        return Gaps(*(getattr(self, name)[mask] for name in self.__dataclass_fields__))


def find_gaps(columns: Columns, gpu: GpuEvents) -> Gaps:
    """All gaps between the first and the last event of each device, orphans left out.

    The event that ends a gap decides: its launch began after the gap had begun → `host`, before → `launch`;
    `unknown` where the trace has no call for it.
    """
    known = gpu.known
    parts = [
        _of_device(columns, known.where(known.device == device), device)
        for device in np.unique(known.device).tolist()
    ]
    if not parts:
        return Gaps(_ints(), np.zeros(0), np.zeros(0), np.zeros(0, np.int8), _ints(), _ints())
    return Gaps(*(np.concatenate([getattr(p, name) for p in parts]) for name in Gaps.__dataclass_fields__))


def one_gap(start: float, end: float, thread: int) -> Gaps:
    """A stretch in which only the CPU can have been at work."""
    none, of_host = np.full(1, -1, np.int64), np.full(1, HOST, np.int8)
    return Gaps(none, np.array([start]), np.array([end]), of_host, none, np.full(1, thread, np.int64))


def _of_device(columns: Columns, gpu: GpuEvents, device: int) -> Gaps:
    found = intervals.gaps(timeline.busy(gpu))
    order = np.argsort(gpu.start, kind="stable")
    ends = order[np.searchsorted(gpu.start[order], found.end, side="left")]
    launch = gpu.launch[ends]
    known = launch >= 0
    cause = np.full(len(found), UNKNOWN, np.int8)
    began = columns.ts[launch[known]]
    cause[known] = np.where(began >= found.start[known], HOST, LAUNCH)
    thread = np.full(len(found), -1, np.int64)
    thread[known] = columns.thread[launch[known]]
    return Gaps(np.full(len(found), device, np.int64), found.start, found.end, cause, launch, thread)


def syncs(columns: Columns, gaps: Gaps) -> Ints:
    """For each gap the row of the call in which the launching thread waited for the GPU when the gap began,
    or -1: such a wait keeps the CPU from having launched the next work."""
    waiting = columns.names_that(lambda name: wait(name) is SYNC)
    rows = columns.of(RUNTIME, DRIVER, CPU_OP)
    found = nest_rows(columns, rows[waiting[columns.name[rows]]])
    place = found.innermost(gaps.thread, gaps.start)
    row = np.full(len(gaps), -1, np.int64)
    row[place >= 0] = found.row[place[place >= 0]]
    return row


def _ints() -> Ints:
    return np.zeros(0, np.int64)
