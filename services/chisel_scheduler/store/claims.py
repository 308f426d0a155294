"""A claim: the one transaction that gives a job to an agent."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from chisel_scheduler.placement import (
    ALL_ONES,
    FEW_ONES,
    SHORTEST_WAIT_SECONDS,
    Choice,
    Room,
    Waiting,
    choose,
)
from chisel_scheduler.rules import DEFAULT_RULES, PolicyRules
from chisel_scheduler.store.agents import seen
from chisel_scheduler.store.changes import Holder, apply, spec_of
from chisel_scheduler.store.lanes import FROM_THE_FIRST, Cursor, to_weigh
from chisel_scheduler.store.reserving import reservations
from chisel_scheduler.store.usage import HOLD, USAGE_LOCK
from chisel_shared.contract.ids import JobId
from chisel_shared.contract.job import JobEvent
from chisel_shared.contract.messages import Assignment, Claim, Claimed
from chisel_shared.runtime.db import Connection, Database
from chisel_shared.runtime.failpoints import failpoint

_NEIGHBOURS_PER_HOLE = 4
"""Of each hole size below the asker's the four latest: at most so many jobs are left to them."""

_MOST_READS = 4
"""Of more lanes than are read at once one claim reads so many times as many, where all have to wait."""

_LOCK_POOL = f"select pg_advisory_xact_lock(hashtextextended('chisel-pool:' || $1, 0)), {USAGE_LOCK}"

_EARLIER = """
select attempts.attempt, attempts.gpu_count, attempts.ended_at, jobs.id, jobs.project_id, jobs.spec
from attempts join jobs on jobs.id = attempts.job_id
where attempts.agent_id = $1 and attempts.session = $2 and attempts.claim_key = $3
"""

_NEIGHBOURS = f"""
select agent.* from generate_series(1, $3::int - 1) as hole(gpus)
cross join lateral (
    select id, gpus_free, free_since from agents
    where takes_jobs and pool = $1 and gpu_model = $2
        and gpus_free = hole.gpus and last_seen > $4
    order by free_since desc limit {_NEIGHBOURS_PER_HOLE}
) agent
"""

_OPEN = f"""
with held as (
    {HOLD}
), opened as (
    insert into attempts (job_id, attempt, agent_id, session, claim_key, gpu_count, claimed_at, lease,
        lease_until)
    select $1, $2::int, $3, $4, $5, $6::int, $7::timestamptz, own.lease, $7 + own.lease from jobs, lateral (
        select make_interval(secs => coalesce((jobs.spec ->> 'lease_seconds')::float8, $8::float8)) as lease
    ) own
    where jobs.id = $1
)
update agents set gpus_held = gpus_held + $6, free_since = $7
from jobs
where agents.id = $3 and gpus_held + gpus_quarantined + $6 <= gpus_total and jobs.id = $1
returning jobs.id, jobs.project_id, jobs.spec
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRules:
    """The times a claim goes by, in seconds."""

    lease: float
    attentive: float
    patience: float
    policy: PolicyRules = DEFAULT_RULES


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the agent is told, and which jobs were overtaken by it."""

    claimed: Claimed
    overtaken: tuple[JobId, ...] = ()
    new: bool = False


