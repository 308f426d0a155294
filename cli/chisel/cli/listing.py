"""Jobs and GPUs as tables and blocks of lines for people. Pure: nothing here prints."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from chisel.cli import wording
from chisel.cli.legible import printable
from chisel_shared.contract.job import JobState, JobView, label

if TYPE_CHECKING:
    from chisel_shared.contract.messages import GpuKind, Neighbour, Why

SHORT_ID = 8
_NARROWEST = 6
_NARROW = 60
"""On terminals of fewer columns a list of jobs leaves out what `chisel status` says too."""


def short_ids(ids: Iterable[str]) -> dict[str, str]:
    """Each id as a table shows it: its beginning, longer where two begin alike."""
    every = tuple(ids)
    short = {}
    for one in every:
        length = SHORT_ID
        while any(other != one and other.startswith(one[:length]) for other in every) and length < len(one):
            length += 1
        short[one] = one[:length]
    return short


def fitted(rows: Sequence[tuple[str, ...]], width: int, *, whole: int = 0) -> str:
    """Rows as columns, the first row the heading; the widest columns are cut until all fit into `width`,
    unless that is 0, but for the `whole` one, which names what the others are about."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    others = [column for column in range(len(widths)) if column != whole]
    while width and sum(widths) + 2 * (len(widths) - 1) > width:
        widest = max(others, key=lambda column: widths[column])
        if widths[widest] <= _NARROWEST:
            break
        widths[widest] -= 1
    return wording.table([tuple(_cut(cell, limit) for cell, limit in zip(row, widths)) for row in rows])  # noqa: B905


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def state(job: JobView) -> str:
    """A job's state with what there is to know about it."""
    if job.end is not None:
        return f"{job.state} ({label(job.end)})"
    text = str(job.state)
    if job.cancel_requested:
        text += ", cancelling"
    if job.unreachable:
        text += ", out of contact"
    return f"{text}: {job.waiting}" if job.waiting else text


def jobs(found: Sequence[JobView], *, now: float, width: int) -> str:
    """The table of `chisel ps`."""
    ids = short_ids(job.id for job in found)
    rows = [("JOB", "NAME", "GPUS", "STATE", "WHERE", "TIME")]
    for job in found:
        row = (ids[job.id], job.app_name, wording.gpus(job.gpu), state(job))
        rows.append((*row, job.agent_name, wording.age(job, now)))
    if 0 < width < _NARROW:
        return fitted([(name, app, how, age) for name, app, _, how, _, age in rows], width)
    return fitted(rows, width)


def line(job: JobView) -> str:
    """One line about a job that changed."""
    where = f" on {job.agent_name}" if job.agent_name and job.end is None else ""
    return f"{job.id}  {job.app_name}  {state(job)}{where}"


def gpus(kinds: Sequence["GpuKind"], *, width: int) -> str:
    """The table of `chisel gpus`."""
    rows = [("GPUS", "TOTAL", "FREE", "FREE ON ONE MACHINE", "MACHINES", "JOBS WAITING")]
    for kind in kinds:
        beside = [f"+{kind.away} away"] if kind.away else []
        beside += [f"{kind.quarantined} quarantined"] if kind.quarantined else []
        told = f" ({', '.join(beside)})" if beside else ""
        counts = (f"{kind.total}{told}", str(kind.free), str(kind.largest_free))
        rows.append((kind.model, *counts, str(kind.agents), str(kind.queued)))
    return fitted(rows, width)


def why(told: "Why", *, now: float, width: int) -> str:
    """What `chisel why` says."""
    job = told.job
    if job.state is not JobState.QUEUED:
        return (
            wording.ending(job) if job.end is not None else f"job {job.id} does not wait: {lives(job, now)}"
        )
    place = f"number {told.position} in the queue" if told.position else "far behind in the queue"
    waited = wording.duration(max(0.0, now - job.since))
    lines = [f"job {job.id} has waited for {waited}, {place}"]
    lines.append(f"it waits: {told.waiting}" if told.waiting else "an agent is about to take it")
    for title, others in (("ahead of it", told.ahead), ("holding such GPUs", told.holding)):
        if others:
            lines += ["", f"{title}:", _neighbours(others, now=now, width=width)]
    return "\n".join(lines)


def _neighbours(others: Sequence["Neighbour"], *, now: float, width: int) -> str:
    ids = short_ids(other.id for other in others)
    rows: list[tuple[str, ...]] = [("JOB", "NAME", "USER", "GPUS", "WHERE", "SINCE", "ENDS BY")]
    for other in others:
        ends = "" if other.ends_by is None else f"in {wording.duration(max(0.0, other.ends_by - now))}"
        since = wording.duration(max(0.0, now - other.since))
        who = (ids[other.id] or "-", other.app_name or "-", other.user or "-")
        rows.append((*who, wording.gpus(other.gpu), other.where or "-", since, ends or "-"))
    if all(row[-1] == "-" for row in rows[1:]):
        rows = [row[:-1] for row in rows]
    if all(row[4] == "-" for row in rows[1:]):
        rows = [row[:4] + row[5:] for row in rows]
    return fitted(rows, width)


def lives(job: JobView, now: float) -> str:
    """What a job that has not ended does, where, and for how long."""
    where = f" on {job.agent_name}" if job.agent_name else ""
    reason = f": {job.waiting}" if job.waiting else ""
    lasting = wording.duration(max(0.0, now - job.since))
    return f"{state(job).removesuffix(reason)}{where} for {lasting}{reason}"


def status(job: JobView, *, now: float) -> str:
    """Everything about one job, a line each."""
    import shlex

    rows = [("job", job.id), ("name", job.app_name)]
    rows.append(("state", state(job) if job.end is not None else lives(job, now)))
    if job.end is not None and job.agent_name:
        rows.append(("where", job.agent_name))
    rows.append(("gpus", wording.gpus(job.gpu)))
    rows.append(("command", printable(shlex.join(job.argv))))
    by = f" by {job.user}" if job.user else ""
    rows.append(("submitted", f"{moment(job.submitted_at)}{by}"))
    if job.started_at is not None:
        again = f", attempt {job.attempt}" if job.attempt > 1 else ""
        rows.append(("started", f"{moment(job.started_at)}{again}"))
    if job.ended_at is not None:
        rows.append(("ended", moment(job.ended_at)))
    if job.end is not None:
        first, *more = wording.ending(job).splitlines()
        rows += [("end", first), *(("", rest.strip()) for rest in more)]
    elif job.cancel_requested:
        rows.append(("cancelled", wording.by_whom(job).strip() or "yes"))
    rows.append(("next", _next_step(job)))
    return "\n".join(f"{name:<10} {text}".rstrip() for name, text in rows)


def _next_step(job: JobView) -> str:
    short = job.id[:SHORT_ID]
    if job.state is JobState.QUEUED:
        return f"chisel why {short}"
    if job.end is None:
        return f"chisel logs -f {short}"
    again = f"chisel rerun {short}"
    return f"chisel logs {short}, or {again}" if job.attempt else again


def moment(seconds: float) -> str:
    """A time in the user's own zone."""
    from datetime import datetime

    return datetime.fromtimestamp(seconds).astimezone().isoformat(sep=" ", timespec="seconds")
