"""Attempts: hello, progress, renewal, end. Every write is fenced by (job, attempt, agent, session)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec

from chisel_scheduler.explain import cordon_clause
from chisel_scheduler.lifecycle import REACHED, Outcome, Tries, after_drain, after_end, after_loss, steps
from chisel_scheduler.rules import DEFAULT_RULES, PolicyRules
from chisel_scheduler.store.agents import lock_agent, note_quarantine, open_session, seen
from chisel_scheduler.store.changes import (
    apply,
    as_json,
    note_cancel,
    set_unreachable,
    spec_of,
    stop_of,
)
from chisel_scheduler.store.usage import release
from chisel_shared.contract.errors import Stale
from chisel_shared.contract.ids import AgentId, JobId
from chisel_shared.contract.job import EndReason, JobEnd, JobEvent, JobState, JobView
from chisel_shared.contract.messages import (
    AttemptDone,
    AttemptRef,
    Hello,
    Progress,
    Progressed,
    Renew,
    Renewed,
    Welcome,
)
from chisel_shared.runtime.db import Connection, Database
from chisel_shared.runtime.failpoints import failpoint

_LOST_REASONS = (EndReason.AGENT_LOST, EndReason.LEASE_EXPIRED)

_UNDER_WAY = timedelta(seconds=30)
"""How long the answer to a claim may be under way, repeats included. Later is no harm either: the
repeated claim finds its attempt ended and gets nothing."""

_HELD = """
select attempts.*, jobs.state, jobs.cancel_requested_at, jobs.unreachable, jobs.cancel_signal,
    jobs.cancel_grace_seconds
from attempts join jobs on jobs.id = attempts.job_id
where attempts.agent_id = $1 and attempts.ended_at is null
order by attempts.job_id
"""

# The job's row is the one locked: whoever changes a job takes it before the attempt's.
_ONE = """
select attempts.*, jobs.state, jobs.retries, jobs.repeated, jobs.cancel_requested_at, jobs.unreachable,
    jobs.cancel_signal, jobs.cancel_grace_seconds, jobs.spec, jobs.agent_name, (
        select count(*) from attempts before
        where before.job_id = jobs.id and before.attempt < attempts.attempt and before.evicted_at is not null
    ) as evictions
from jobs join attempts on attempts.job_id = jobs.id
where attempts.job_id = $1 and attempts.attempt = $2
for update of jobs
"""

_ADOPT = """
update attempts set session = $3, lease_until = $4::timestamptz + lease
where job_id = $1 and attempt = $2 and ended_at is null
"""

_STARTED = """
update attempts set started_at = $3
where job_id = $1 and attempt = $2 and started_at is null
"""

_RENEW = """
update attempts set lease_until = greatest(lease_until, $4::timestamptz + lease)
where agent_id = $1 and session = $2 and ended_at is null
    and (job_id, attempt) in (select * from unnest($3::text[], $5::int[]))
