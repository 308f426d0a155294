"""Every change of a job: `apply` alone writes `state`; the others change a fact beside it.

Each change raises `version` by one, leaves a row in `job_events` and one in the outbox that carries
the whole view, all in the caller's transaction. The job's row lock makes versions and outbox ids grow
together, so the bus hears the versions of a job in order and without a gap.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from chisel_scheduler.lifecycle import target
from chisel_shared.contract.ids import AgentId, JobId
from chisel_shared.contract.job import FINAL, JobEnd, JobEvent, JobSpec, JobState, JobView, label, sources
from chisel_shared.contract.messages import CancelJob, JobChanged
from chisel_shared.contract.stops import Stop
from chisel_shared.runtime.db import Connection
from chisel_shared.runtime.logs import Log

log = Log("chisel.scheduler.store")

CHANNEL = "scheduler_outbox"
"""Postgres tells the relay on this channel that the outbox has something."""

_spec = msgspec.json.Decoder(JobSpec)
_end = msgspec.json.Decoder(JobEnd)
_encoder = msgspec.json.Encoder()

_APPLY = """
update jobs set
    state = $4,
    version = version + 1,
    since = $5,
    attempt = case when $4 = 'assigned' then attempt + 1 else attempt end,
    agent_id = case $4 when 'assigned' then $6 when 'queued' then null else agent_id end,
    agent_name = case $4 when 'assigned' then $7 when 'queued' then '' else agent_name end,
    queued_at = case when $4 = 'queued' then $5 else queued_at end,
    started_at = case $4 when 'running' then $5 when 'queued' then null else started_at end,
    ended_at = case when $8::json is not null then $5 end,
    ending = $8,
    repeated = repeated + $9,
    unreachable = false,
    archived = case when $4 = 'assigned' then false else archived end
where id = $1 and attempt = $2 and state = any($3::text[])
returning *
"""

# Who asks first is who ended it; KILL may still hasten what another signal began.
_REQUEST_CANCEL = """
update jobs set version = version + 1, cancel_requested_at = coalesce(cancel_requested_at, $2),
    cancel_requested_by = coalesce(cancel_requested_by, $3), cancel_signal = $4, cancel_grace_seconds = $5,
    cancel_reason = case when cancel_reason = '' then $6 else cancel_reason end
where id = $1 and ended_at is null
    and (cancel_requested_at is null or ($4 = 'KILL' and cancel_signal <> 'KILL'))