class Claims:
    """Gives jobs to agents that ask."""

    def __init__(self, *, database: Database, rules: ClaimRules) -> None:
        self._database, self._rules = database, rules
        # Where to read on in a queue of more lanes than are read at once. Losing it costs nothing.
        self._after: dict[tuple[str, str], Cursor] = {}

    async def claim(self, ask: Claim, *, now: datetime) -> Answer:
        """The job policy gives to the asking agent now. The same key gets the same answer again."""

        async def work(c: Connection) -> Answer:
            agent = await seen(c, ask.agent_id, ask.session, now=now)
            earlier = await c.fetchrow(_EARLIER, ask.agent_id, ask.session, ask.key)
            if earlier is not None:
                assignment = self._assignment(earlier, earlier["attempt"], earlier["gpu_count"])
                return Answer(claimed=Claimed(assignment if earlier["ended_at"] is None else None))
            free = min(ask.gpus_free, agent["gpus_free"])
            if free <= 0 or not agent["takes_jobs"]:
                return Answer(claimed=Claimed(None))
            await c.execute(_LOCK_POOL, agent["pool"])
            choice = await self._choose(c, agent, free, now)
            if choice.job is None:
                return Answer(claimed=Claimed(None, choice.ask_again_seconds))
            return await self._give(c, ask, agent["name"], choice.job, choice.overtaken, now)

        return await self._database.run(work)

    async def _choose(self, c: Connection, agent: Any, free: int, now: datetime) -> Choice:
        pool, model = agent["pool"], agent["gpu_model"]
        # Of more lanes than are read at once, the next after those that the last claim read, and on while
        # nothing of those may start.
        began = after = self._after.pop((pool, model), FROM_THE_FIRST)
        for _ in range(_MOST_READS):
            read_after = after
            few, more = await self._queue(c, pool, model, now, ones=FEW_ONES, after=read_after)
            after = more or FROM_THE_FIRST
            startable = any(job.gpu_count <= free for job in few)
            if startable or began == after == FROM_THE_FIRST:
                break
        if after != FROM_THE_FIRST:
            self._after[pool, model] = after
        if not startable:
            return Choice()
        asker = Room(agent_id=agent["id"], gpus_free=free, since=agent["free_since"])
        kept = await reservations(c, pool, model, few, now, rules=self._rules.policy)
        others = await self._neighbours(c, pool, model, free, now)
        patience = self._rules.patience
        choice = choose(asker, few, others, now, patience_seconds=patience, reservations=kept)
        if choice.job is not None or sum(job.gpu_count == 1 for job in few) < FEW_ONES:
            return choice
        queue, _ = await self._queue(c, pool, model, now, ones=ALL_ONES, after=read_after)
        return choose(asker, queue, others, now, patience_seconds=patience, reservations=kept)

    async def _queue(
        self, c: Connection, pool: str, model: str, now: datetime, *, ones: int, after: Cursor
    ) -> tuple[list[Waiting], Cursor | None]:
        return await to_weigh(c, pool, model, now, rules=self._rules.policy, ones=ones, after=after)

    async def _neighbours(
        self, c: Connection, pool: str, model: str, free: int, now: datetime
    ) -> Sequence[Room]:
        if free == 1:
            return ()
        attentive_since = now - timedelta(seconds=self._rules.attentive)
        rows = await c.fetch(_NEIGHBOURS, pool, model, free, attentive_since)
        return [Room(agent_id=row["id"], gpus_free=row["gpus_free"], since=row["free_since"]) for row in rows]

    async def _give(
        self,
        c: Connection,
        ask: Claim,
        agent_name: str,
        job: Waiting,
        overtaken: tuple[JobId, ...],
        now: datetime,
    ) -> Answer:
        job_id, gpu_count = job.id, job.gpu_count
        holder = Holder(agent_id=ask.agent_id, name=agent_name)
        taken = await apply(c, job_id, job.attempt, JobEvent.CLAIM, now=now, holder=holder)
        if taken is None:  # cancelled since it was read: the queue has changed, so the agent looks again
            return Answer(claimed=Claimed(None, SHORTEST_WAIT_SECONDS))
        failpoint("claim.applied")
        opened = await c.fetchrow(
            _OPEN,
            job_id,
            taken.attempt,
            ask.agent_id,
            ask.session,
            ask.key,
            gpu_count,
            now,
            self._rules.lease,
        )
        if opened is None:
            raise RuntimeError(f"placement gave {gpu_count} GPUs to {ask.agent_id}, which has fewer free")
        failpoint("claim.opened")
        assignment = self._assignment(opened, taken.attempt, gpu_count)
        return Answer(claimed=Claimed(assignment), overtaken=overtaken, new=True)

    def _assignment(self, row: Any, attempt: int, gpu_count: int) -> Assignment:
        spec = spec_of(row)
        return Assignment(
            job_id=row["id"],
            attempt=attempt,
            project_id=row["project_id"],
            spec=spec,
            gpu_count=gpu_count,
            lease_seconds=spec.lease_seconds or self._rules.lease,
        )
