"""Job facts as words for people. Pure: nothing here prints."""

from collections.abc import Sequence

from chisel_shared.contract.gpus import GPUType
from chisel_shared.contract.job import EndReason, JobEnd, JobState, JobView, sentence

NEXT_STEPS = {
    EndReason.EXIT: "what it printed last says why: chisel logs {job}",
    EndReason.SIGNAL: "if your script did not send that itself, run it with --env PYTHONFAULTHANDLER=1: "
    "a crash then says where it was",
    EndReason.OOM: "give it less to do at once, or ask for a machine with more memory",
    EndReason.DEPS: "mend the requirements and run it again",
    EndReason.START: "run it again; if that does not help, tell whoever runs the backend",
    EndReason.TIME_LIMIT: "give it more time or less to do",
    EndReason.OUTPUT_LIMIT: "print less, or write to a file",
    EndReason.DISK: "tell whoever runs the backend, then run it again",
    EndReason.USER: "run it again: chisel rerun {job}",
    EndReason.DRAIN: "your script did nothing wrong; run it again: chisel rerun {job}",
    EndReason.LEASE_EXPIRED: "the machine failed, not your script; run it again: chisel rerun {job}",
    EndReason.AGENT_LOST: "the machine failed, not your script; run it again: chisel rerun {job}",
}
"""What to do after an end. A failure of the script's own says it only where there is something to explain, a
cancel of one's own not at all: `ending` knows."""


def files(count: int) -> str:
    return "1 file" if count == 1 else f"{count:,} files"


def size(count: int) -> str:
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= limit:
            return f"{count / limit:.1f} {unit}"
    return f"{count} B"


def some(names: Sequence[str], limit: int = 5) -> str:
    """The first of `names`, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"


def gpus(value: str) -> str:
    """`"A100-80GB:4"` as `4 x A100-80GB`; a type this client does not know stays as it is."""
    try:
        known = GPUType(value)
    except ValueError:
        return value
    return f"{known.count} x {known.model}"


def announcement(job: JobView) -> str:
    return f"job {job.id} · {job.app_name} · {gpus(job.gpu)}"


def progress(job: JobView) -> str | None:
    """What is worth saying about a job that has not ended."""
    where = job.agent_name or job.agent_id or "an agent"
    if job.unreachable:
        return f"{where} has not been heard of for a while; the job may still be running there"
    if job.cancel_requested and job.state not in (JobState.QUEUED,):
        return f"cancelling on {where}"
    match job.state:
        case JobState.QUEUED:
            return f"queued: {job.waiting}" if job.waiting else None
        case JobState.RUNNING:
            again = f", attempt {job.attempt}" if job.attempt > 1 else ""
            return f"running on {where} ({gpus(job.gpu)}{again})"
        case _:
            return None


def preparing(job: JobView) -> str:
    """Said when it takes long enough to be wondered about."""
    return f"{job.agent_name or 'an agent'} is preparing: it fetches the bundle and installs requirements"


def capped(stream: str, shown: int) -> str:
    """Said when a script has printed more than can be shown live."""
    return (
        f"{stream} is too long to be kept whole: after {size(shown)} it is not shown any more;"
        " its last part follows when the job has ended"
    )


def omitted(end: JobEnd) -> list[str]:
    """What of the output is left out, a line for each stream that was too long."""
    streams = (
        ("stdout", end.stdout_omitted, end.stdout_bytes),
        ("stderr", end.stderr_omitted, end.stderr_bytes),
    )
    return [
        f"left out {size(missing)} of {name} ({missing:,} bytes): its beginning and its end,"
        f" {size(kept)}, are kept"
        for name, missing, kept in streams
        if missing
    ]


def ending(job: JobView, *, traces: bool = True) -> str:
    """The last lines about a job; without `traces` these are left to a line of their own."""
    if job.end is None:
        return f"job {job.id} is {job.state}"
    return "\n".join((_ending(job, job.end, traces=traces), *(f"  {line}" for line in omitted(job.end))))


def _ending(job: JobView, end: JobEnd, *, traces: bool) -> str:
    ran = ""
    if job.started_at is not None and job.ended_at is not None:
        ran = f" · ran {duration(max(0.0, job.ended_at - job.started_at))}"
    if traces and end.traces:
        ran += f" · {end.traces} {'trace' if end.traces == 1 else 'traces'}: chisel trace ls {job.id}"
    if end.reason is EndReason.EXIT:
        lines = [f"exit {end.exit_code}{ran}"]
        says_more = bool(end.exit_code and end.detail)
    elif end.reason is EndReason.USER:
        lines = [f"job {job.id} was cancelled{by_whom(job)}{ran}"]
        says_more = bool(job.cancelled_by and job.cancelled_by != job.user)
    else:
        what = sentence(JobEnd(reason=end.reason, exit_code=end.exit_code, signal=end.signal))
        if end.reason is EndReason.DRAIN and job.cancelled_by:
            why = f": {job.cancel_reason}" if job.cancel_reason else ""
            what = f"{job.cancelled_by} drained {job.agent_name or 'its agent'}{why}"
        lines = [f"job {job.id} {job.state.replace('_', ' ')}: {what}{ran}"]
        says_more = True
    if end.detail:
        lines += [f"  {line}" for line in end.detail.rstrip().splitlines()]
    if says_more:
        lines.append(f"  {NEXT_STEPS[end.reason].format(job=job.id)}")
    return "\n".join(lines)


def by_whom(job: JobView) -> str:
    """Who asked for the end of a job and why, as far as that is known; begins with a space."""
    who = f" by {job.cancelled_by}" if job.cancelled_by else ""
    return f"{who}: {job.cancel_reason}" if job.cancel_reason else who


def age(job: JobView, now: float) -> str:
    """How long a job ran, runs or has waited."""
    since = job.started_at or job.submitted_at
    return duration(max(0.0, (job.ended_at or now) - since))


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows as columns; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
