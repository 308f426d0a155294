"""The traces of a job as a table. Pure."""

from collections.abc import Sequence

from chisel.cli import listing, wording
from chisel.cli.trace_sources import order
from chisel_shared.contract.ids import Digest, JobId
from chisel_shared.contract.messages import TraceView
from chisel_shared.contract.traces import Reading, TraceState
from chisel_shared.traces import words
from chisel_shared.traces.first_line import first_line
from chisel_shared.traces.report import Summary

_HEADING: tuple[str, ...] = (
    "TRACE", "ATTEMPT", "CALL", "RANK", "EVENTS", "SIZE", "GPU BUSY", "WALL", "STATE",
)  # fmt: skip


def traces(found: Sequence[TraceView], *, width: int) -> str:
    """The table of `chisel trace ls`, in the order they were taken. Several attempts are told apart."""
    rows = [_HEADING, *map(_row, sorted(found, key=lambda trace: (trace.attempt, *order(trace))))]
    if len({trace.attempt for trace in found}) < 2:
        rows = [(row[0], *row[2:]) for row in rows]
    if all(row[-6] == "-" for row in rows[1:]):  # no ranks
        rows = [row[:-6] + row[-5:] for row in rows]
    return listing.fitted(rows, width)


def _row(trace: TraceView) -> tuple[str, ...]:
    _, rank, call = words.base(trace.name)
    rank = rank if trace.rank is None else trace.rank
    return (
        trace.name,
        str(trace.attempt),
        str(trace.call or call),
        "-" if rank is None else str(rank),
        "-" if trace.events is None else f"{trace.events:,}",
        wording.size(trace.size_bytes) if trace.size_bytes else "-",
        "-" if trace.gpu_busy is None else words.share(trace.gpu_busy),
        "-" if trace.wall_us is None else words.time(trace.wall_us),
        state(trace),
    )


def of_file(name: str, size_bytes: int, found: Summary) -> TraceView:
    """A file of this machine as a row of the table: it has no job, and no attempt."""
    trace = found.trace
    sidecar = trace.sidecar
    return TraceView(
        job_id=JobId(""),
        attempt=0,
        name=name,
        size_bytes=size_bytes,
        sha256=Digest(""),
        state=TraceState.PARTIAL if trace.truncated else TraceState.READY,
        reason="the file ends in the middle" if trace.truncated else "",
        call=sidecar.call if sidecar else None,
        rank=trace.rank,
        function=sidecar.function if sidecar else "",
        started_at=(sidecar.started_at or None) if sidecar else None,
        reading=Reading.DONE,
        events=trace.events,
        wall_us=trace.wall_us,
        gpu_busy=found.busy_share,
        cold=trace.cold,
        finding=first_line(found),
    )


def state(trace: TraceView) -> str:
    """Where a trace is, and what there is to know about that."""
    reason = f": {trace.reason}" if trace.reason else ""
    match trace.state:
        case TraceState.UPLOADING if trace.total_bytes:
            return f"uploading {trace.sent_bytes / trace.total_bytes:.0%}".replace("%", " %")
        case TraceState.READY if trace.reading is Reading.FAILED:
            return f"ready, unreadable{reason}"
        case TraceState.READY if trace.reading is Reading.PENDING:
            return "ready, being read"
        case TraceState.READY:
            return "ready (cold)" if trace.cold else "ready"
        case _:
            return f"{trace.state}{reason}"


def others(found: Sequence[TraceView], *, job: str) -> list[str]:
    """A line each about traces that are not shown in full."""
    rows = []
    for trace in found:
        wall = "" if trace.wall_us is None else words.time(trace.wall_us)
        rows.append((f"{job}/{words.stem(trace.name)}", wall, trace.finding or state(trace)))
    return wording.table(rows).splitlines() if rows else []
