"""Rules about what GPUs wait for."""

from collections import Counter

import numpy as np

from chisel_shared.traces import frames, intervals, timeline
from chisel_shared.traces.columns import ANNOTATION, CPU_OP, DRIVER, PYTHON, RUNTIME, Ints
from chisel_shared.traces.facts import Facts
from chisel_shared.traces.first_line import recorded
from chisel_shared.traces.gaps import HOST, UNKNOWN, syncs
from chisel_shared.traces.nesting import nest_rows
from chisel_shared.traces.report import Finding, Frame
from chisel_shared.traces.waits import ALLOCATION, LOADER, SYNC, Wait, wait
from chisel_shared.traces.wording import duration, percent, times

HOST_BOUND_SHARE = 0.10
SLOW_LINE_SHARE = 0.20
WORTH_SHARE = 0.02
SMALL_GAP_US = 20.0
SMALL_GAPS_SHARE = 0.05
SMALL_GAPS_COUNT = 100
OPTIMIZER_EVENTS = 200
OPTIMIZER_IDLE_SHARE = 0.05


def no_gpu(facts: Facts) -> Finding | None:
    if facts.time.events or facts.time.orphans or not facts.columns.events or facts.gpu_is_cut_off:
        return None
    most = max(facts.ops, key=lambda op: op.cpu_self_us, default=None)
    evidence = ["0 GPU events"]
    if most is not None:
        evidence.append(f"{most.name}: {duration(most.cpu_self_us)} of its own in {most.count:,} calls")
    return Finding(
        code="no-gpu",
        text="No GPU work was recorded.",
        evidence=tuple(evidence),
        next_step="If it was to run on a GPU: move the model and its inputs there, `.to('cuda')`, and check"
        " `torch.cuda.is_available()` in the job.",
        us=0.0,  # what it would save on a GPU, this trace cannot say
    )


def slow_line(facts: Facts) -> Finding | None:
    """Without GPU work: the line of Python in which most of the call went by."""
    lines = [frame for frame in facts.cpu if frame.file and not facts.gpu_is_cut_off]
    if lines and lines[0].name in recorded(facts.trace):
        return None  # that the call is in itself says nothing
    if not lines or lines[0].us < SLOW_LINE_SHARE * facts.trace.wall_us:
        return None
    most, wall = lines[0], facts.trace.wall_us
    return Finding(
        code="slow-line",
        text=f"{percent(most.us / wall)} of the call went by in {_where(most)}.",
        evidence=tuple(f"{duration(frame.us)} of {duration(wall)} in {_where(frame)}" for frame in lines[:3]),
        next_step=f"Make {most.name} cheaper: whole tensors instead of loops, or once before the loop, or"
        " ahead in a DataLoader worker.",
        us=most.us,
    )


def host_bound(facts: Facts) -> Finding | None:
    us = facts.idle.host_us
    if facts.share(us) < HOST_BOUND_SHARE:
        return None
    evidence = [
        f"{duration(us)} of {duration(facts.time.idle_us)} idle time, {percent(facts.share(us))} of all"
    ]
    host = [gap for gap in facts.idle.gaps if gap.cause == "host"]
    evidence.append("largest gaps: " + ", ".join(duration(gap.us) for gap in host[:3]))
    evidence += [f"{duration(frame.us)} in {_where(frame)}" for frame in facts.idle.frames[:3]]
    if any(frame.file for frame in facts.idle.frames) and facts.idle.frames[0].us < us / 2:
        step = (
            "Much Python between little work: a larger batch, `torch.compile`, CUDA graphs. No single line is"
            " most of it."
        )
    elif any(frame.file for frame in facts.idle.frames):
        step = (
            f"Make {facts.idle.frames[0].name} cheaper, or do it ahead: in a DataLoader worker, once before"
            " the loop, or on the GPU."
        )
    else:
        step = (
            "Record once with Python frames (`chisel --trace-stacks`, or `with_stack=True`) to see the line."
        )
    return Finding(
        code="host-bound",
        text=f"The GPU waits for the CPU: {percent(us / facts.time.idle_us)} of its idle time.",
        evidence=tuple(evidence),
        next_step=step,
        us=us,
    )


def sync(facts: Facts) -> Finding | None:
    host = facts.gaps.where(facts.gaps.cause == HOST)
    rows = syncs(facts.columns, host)
    us = float(host.us[rows >= 0].sum())
    if facts.share(us) < WORTH_SHARE:
        return None
    calls = Counter(facts.columns.name_of(row) for row in rows[rows >= 0].tolist())
    often = times(sum(calls.values()), "time")
    return Finding(
        code="sync",
        text=f"The CPU waited for the GPU {often} and had launched nothing ahead.",
        evidence=(
            f"{duration(us)} of gaps began inside such a call, {percent(facts.share(us))} of all",
            *(f"{name}, {times(count, 'time')}" for name, count in calls.most_common(3)),
        ),
        next_step=SYNC.cure,
        us=us,
    )