returning *
"""

_NOTE_CANCEL = """
update jobs set cancel_requested_by = $2, cancel_reason = $3 where id = $1
"""

_EVICT = """
with told as (
    update attempts set evicted_at = $3, evicted_by = $4, evict_reason = $5
    where job_id = $1 and attempt = $2 and ended_at is null and evicted_at is null
    returning job_id
)
update jobs set version = version + 1
from told where jobs.id = told.job_id and jobs.attempt = $2
returning jobs.*
"""

_SET_UNREACHABLE = """
update jobs set version = version + 1, unreachable = $3
where id = $1 and attempt = $2 and ended_at is null and unreachable <> $3
returning *
"""

_SET_ARCHIVED = """
update jobs set version = version + 1, archived = true
where id = $1 and attempt = $2 and not archived
returning *
"""

_SAY = f"""
with happened as (
    insert into job_events (job_id, version, attempt, event, state, at, detail)
    values ($1, $2, $3, $4, $5, $6, $7)
), said as (
    insert into outbox (subject, message_id, body) values ($8, $9, $10)
)
select pg_notify('{CHANNEL}', '')
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The agent that takes a job."""

    agent_id: AgentId
    name: str


def spec_of(row: Any) -> JobSpec:
    return _spec.decode(row["spec"])


def end_of(row: Any) -> JobEnd | None:
    return _end.decode(row["ending"]) if row["ending"] is not None else None


def stop_of(row: Any) -> Stop:
    """How the job of `row` is to end, where its end was asked for."""
    return Stop(signal=row["cancel_signal"], grace_seconds=row["cancel_grace_seconds"])


def as_json(value: JobSpec | JobEnd) -> str:
    return _encoder.encode(value).decode()


def view(row: Any, *, waiting: str = "") -> JobView:
    """A row of `jobs` as its owner sees it."""
    spec = spec_of(row)
    return JobView(
        id=row["id"],
        app_name=spec.app_name,
        state=JobState(row["state"]),
        version=row["version"],
        gpu=spec.gpu,
        argv=spec.argv,
        attempt=row["attempt"],
        submitted_at=row["submitted_at"].timestamp(),
        agent_id=row["agent_id"],
        agent_name=row["agent_name"],
        started_at=_seconds(row["started_at"]),
        ended_at=_seconds(row["ended_at"]),
        end=end_of(row),
        cancel_requested=row["cancel_requested_at"] is not None,
        unreachable=row["unreachable"],
        waiting=waiting,
        archived=row["archived"],
        user=row["user_name"],
        since=row["since"].timestamp(),
        cancelled_by=row["cancel_requested_by"] or "",
        cancel_reason=row["cancel_reason"],
    )


async def apply(
    c: Connection,
    job_id: JobId,
    attempt: int,
    event: JobEvent,
    *,
    now: datetime,
    end: JobEnd | None = None,
    holder: Holder | None = None,
    repeated: bool = False,
    waiting: str = "",
) -> JobView | None:
    """Let `event` of `attempt` happen to a job, if it is still legal.

    None when it is not: somebody was faster or the sender is stale, and nothing has changed. `end` is
    given with the events that end a job, `holder` with CLAIM.
    """
    state = target(event)
    if (end is not None) is not (state in FINAL) or (holder is not None) is not (event is JobEvent.CLAIM):
        raise ValueError(f"{event} with end={end} and holder={holder}")
    row = await c.fetchrow(
        _APPLY,
        job_id,
        attempt,
        [source.value for source in sources(event)],
        state.value,
        now,
        holder and holder.agent_id,
        holder.name if holder else "",
        as_json(end) if end else None,
        1 if repeated else 0,
    )
    if row is None:
        log.debug("event_came_late", job_id=job_id, attempt=attempt, job_event=event.value)
        return None
    return await say(c, row, event.value, now=now, detail=label(end) if end else "", waiting=waiting)


async def request_cancel(c: Connection, job_id: JobId, ask: CancelJob, *, now: datetime) -> JobView | None:
    """Note the wish to end an unfinished job; None when it was noted before or the job has ended."""
    signal, grace = ask.stop.signal, ask.stop.grace_seconds
    row = await c.fetchrow(_REQUEST_CANCEL, job_id, now, ask.requested_by, signal, grace, ask.reason)
    return await say(c, row, "cancel_requested", now=now, detail=ask.requested_by) if row else None


async def note_cancel(c: Connection, job_id: JobId, *, by: str, reason: str) -> None:
    """Note who ends a job and why, before the change that ends it."""
    await c.execute(_NOTE_CANCEL, job_id, by, reason)


async def evict(
    c: Connection, job_id: JobId, attempt: int, *, by: str, reason: str, now: datetime
) -> JobView | None:
    """Note that an attempt is to end because its agent is drained; None when it has ended or is known. The
    job's row is locked. What it means for the job is decided when it has ended."""
    row = await c.fetchrow(_EVICT, job_id, attempt, now, by, reason)
    return await say(c, row, "evict", now=now, detail=by) if row else None


async def set_unreachable(
    c: Connection, job_id: JobId, attempt: int, *, unreachable: bool, now: datetime
) -> JobView | None:
    """Note whether the agent of a held job is heard; None when that is known already."""
    row = await c.fetchrow(_SET_UNREACHABLE, job_id, attempt, unreachable)
    return await say(c, row, "unreachable" if unreachable else "reachable", now=now) if row else None


async def set_archived(c: Connection, job_id: JobId, attempt: int, *, now: datetime) -> JobView | None:
    """Note that storage holds the output of a job's newest attempt; None when it is not the newest."""
    row = await c.fetchrow(_SET_ARCHIVED, job_id, attempt)
    return await say(c, row, "archived", now=now) if row else None


async def say(
    c: Connection, row: Any, event: str, *, now: datetime, detail: str = "", waiting: str = ""
) -> JobView:
    """Record what happened to the job of `row` and put its view into the outbox."""
    job = view(row, waiting=waiting)
    changed = JobChanged(job_id=job.id, job=job)
    await c.execute(
        _SAY,
        job.id,
        job.version,
        job.attempt,
        event,
        job.state.value,
        now,
        detail,
        changed.subject(),
        f"{job.id}:{job.version}",
        _encoder.encode(changed),
    )
    return job


def _seconds(at: datetime | None) -> float | None:
    return at.timestamp() if at is not None else None