"""

_END = """
with ended as (
    update attempts set ended_at = $3, ending = $4, ended_by = $5
    where job_id = $1 and attempt = $2 and ended_at is null
    returning agent_id, gpu_count, claimed_at
)
update agents set gpus_held = gpus_held - ended.gpu_count, free_since = $3
from ended, jobs where agents.id = ended.agent_id and jobs.id = $1
returning ended.gpu_count, ended.claimed_at, jobs.user_id, jobs.project_id
"""

_ARCHIVED = """
select job_id, attempt from attempts
where agent_id = $1 and archived_at is not null
    and (job_id, attempt) in (select * from unnest($2::text[], $3::int[]))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class HelloOutcome:
    welcome: Welcome
    changed: tuple[JobView, ...]
    """The jobs whose attempts were lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewOutcome:
    renewed: Renewed
    changed: tuple[JobView, ...]
    """The jobs whose agent is heard again."""
    quarantine_changed: bool = False


class Attempts:
    """What agents say about the attempts they hold, each in one transaction."""

    def __init__(self, *, database: Database, rules: PolicyRules = DEFAULT_RULES) -> None:
        self._database, self._rules = database, rules

    async def hello(self, ask: Hello, *, now: datetime) -> HelloOutcome:
        """Begin a session: adopted attempts move to it, open ones of older sessions are lost."""

        async def work(c: Connection) -> HelloOutcome:
            await open_session(c, ask, now=now)
            adopted = {(ref.job_id, ref.attempt) for ref in ask.adopt}
            keep: list[AttemptRef] = []
            changed: list[JobView | None] = []
            for held in await c.fetch(_HELD, ask.agent_id):
                job_id, attempt = held["job_id"], held["attempt"]
                # A repeated hello finds attempts of its own session, which it could not know of.
                if held["session"] != ask.session and (job_id, attempt) not in adopted:
                    end = JobEnd(reason=EndReason.AGENT_LOST, detail="the agent restarted without the job")
                    changed.append(await self._lose(c, job_id, attempt, end, by="scheduler", now=now))
                    continue
                if held["unreachable"]:
                    changed.append(await set_unreachable(c, job_id, attempt, unreachable=False, now=now))
                await c.execute(_ADOPT, job_id, attempt, ask.session, now)
                if (job_id, attempt) in adopted:
                    keep.append(AttemptRef(job_id=job_id, attempt=attempt))
            welcome = Welcome(keep=tuple(keep), archived=await _archived(c, ask.agent_id, ask.finished))
            return HelloOutcome(welcome=welcome, changed=tuple(job for job in changed if job))

        return await self._database.run(work)

    async def progress(self, ask: Progress, *, now: datetime) -> tuple[Progressed, JobView | None]:
        """Let an attempt enter a state; None for the job when it was there already."""

        async def work(c: Connection) -> tuple[Progressed, JobView | None]:
            row = _own(ask, await c.fetchrow(_ONE, ask.job_id, ask.attempt))
            job = None
            for event in steps(JobState(row["state"]), REACHED[ask.state]):
                job = await _step(c, ask.job_id, ask.attempt, event, now)
            cancelled = _is_to_end(row)
            return Progressed(cancel_requested=cancelled, stop=stop_of(row)), job

        return await self._database.run(work)

    async def renew(self, ask: Renew, *, now: datetime) -> RenewOutcome:
        """Prolong the leases of what the agent holds; say what it must end and what is archived."""

        async def work(c: Connection) -> RenewOutcome:
            agent = await seen(c, ask.agent_id, ask.session, now=now, draining=ask.draining)
            quarantine_changed = await note_quarantine(c, agent, ask, now=now)
            held = {
                (row["job_id"], row["attempt"]): row
                for row in await c.fetch(_HELD, ask.agent_id)
                if row["session"] == ask.session
            }
            changed = []
            for (job_id, attempt), row in held.items():
                if row["unreachable"]:
                    changed.append(await set_unreachable(c, job_id, attempt, unreachable=False, now=now))
            changed += await self._forgotten(c, held, ask, now)
            jobs, attempts = _columns(ask.attempts)
            if jobs:
                await c.execute(_RENEW, ask.agent_id, ask.session, jobs, now, attempts)
            renewed, cancel, gone, stops = [], [], [], []
            for ref in ask.attempts:
                row = held.get((ref.job_id, ref.attempt))
                if row is None:
                    gone.append(ref)
                elif _is_to_end(row):
                    cancel.append(ref)
                    stops.append(stop_of(row))
                else:
                    renewed.append(ref)
            answer = Renewed(
                renewed=tuple(renewed),
                cancel=tuple(cancel),
                gone=tuple(gone),
                archived=await _archived(c, ask.agent_id, ask.finished),
                stops=tuple(stops),
            )
            return RenewOutcome(
                renewed=answer,
                changed=tuple(job for job in changed if job),
                quarantine_changed=quarantine_changed,
            )

        return await self._database.run(work)

    async def _forgotten(
        self, c: Connection, held: dict[tuple[JobId, int], Any], ask: Renew, now: datetime
    ) -> list[JobView | None]:
        """Take back what was given to the agent but never arrived: it names neither the attempt nor any
        progress of it long after the claim. Nothing else would ever end such an attempt."""
        named = {(ref.job_id, ref.attempt) for ref in ask.attempts}
        end = JobEnd(reason=EndReason.AGENT_LOST, detail="the agent never learned of the job")
        changed = []
        for (job_id, attempt), row in list(held.items()):
            late = now - row["claimed_at"] > _UNDER_WAY
            if (job_id, attempt) not in named and late and row["state"] == JobState.ASSIGNED:
                changed.append(await self._lose(c, job_id, attempt, end, by="scheduler", now=now))
                del held[job_id, attempt]
        return changed

    async def done(self, ask: AttemptDone, *, now: datetime) -> JobView | None:
        """End an attempt with what its agent says; None when it was said before. `Stale` when the end
        was decided without the agent."""

        async def work(c: Connection) -> JobView | None:
            await lock_agent(c, ask.agent_id)
            row = await c.fetchrow(_ONE, ask.job_id, ask.attempt)
            if row is not None and row["agent_id"] == ask.agent_id and row["ended_by"] == "agent":
                return None
            row = _own(ask, row)
            if ask.end.reason in _LOST_REASONS:
                return await self._lose(c, ask.job_id, ask.attempt, ask.end, by="agent", now=now)
            drained = _is_evicted(row) and ask.end.reason is EndReason.USER
            outcome = _drained(row, ask.end) if drained else after_end(ask.end, _tries(row))
            if drained and outcome.end is not None:
                await note_cancel(c, ask.job_id, by=row["evicted_by"], reason=row["evict_reason"])
            *before, last = steps(JobState(row["state"]), outcome.event)
            for event in before:
                await _step(c, ask.job_id, ask.attempt, event, now)
            job = await apply(
                c,
                ask.job_id,
                ask.attempt,
                last,
                now=now,
                end=outcome.end,
                repeated=last is JobEvent.REQUEUE and not drained,
                waiting=outcome.waiting,
            )
            failpoint("done.applied")
            end = msgspec.structs.replace(ask.end, reason=EndReason.DRAIN) if drained else ask.end
            await self._end(c, ask.job_id, ask.attempt, end, by="agent", now=now)
            failpoint("done.ended")
            return job

        return await self._database.run(work)

    async def lose(
        self,
        ref: AttemptRef,
        agent_id: AgentId,
        reason: EndReason,
        *,
        expired_before: datetime | None = None,
        seen_before: datetime | None = None,
        now: datetime,
    ) -> JobView | None:
        """Declare the attempt of a silent agent lost, unless it has ended or, with `expired_before`, was
        renewed since or, with `seen_before`, its agent was heard since. Silence does not tell that user code
        never ran: it counts as run."""

        async def work(c: Connection) -> JobView | None:
            agent = await lock_agent(c, agent_id)
            row = await c.fetchrow(_ONE, ref.job_id, ref.attempt)
            if agent is None or row is None or row["ended_at"] is not None:
                return None
            if expired_before is not None and row["lease_until"] >= expired_before:
                return None
            if seen_before is not None and agent["last_seen"] >= seen_before:
                return None
            end = JobEnd(reason=reason)
            return await self._lose(c, ref.job_id, ref.attempt, end, by="scheduler", now=now, ran=True)

        return await self._database.run(work)

    async def flag_unreachable(self, agent_id: AgentId, *, now: datetime) -> list[JobView]:
        """Tell the owners of what a silent agent holds."""

        async def work(c: Connection) -> list[JobView]:
            agent = await lock_agent(c, agent_id)
            if agent is None or agent["state"] == "online":
                return []
            rows = await c.fetch(_HELD, agent_id)
            jobs = [
                await set_unreachable(c, row["job_id"], row["attempt"], unreachable=True, now=now)
                for row in rows
            ]
            return [job for job in jobs if job]

        return await self._database.run(work)

    async def _lose(
        self,
        c: Connection,
        job_id: JobId,
        attempt: int,
        end: JobEnd,
        *,
        by: str,
        now: datetime,
        ran: bool = False,
    ) -> JobView | None:
        """End an attempt that is gone; its job waits again or ends. The agent's row is locked. Of an agent
        that speaks, what it reported tells whether user code `ran`."""
        row = await c.fetchrow(_ONE, job_id, attempt)
        ran = ran or row["started_at"] is not None
        outcome = after_loss(end, _tries(row), ran=ran)
        job = await apply(
            c,
            job_id,
            attempt,
            outcome.event,
            now=now,
            end=outcome.end,
            repeated=ran and outcome.event is JobEvent.REQUEUE,
            waiting=outcome.waiting,
        )
        await self._end(c, job_id, attempt, end, by=by, now=now)
        return job

    async def _end(
        self, c: Connection, job_id: JobId, attempt: int, end: JobEnd, *, by: str, now: datetime
    ) -> None:
        ended = await c.fetchrow(_END, job_id, attempt, now, as_json(end), by)
        if ended is not None:
            await release(c, ended, rules=self._rules, now=now)


def _own(ask: Progress | AttemptDone, row: Any | None) -> Any:
    """The row of the open attempt that `ask` speaks for; `Stale` when it is not the sender's."""
    if (
        row is None
        or row["ended_at"] is not None
        or (row["agent_id"], row["session"]) != (ask.agent_id, ask.session)
    ):
        raise Stale(f"attempt {ask.attempt} of job {ask.job_id} is not this session's")
    return row


