"""Attempts as storage and the reaper ask about them: what to archive, which leases ran out."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from chisel_scheduler.store.changes import end_of, set_archived, spec_of
from chisel_shared.contract.errors import Conflict, NotFound, Stale
from chisel_shared.contract.ids import AgentId, JobId
from chisel_shared.contract.messages import AttemptRef, AttemptView, GetSecretsOfAttempt, SecretsOfAttempt
from chisel_shared.runtime.db import Connection, Database
from chisel_shared.runtime.failpoints import failpoint

MAX_LISTED = 1_000

_ONE = """
select attempts.*, jobs.project_id from attempts join jobs on jobs.id = attempts.job_id
where attempts.job_id = $1 and attempts.attempt = $2
"""

_HELD_SPEC = """
select jobs.project_id, jobs.spec from attempts
join jobs on jobs.id = attempts.job_id
join agents on agents.id = attempts.agent_id and agents.session = attempts.session
where attempts.job_id = $1 and attempts.attempt = $2 and attempts.agent_id = $3
    and attempts.session = $4 and attempts.ended_at is null
"""

_UNARCHIVED = """
select attempts.*, jobs.project_id from attempts join jobs on jobs.id = attempts.job_id
where attempts.ended_at is not null and attempts.archived_at is null
order by attempts.ended_at limit $1
"""

_EXPIRED = """
select attempts.job_id, attempts.attempt, attempts.agent_id
from attempts join jobs on jobs.id = attempts.job_id
where attempts.ended_at is null and attempts.lease_until < $1 and jobs.retries > 0
    and attempts.lease <= $2
order by attempts.lease_until limit $3
"""

_OF_GONE_AGENTS = """
select attempts.job_id, attempts.attempt, attempts.agent_id
from attempts join agents on agents.id = attempts.agent_id join jobs on jobs.id = attempts.job_id
where attempts.ended_at is null and agents.last_seen < $1
    and (jobs.retries = 0 or attempts.lease_until < $2)
order by attempts.job_id limit $3
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overdue:
    """An attempt whose agent has been silent for too long."""

    ref: AttemptRef
    agent_id: AgentId


class Archive:
    """Attempts by what is still to be done about them, each question in one transaction."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def attempt(self, job_id: JobId, attempt: int) -> AttemptView:
        async def work(c: Connection) -> AttemptView:
            row = await c.fetchrow(_ONE, job_id, attempt)
            if row is None:
                raise NotFound(f"there is no attempt {attempt} of job {job_id[:80]!r}")
            return _view(row)

        return await self._database.run(work)

    async def secrets(self, ask: GetSecretsOfAttempt) -> SecretsOfAttempt:
        """What the job of an attempt is to find where; `Stale` unless the asking session holds it."""

        async def work(c: Connection) -> SecretsOfAttempt:
            row = await c.fetchrow(_HELD_SPEC, ask.job_id, ask.attempt, ask.agent_id, ask.session)
            if row is None:
                raise Stale(f"attempt {ask.attempt} of job {ask.job_id[:80]} is not this session's")
            return SecretsOfAttempt(project_id=row["project_id"], secrets=spec_of(row).secrets)

        return await self._database.run(work)

    async def unarchived(self, limit: int) -> tuple[AttemptView, ...]:
        """The oldest ended attempts whose output storage has not taken over."""

        async def work(c: Connection) -> tuple[AttemptView, ...]:
            rows = await c.fetch(_UNARCHIVED, max(1, min(limit, MAX_LISTED)))
            return tuple(_view(row) for row in rows)

        return await self._database.run(work)

    async def mark(self, job_id: JobId, attempt: int, *, now: datetime) -> bool:
        """Note that storage holds an attempt's output; whether that changed what users see.

        `Conflict` while the attempt runs: its output is not whole yet.
        """

        async def work(c: Connection) -> bool:
            row = await c.fetchrow(_ONE, job_id, attempt)
            if row is None:
                raise NotFound(f"there is no attempt {attempt} of job {job_id[:80]!r}")
            if row["ended_at"] is None:
                raise Conflict(f"attempt {attempt} of job {job_id} has not ended")
            if row["archived_at"] is not None:
                return False
            changed = await set_archived(c, job_id, attempt, now=now)
            failpoint("archive.noted")
            await c.execute(
                "update attempts set archived_at = $3 where job_id = $1 and attempt = $2",
                job_id,
                attempt,
                now,
            )
            return changed is not None

        return await self._database.run(work)

    async def expired(self, *, lease_before: datetime, longest: timedelta, limit: int) -> Sequence[Overdue]:
        """Open attempts of jobs that may run again whose lease ran out before then, of leases up to the
        `longest` that could have been renewed."""
        return await self._overdue(_EXPIRED, lease_before, longest, limit)

    async def gone(self, *, seen_before: datetime, lease_before: datetime, limit: int) -> Sequence[Overdue]:
        """Open attempts of agents not heard of since then; of jobs that may run again only those whose lease
        had run out by `lease_before`: until then the first copy may live."""
        return await self._overdue(_OF_GONE_AGENTS, seen_before, lease_before, limit)

    async def _overdue(self, sentence: str, *arguments: object) -> Sequence[Overdue]:
        async def work(c: Connection) -> Sequence[Overdue]:
            rows = await c.fetch(sentence, *arguments)
            return [
                Overdue(
                    ref=AttemptRef(job_id=row["job_id"], attempt=row["attempt"]), agent_id=row["agent_id"]
                )
                for row in rows
            ]

        return await self._database.run(work)


def _view(row: Any) -> AttemptView:
    return AttemptView(
        job_id=row["job_id"],
        attempt=row["attempt"],
        agent_id=row["agent_id"],
        project_id=row["project_id"],
        end=end_of(row),
        archived=row["archived_at"] is not None,
    )
