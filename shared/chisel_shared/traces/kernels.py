"""GPU events grouped by kernel and launch shape: the same name with another grid is another piece of work."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from chisel_shared.traces.columns import Columns, Floats, Ints
from chisel_shared.traces.gpu import KINDS, GpuEvents
from chisel_shared.traces.report import Kernel


class Key(NamedTuple):
    """What runs of a kernel are compared by. Copies and sets have empty shapes."""

    name: str
    grid: tuple[int, ...]
    block: tuple[int, ...]
    kind: str


class Group(NamedTuple):
    key: Key
    members: Ints
    """Which of the GPU events, in the file's order."""


def groups(columns: Columns, gpu: GpuEvents) -> list[Group]:
    """All of `gpu` by kernel and launch shape, in the order of their first appearance."""
    if not len(gpu):
        return []
    row = gpu.row
    _, shape = np.unique(
        columns.grid[row].astype(np.int64) * len(columns.shapes) + columns.block[row], return_inverse=True
    )
    key = (columns.name[row].astype(np.int64) * (int(shape.max()) + 1) + shape) * len(KINDS) + gpu.kind
    order = np.argsort(key, kind="stable")
    first = np.flatnonzero(np.diff(key[order], prepend=-1))
    found = []
    for members in np.split(order, first[1:]):
        event = row[members[0]]
        found.append(
            Group(
                Key(
                    columns.name_of(event),
                    columns.shapes[columns.grid[event]],
                    columns.shapes[columns.block[event]],
                    KINDS[gpu.kind[members[0]]],
                ),
                members,
            )
        )
    return sorted(found, key=lambda group: int(group.members[0]))


def durations(columns: Columns, gpu: GpuEvents) -> dict[Key, Floats]:
    """How long each run took, µs, by kernel and launch shape. Give it `gpu.known` to compare traces: orphans
    are of earlier work."""
    return {group.key: gpu.dur[group.members] for group in groups(columns, gpu)}


def totals(gpu: GpuEvents) -> dict[str, float]:
    """The summed time of the events of each kind, µs; streams that overlap count for each."""
    return {kind: float(gpu.dur[gpu.kind == code].sum()) for code, kind in enumerate(KINDS)}


def kernels(columns: Columns, gpu: GpuEvents, ops: Sequence[str]) -> list[Kernel]:
    """A row for each kernel and launch shape, and for each of the orphans' of their own, longest first.
    `ops[i]` is the operator that launched GPU event `i`, or empty."""
    everything = math.fsum(gpu.dur.tolist())
    rows = []
    for orphan in (False, True):
        which = np.flatnonzero(gpu.orphan == orphan)
        for key, members in groups(columns, gpu.where(gpu.orphan == orphan)):
            events = which[members].tolist()
            found = sorted(gpu.dur[events].tolist())
            count, middle = len(found), len(found) // 2
            total = math.fsum(found)
            rows.append(
                Kernel(
                    name=key.name,
                    kind=key.kind,
                    grid=key.grid,
                    block=key.block,
                    op=_op_of_most(ops, events, gpu.dur),
                    count=count,
                    us=total,
                    mean_us=total / count,
                    median_us=found[middle] if count % 2 else (found[middle - 1] + found[middle]) / 2,
                    min_us=found[0],
                    max_us=found[-1],
                    share=total / everything if everything else 0.0,
                    orphan=orphan,
                )
            )
    return sorted(rows, key=lambda row: -row.us)


def _op_of_most(ops: Sequence[str], events: list[int], dur: Floats) -> str:
    names = {ops[event] for event in events}
    if len(names) == 1:
        return names.pop()
    return max(sorted(names), key=lambda op: sum(dur[event] for event in events if ops[event] == op))
