"""The line about a job's traces that stands at its end: how many, and what the first one says."""

import time
from collections.abc import Callable

from chisel.cli.legible import legible
from chisel.cli.trace_sources import telling
from chisel_shared.contract.errors import ChiselError
from chisel_shared.contract.job import JobView
from chisel_shared.contract.messages import TraceView
from chisel_shared.contract.traces import STORED, Reading, TraceState

WAIT_SECONDS = 2.0
"""How long the first trace may take to be read after the job's end; then the line does without."""
_PAUSE_SECONDS = 0.1


def line_of(job: JobView, ask: Callable[[float], tuple[TraceView, ...]], stopped: Callable[[], bool]) -> str:
    """The line about the traces of a job that has some. `ask` lists them, in so many seconds at the most;
    waiting ends when `stopped`."""
    deadline = time.monotonic() + WAIT_SECONDS
    traces: tuple[TraceView, ...] | None = None
    while (left := deadline - time.monotonic()) > 0 and not stopped():
        try:
            found = ask(left)
        except ChiselError:
            break
        traces = legible(tuple(trace for trace in found if trace.attempt == job.attempt))
        first = first_of(traces)
        if first is None or first.reading is not Reading.PENDING:
            break
        time.sleep(_PAUSE_SECONDS)
    return line(job, traces)


def line(job: JobView, traces: tuple[TraceView, ...] | None) -> str:
    """The same, of what is known of them; with None nothing is."""
    if traces is None:
        end = job.end
        counts = (
            ((end.traces, ""), (end.traces_late, " on the way"), (end.traces_lost, " lost")) if end else ()
        )
        told = " · ".join(f"{_count(count)}{state}" for count, state in counts if count)
        return f"{told}: chisel trace ls {job.id}" if told else ""
    stored = sum(trace.state in STORED for trace in traces)
    parts = [f"{_count(stored)}: chisel trace summary {job.id}"] if stored else []
    first = first_of(traces)
    if first is not None and first.finding:
        parts.append(f"{stem(first)}: {first.finding}")
    late = sum(trace.state is TraceState.UPLOADING for trace in traces)
    if late:
        parts.append(f"{_count(late)} on the way: chisel trace ls {job.id}")
    lost = [trace for trace in traces if trace.state is TraceState.LOST]
    if lost:
        why = "; ".join(dict.fromkeys(_why(trace) for trace in lost[:3]))
        parts.append(f"{_count(len(lost))} lost: {why}")
    return " · ".join(parts)


def first_of(traces: tuple[TraceView, ...]) -> TraceView | None:
    """What `chisel trace summary` shows of the job, of what is stored."""
    stored = [trace for trace in traces if trace.state in STORED]
    return telling(stored) if stored else None


def stem(trace: TraceView) -> str:
    return trace.name.removesuffix(".json")


def _count(count: int) -> str:
    return "1 trace" if count == 1 else f"{count} traces"


def _why(trace: TraceView) -> str:
    reason = trace.reason
    if reason.endswith("while it was recorded"):
        return f"{stem(trace)} was being recorded"
    return f"{stem(trace)}: {reason}" if reason else stem(trace)