def _is_evicted(row: Any) -> bool:
    """Whether it ends because its agent is drained; a user's wish comes first."""
    return row["evicted_at"] is not None and row["cancel_requested_at"] is None


def _is_to_end(row: Any) -> bool:
    return row["evicted_at"] is not None or row["cancel_requested_at"] is not None


def _drained(row: Any, end: JobEnd) -> Outcome:
    """What the end of an attempt whose agent is drained does to its job."""
    drained = f"{row['agent_name']} {cordon_clause('drained', row['evicted_by'], row['evict_reason'])}"
    return after_drain(end, _tries(row), ran=row["started_at"] is not None, drained=drained)


async def _step(c: Connection, job_id: JobId, attempt: int, event: JobEvent, now: datetime) -> JobView | None:
    if event is JobEvent.START:
        await c.execute(_STARTED, job_id, attempt, now)
    return await apply(c, job_id, attempt, event, now=now)


def _tries(row: Any) -> Tries:
    return Tries(
        attempt=row["attempt"],
        repeated=row["repeated"],
        retries=row["retries"],
        retry_on=spec_of(row).retry_on,
        cancel_requested=row["cancel_requested_at"] is not None,
        evicted=row["evictions"],
    )


async def _archived(c: Connection, agent_id: AgentId, refs: Sequence[AttemptRef]) -> tuple[AttemptRef, ...]:
    if not refs:
        return ()
    rows = await c.fetch(_ARCHIVED, agent_id, *_columns(refs))
    return tuple(AttemptRef(job_id=row["job_id"], attempt=row["attempt"]) for row in rows)


def _columns(refs: Sequence[AttemptRef]) -> tuple[list[JobId], list[int]]:
    return [ref.job_id for ref in refs], [ref.attempt for ref in refs]