def data_loading(facts: Facts) -> Finding | None:
    rows = _waiting(facts, LOADER, PYTHON, ANNOTATION, CPU_OP)
    us = _in_host_gaps(facts, rows)
    if facts.share(us) < WORTH_SHARE:
        return None
    return Finding(
        code="data-loading",
        text="The GPU waits for the next batch.",
        evidence=(
            f"{duration(us)} of gaps in DataLoader.__next__, {percent(facts.share(us))} of all",
            f"{len(rows):,} batches",
        ),
        next_step=LOADER.cure,
        us=us,
    )


def allocation(facts: Facts) -> Finding | None:
    rows = _waiting(facts, ALLOCATION, RUNTIME, DRIVER)
    us = _in_host_gaps(facts, rows)
    if facts.share(us) < WORTH_SHARE:
        return None
    calls = Counter(facts.columns.name_of(row) for row in rows.tolist())
    return Finding(
        code="allocation",
        text="The GPU waits while memory is asked of the driver.",
        evidence=(
            f"{duration(us)} of gaps in it, {percent(facts.share(us))} of all",
            *(f"{name}, {times(count, 'time')}" for name, count in calls.most_common(3)),
        ),
        next_step=ALLOCATION.cure,
        us=us,
    )


def small_kernels(facts: Facts) -> Finding | None:
    small = (facts.gaps.us < SMALL_GAP_US) & (facts.gaps.cause != UNKNOWN)
    us = float(facts.gaps.us[small].sum())
    if facts.share(us) < SMALL_GAPS_SHARE or int(small.sum()) < SMALL_GAPS_COUNT:
        return None
    dur = facts.gpu.known.dur
    return Finding(
        code="small-kernels",
        text=f"The work comes in small pieces: {int(small.sum()):,} gaps shorter than {SMALL_GAP_US:.0f} µs.",
        evidence=(
            f"{duration(us)} in those gaps, {percent(facts.share(us))} of all",
            f"{len(dur):,} GPU events, half of them shorter than {duration(float(np.median(dur)))}",
        ),
        next_step="Give the GPU more at once: a larger batch, `torch.compile(mode='reduce-overhead')` or CUDA"
        " graphs, fused operators.",
        us=us,
    )


def slow_optimizer(facts: Facts) -> Finding | None:
    """Many small kernels between which the GPU idles, in the spans of `Optimizer.step`."""
    columns = facts.columns
    rows = columns.of(ANNOTATION, CPU_OP)
    rows = rows[columns.names_that(lambda name: name.startswith("Optimizer.step#"))[columns.name[rows]]]
    if not len(rows):
        return None
    gpu = facts.gpu.known
    gpu = gpu.where(gpu.launch >= 0)
    spans = nest_rows(columns, rows)
    inside = spans.innermost(columns.thread[gpu.launch].astype(np.int64), columns.ts[gpu.launch]) >= 0
    launched = int(inside.sum())
    if launched < OPTIMIZER_EVENTS * len(rows):
        return None
    busy = timeline.busy(gpu)
    within = intervals.union(columns.ts[rows], columns.end[rows])
    us = within.length - float(intervals.covered(busy, within.start, within.end).sum())
    if facts.share(us) < OPTIMIZER_IDLE_SHARE:
        return None
    mean = float(gpu.dur[inside].mean())
    return Finding(
        code="slow-optimizer",
        text=f"The optimizer launches {launched // len(rows):,} kernels a step and leaves the GPU idle.",
        evidence=(
            f"{duration(us)} idle inside {len(rows):,} optimizer steps, {percent(facts.share(us))} of all",
            f"{duration(mean)} a kernel",
        ),
        next_step="Use the fused implementation (`fused=True`, e.g. torch.optim.AdamW), or `foreach=True`.",
        us=us,
    )


def _waiting(facts: Facts, kind: Wait, *categories: int) -> Ints:
    rows = facts.columns.of(*categories)
    mine = facts.columns.names_that(lambda name: wait(name) is kind)
    return rows[mine[facts.columns.name[rows]]]


def _in_host_gaps(facts: Facts, rows: Ints) -> float:
    """How much of the gaps that wait for the CPU lies inside these calls, of whatever thread."""
    if not len(rows):
        return 0.0
    calls = intervals.union(facts.columns.ts[rows], facts.columns.end[rows])
    host = facts.gaps.cause == HOST
    return float(intervals.covered(calls, facts.gaps.start[host], facts.gaps.end[host]).sum())


def _where(frame: Frame) -> str:
    return f"{frame.name} at {frames.short(frame.file)}:{frame.line}" if frame.file else frame.name
