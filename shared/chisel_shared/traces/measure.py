"""From a trace that has been read to what comparisons take: one capture, or one rank's view."""

from collections.abc import Sequence

import numpy as np

from chisel_shared.traces import intervals
from chisel_shared.traces.align import Runs
from chisel_shared.traces.columns import ANNOTATION, CPU_OP, Columns
from chisel_shared.traces.diff import Capture
from chisel_shared.traces.gpu import COMM, gpu_events
from chisel_shared.traces.kernels import groups
from chisel_shared.traces.ops import Attribution, attribute, time_by_call
from chisel_shared.traces.ranks import RankTrace, Run
from chisel_shared.traces.report import Summary
from chisel_shared.traces.steps import call

_CPU_COLLECTIVES = ("gloo:", "ucc:", "mpi:")
"""How torch marks those that run on the CPU."""


def capture(columns: Columns, summary: Summary) -> Capture:
    """What is compared of a trace and its summary."""
    attribution = attribute(columns, gpu_events(columns))
    has_gpu = summary.gpu.events > 0
    return Capture(
        info=summary.trace,
        gpu=summary.gpu,
        categories=_gpu_categories(summary) if has_gpu else _cpu_categories(columns),
        kernels=_kernels(attribution),
        ops=_gpu_ops(attribution) if has_gpu else _cpu_ops(attribution),
    )


def rank(columns: Columns, summary: Summary, number: int) -> RankTrace:
    """What one rank's trace tells; its times count from `columns`' own base until `on_one_clock`."""
    sidecar = summary.trace.sidecar
    host = sidecar.host if sidecar else str(columns.metadata.get("host_name", ""))
    return RankTrace(
        rank=number,
        trace=summary.trace.name,
        host=host,
        wall_us=summary.trace.wall_us,
        gpu=summary.gpu,
        runs=_collectives(columns),
    )


def on_one_clock(traces: Sequence[tuple[RankTrace, Columns]]) -> list[RankTrace]:
    """The same with starts that all count from one moment: files tell the base of theirs."""
    bases = [_base_ns(columns) for _, columns in traces]
    first = min(bases, default=0)
    return [
        trace._replace(
            runs=tuple(run._replace(start_us=run.start_us + (base - first) / 1000) for run in trace.runs)
        )
        for (trace, _), base in zip(traces, bases, strict=True)
    ]


def _base_ns(columns: Columns) -> int:
    base = columns.metadata.get("baseTimeNanoseconds", 0)
    return base if isinstance(base, int) else 0


# Categories


def _gpu_categories(summary: Summary) -> dict[str, float]:
    """Means over the devices, which all had the same wall time."""
    gpu, idle = summary.gpu, summary.idle
    devices = max(1, sum(one.time.events > 0 for one in summary.devices))
    return {
        "compute": gpu.compute_us / devices,
        "exposed comm": gpu.exposed_comm_us / devices,
        "exposed copy": gpu.exposed_copy_us / devices,
        "idle: host": idle.host_us / devices,
        "idle: launch": idle.launch_us / devices,
        "idle: unknown": idle.unknown_us / devices,
        "outside": summary.trace.wall_us - gpu.span_us / devices,
    }


def _cpu_categories(columns: Columns) -> dict[str, float]:
    """Of the thread on which the call ran."""
    called = call(columns)
    rows = columns.of(CPU_OP)
    rows = rows[columns.thread[rows] == called.thread]
    start, end = np.maximum(columns.ts[rows], called.start), np.minimum(columns.end[rows], called.end)
    inside = intervals.union(start, end).length
    return {"in operators": inside, "outside operators": called.us - inside}


# Kernels and operators


def _kernels(found: Attribution) -> tuple[Runs, ...]:
    known = np.flatnonzero(~found.gpu.orphan)
    gpu = found.gpu.known
    runs = []
    for key, members in groups(found.columns, gpu):
        op = found.names[known[members[0]]]
        runs.append(Runs(key.name, key.kind, key.grid, key.block, op, gpu.dur[members]))
    return tuple(runs)


def _gpu_ops(found: Attribution) -> tuple[Runs, ...]:
    return tuple(_as_op(name, us) for name, us in time_by_call(found).items())


def _cpu_ops(found: Attribution) -> tuple[Runs, ...]:
    nesting = found.nesting
    name = found.columns.name[nesting.row]
    order = np.argsort(name, kind="stable")
    own = nesting.self_us[order]
    first = np.flatnonzero(np.diff(name[order], prepend=-1))
    runs = np.split(own, first[1:]) if len(first) else []
    return tuple(
        _as_op(found.columns.names[one], us)
        for one, us in zip(name[order][first].tolist(), runs, strict=True)
    )


def _as_op(name: str, us: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> Runs:
    return Runs(name, "op", (), (), name, us)


# Collectives


def _collectives(columns: Columns) -> tuple[Run, ...]:
    """In the order they started; those of the CPU where no GPU ran one."""
    gpu = gpu_events(columns).known
    rows = gpu.row[gpu.kind == COMM]
    if not len(rows):
        marks = columns.of(ANNOTATION)
        rows = marks[columns.names_that(lambda name: name.startswith(_CPU_COLLECTIVES))[columns.name[marks]]]
    rows = rows[np.argsort(columns.ts[rows], kind="stable")]
    runs = []
    for row in rows.tolist():
        own = columns.collectives.get(row)
        name, group, elements = columns.name_of(row), "", 0
        if own is not None:
            name, group = own.name or name, f"{own.group} {own.ranks}".strip()
            elements = max(own.in_elements, own.out_elements)
        runs.append(Run(name, group, elements, float(columns.ts[row]), float(columns.dur[row])))
    return tuple(runs)
