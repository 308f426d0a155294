"""What each operator cost: the GPU work that it launched itself, and the CPU time that was its own."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chisel_shared.traces import intervals
from chisel_shared.traces.columns import CPU_OP, Columns, Floats, Ints, Mask
from chisel_shared.traces.gpu import GpuEvents
from chisel_shared.traces.nesting import Nesting, nest
from chisel_shared.traces.report import Op

GRAPH = "cudaGraphLaunch"
_GRAPH_CALLS = {"cudaGraphLaunch", "hipGraphLaunch", "cuGraphLaunch"}


@dataclass(frozen=True)
class Attribution:
    """Which call of which operator launched each GPU event."""

    columns: Columns
    gpu: GpuEvents
    nesting: Nesting
    """Of the operators."""
    op: Ints
    """For each GPU event the place in `nesting` of the innermost operator around its launch; -1: none."""
    graph: Mask
    """For each GPU event whether it was launched with others by a graph: operators are unknown inside."""

    @cached_property
    def names(self) -> list[str]:
        """For each GPU event the operator's name, the call that launched its graph, or nothing."""
        rows = np.where(self.op >= 0, self.nesting.row[self.op] if len(self.nesting) else -1, -1)
        found = [self.columns.name_of(row) if row >= 0 else "" for row in rows.tolist()]
        for event in np.flatnonzero(self.graph).tolist():
            found[event] = self.columns.name_of(self.gpu.launch[event])
        return found


def attribute(columns: Columns, gpu: GpuEvents) -> Attribution:
    nesting = nest(columns, CPU_OP)
    op = np.full(len(gpu), -1, np.int64)
    launched = gpu.launch >= 0
    launch = gpu.launch[launched]
    op[launched] = nesting.innermost(columns.thread[launch].astype(np.int64), columns.ts[launch])
    graph = np.zeros(len(gpu), np.bool_)
    graph[launched] = columns.names_that(_GRAPH_CALLS.__contains__)[columns.name[launch]]
    op[graph] = -1
    return Attribution(columns, gpu, nesting, op, graph)


def ops(found: Attribution) -> list[Op]:
    """A row for each operator, and for each call that launches graphs: most GPU time first, then CPU time."""
    columns, nesting = found.columns, found.nesting
    names = len(columns.names)
    name = columns.name[nesting.row]
    count = np.bincount(name, minlength=names)
    cpu = _sums(name, nesting.end - nesting.start, names)
    own = _sums(name, nesting.self_us, names)
    call, us = _gpu_time_by_call(found)
    gpu = _sums(name[call], us, names)
    launching = np.bincount(name[call], minlength=names)
    graph_name, graph_us = _gpu_time_by_graph_launch(found)
    gpu += _sums(graph_name, graph_us, names)
    launching += np.bincount(graph_name, minlength=names)
    everything = float(gpu.sum())
    rows = [
        Op(
            name=columns.names[one],
            count=int(count[one]) or int(launching[one]),
            gpu_us=float(gpu[one]),
            cpu_us=float(cpu[one]),
            cpu_self_us=float(own[one]),
            share=float(gpu[one]) / everything if everything else 0.0,
            launching=int(launching[one]),
        )
        for one in np.flatnonzero((count > 0) | (launching > 0)).tolist()
    ]
    return sorted(rows, key=lambda row: (-row.gpu_us, -row.cpu_self_us, row.name))


def time_by_call(found: Attribution) -> dict[str, Floats]:
    """The GPU time of each call that launched something, by operator or graph launch, µs."""
    call, us = _gpu_time_by_call(found)
    launch, graph_us = _gpu_time_by_graph_launch(found)
    name = np.concatenate([found.columns.name[found.nesting.row[call]], launch])
    us = np.concatenate([us, graph_us])
    order = np.argsort(name, kind="stable")
    name, us = name[order], us[order]
    first = np.flatnonzero(np.diff(name, prepend=-1))
    runs = np.split(us, first[1:]) if len(first) else []
    return {found.columns.names[name[at]]: one for at, one in zip(first.tolist(), runs, strict=True)}


def _sums(name: NDArray[Any], amount: Floats, names: int) -> Floats:
    # Of nothing, numpy counts in integers.
    return np.bincount(name, weights=amount, minlength=names).astype(np.float64)


def _gpu_time_by_call(found: Attribution) -> tuple[Ints, Floats]:
    """Each call that launched something, and the union of what it launched: two kernels of one call that run
    at the same time are counted once."""
    return _unions(found, (found.op >= 0) & ~found.gpu.orphan, found.op)


def _gpu_time_by_graph_launch(
    found: Attribution,
) -> tuple[Ints, Floats]:
    launch, us = _unions(found, found.graph & ~found.gpu.orphan, found.gpu.launch)
    return found.columns.name[launch].astype(np.int64), us


def _unions(found: Attribution, which: Mask, by: Ints) -> tuple[Ints, Floats]:
    """The union of GPU events for each value of `by`."""
    gpu = found.gpu
    events = np.flatnonzero(which)
    if not len(events):
        return np.zeros(0, np.int64), np.zeros(0)
    events = events[np.lexsort((gpu.start[events], by[events]))]
    start, end, key = gpu.start[events], gpu.end[events], by[events]
    first = np.flatnonzero(np.diff(key, prepend=-1))
    us = np.add.reduceat(end - start, first)
    # Few calls launch work that overlaps: those are done one by one.
    overlapping = (np.diff(key) == 0) & (start[1:] < end[:-1])
    bounds = np.append(first, len(events))
    for group in np.unique(
        np.searchsorted(first, np.flatnonzero(overlapping) + 1, side="right") - 1
    ).tolist():
        low, high = bounds[group], bounds[group + 1]
        us[group] = intervals.union(start[low:high], end[low:high]).length
    return key[first], us
