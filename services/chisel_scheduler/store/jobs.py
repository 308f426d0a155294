"""Jobs as users ask about them: submit, read, cancel."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chisel_scheduler.explain import no_such_gpus, over_quota, why_waiting
from chisel_scheduler.quota import too_small
from chisel_scheduler.rules import DEFAULT_RULES, PolicyRules
from chisel_scheduler.store.agents import places
from chisel_scheduler.store.changes import (
    apply,
    as_json,
    note_cancel,
    request_cancel,
    say,
    spec_of,
    stop_of,
    view,
)
from chisel_scheduler.store.finding import find
from chisel_scheduler.store.standing import Standings, reasons
from chisel_shared.contract.errors import Conflict, NoSuchGpus, OverQuota
from chisel_shared.contract.gpus import GPUType
from chisel_shared.contract.ids import UserId, new_id
from chisel_shared.contract.job import EndReason, JobEnd, JobEvent, JobState, JobView
from chisel_shared.contract.messages import CancelJob, GetJob, ListJobs, SubmitJob, Submitted
from chisel_shared.contract.stops import Stop
from chisel_shared.runtime.db import Connection, Database
from chisel_shared.runtime.failpoints import failpoint

MAX_LISTED = 500
MAX_LISTING_BYTES = 512 * 1024
"""Arguments of all jobs in one listing: the answer must fit into one message of the bus."""

_INSERT = """
insert into jobs (id, project_id, user_id, idempotency_key, spec, pool, gpu_model, gpu_count, priority,
    retries, time_limit_seconds, state, submitted_at, queued_at, since, user_name)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'queued', $12, $12, $12, $13)
on conflict (user_id, idempotency_key) do nothing
returning *
"""

_LIST = """
select * from jobs where project_id = $1 order by seq desc limit $2
"""

_LIST_UNFINISHED = """
select * from jobs where project_id = $1 and ended_at is null order by seq desc limit $2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """The job afterwards, whether that changed it, and how an agent that holds it is to end it."""

    job: JobView
    changed: bool = False
    stop: Stop


class Jobs:
    """What users ask of the scheduler, each in one transaction."""

    def __init__(self, *, database: Database, pool: str, rules: PolicyRules = DEFAULT_RULES) -> None:
        self._database, self._pool, self._rules = database, pool, rules

    async def submit(self, ask: SubmitJob, gpu: GPUType, *, now: datetime) -> Submitted:
        """Queue a job, or find the one this key was used for before."""

        async def work(c: Connection) -> Submitted:
            spec = ask.spec
            row = await c.fetchrow(
                _INSERT,
                new_id(),
                ask.project_id,
                ask.user_id,
                ask.idempotency_key,
                as_json(spec),
                self._pool,
                gpu.model,
                gpu.count,
                spec.priority,
                spec.retries,
                spec.time_limit_seconds,
                now,
                ask.user_name,
            )
            if row is None:
                return Submitted(job=await self._earlier(c, ask, now), created=False)
            failpoint("submit.inserted")
            standings = Standings(c, now, rules=self._rules)
            over = too_small(gpu.count, (await standings.lane(row)).quotas)
            if over is not None:
                raise OverQuota(over_quota(gpu.count, over))
            stands = (await standings.of([row]))[row["id"]]
            if stands.best is None or stands.best.gpus_total < gpu.count:
                refusal = no_such_gpus(gpu.model, gpu.count, await places(c, self._pool))
                if refusal is not None:
                    raise NoSuchGpus(refusal)
            waiting = why_waiting(gpu.model, gpu.count, stands, mine=True)
            return Submitted(job=await say(c, row, "submit", now=now, waiting=waiting), created=True)

        return await self._database.run(work)

    async def _earlier(self, c: Connection, ask: SubmitJob, now: datetime) -> JobView:
        row = await c.fetchrow(
            "select * from jobs where user_id = $1 and idempotency_key = $2", ask.user_id, ask.idempotency_key
        )
        if row["project_id"] != ask.project_id or spec_of(row) != ask.spec:
            raise Conflict("this idempotency key was used for another job before: use a new one")
        return await self._explained(c, row, now, asked_by=ask.user_id)

    async def get(self, ask: GetJob, *, now: datetime) -> JobView:
        async def work(c: Connection) -> JobView:
            row = await find(c, ask.project_id, ask.job_id, asked_by=ask.asked_by)
            return await self._explained(c, row, now, asked_by=ask.asked_by)

        return await self._database.run(work)

    async def listing(self, ask: ListJobs, *, now: datetime) -> tuple[JobView, ...]:
        """The newest jobs first, as many as were asked for and fit into one answer."""

        async def work(c: Connection) -> tuple[JobView, ...]:
            sentence = _LIST_UNFINISHED if ask.unfinished else _LIST
            rows = await c.fetch(sentence, ask.project_id, max(1, min(ask.limit, MAX_LISTED)))
            standings = Standings(c, now, rules=self._rules)
            why = await reasons(standings, rows, asked_by=ask.asked_by)
            jobs: list[JobView] = []
            room = MAX_LISTING_BYTES
            for row in rows:
                job = view(row, waiting=why.get(row["id"], ""))
                room -= sum(len(part) for part in job.argv)
                if room < 0 and jobs:
                    break
                jobs.append(job)
            return tuple(jobs)

        return await self._database.run(work)

    async def cancel(self, ask: CancelJob, *, now: datetime) -> Cancelled:
        """End a queued job at once; note the wish for a held one; leave a finished one as it is."""

        async def work(c: Connection) -> Cancelled:
            found = await find(c, ask.project_id, ask.job_id, asked_by=ask.asked_by)
            row = await c.fetchrow("select * from jobs where id = $1 for update", found["id"])
            if row["state"] == JobState.QUEUED:
                await note_cancel(c, row["id"], by=ask.requested_by, reason=ask.reason)
                end = JobEnd(reason=EndReason.USER)
                job = await apply(c, row["id"], row["attempt"], JobEvent.CANCEL, now=now, end=end)
                return Cancelled(job=job or view(row), changed=job is not None, stop=ask.stop)
            wanted = await request_cancel(c, row["id"], ask, now=now)
            if wanted is None:
                return Cancelled(job=view(row), stop=stop_of(row))
            return Cancelled(job=wanted, changed=True, stop=ask.stop)

        return await self._database.run(work)

    async def pools_with_queue(self) -> list[str]:
        """The pools in which something waits."""

        async def work(c: Connection) -> list[str]:
            rows = await c.fetch(
                "select pool from (select distinct pool from agents) known"
                " where exists (select from jobs where state = 'queued' and jobs.pool = known.pool)"
            )
            return [row["pool"] for row in rows]

        return await self._database.run(work)

    async def _explained(self, c: Connection, row: Any, now: datetime, *, asked_by: UserId) -> JobView:
        why = await reasons(Standings(c, now, rules=self._rules), [row], asked_by=asked_by)
        return view(row, waiting=why.get(row["id"], ""))
