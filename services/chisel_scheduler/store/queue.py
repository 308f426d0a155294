"""The queue and the GPUs as users ask about them: who is ahead, who holds what, what is free."""

from datetime import datetime
from typing import Any

from chisel_scheduler.explain import MOST_COUNTED, why_waiting
from chisel_scheduler.rules import DEFAULT_RULES, PolicyRules
from chisel_scheduler.store.changes import spec_of, view
from chisel_scheduler.store.finding import find
from chisel_scheduler.store.standing import Standings
from chisel_shared.contract.ids import ProjectId
from chisel_shared.contract.job import JobSpec, JobState
from chisel_shared.contract.messages import GetSpec, GpuKind, Neighbour, Why, WhyJob
from chisel_shared.runtime.db import Connection, Database

_MOST_NEIGHBOURS = 20

_WHO_IS_AHEAD = """
select * from unnest($1::text[]) with ordinality as wanted(id, place) join jobs on jobs.id = wanted.id
order by wanted.place
"""

_WHO_HOLDS = f"""
select jobs.* from attempts join jobs on jobs.id = attempts.job_id
where attempts.ended_at is null and jobs.pool = $1 and jobs.gpu_model = $2
order by attempts.claimed_at limit {_MOST_NEIGHBOURS}
"""

_KINDS = """
select gpu_model as model,
    coalesce(sum(gpus_total) filter (where takes_jobs), 0)::int as total,
    coalesce(sum(gpus_free) filter (where takes_jobs), 0)::int as free,
    coalesce(max(gpus_free) filter (where takes_jobs), 0)::int as largest_free,
    coalesce(max(gpus_total) filter (where takes_jobs), 0)::int as largest,
    count(*) filter (where takes_jobs)::int as agents,
    coalesce(sum(gpus_total) filter (where not takes_jobs and state <> 'offline'), 0)::int as away,
    coalesce(sum(gpus_quarantined) filter (where takes_jobs), 0)::int as quarantined,
    (
        select count(*) from jobs
        where jobs.state = 'queued' and jobs.pool = $1 and jobs.gpu_model = known.gpu_model
    )::int as queued
from agents known
where pool = $1 and gpus_total > 0
group by gpu_model order by gpu_model
"""


class Queue:
    """Questions that change nothing, each in one transaction."""

    def __init__(self, *, database: Database, pool: str, rules: PolicyRules = DEFAULT_RULES) -> None:
        self._database, self._pool, self._rules = database, pool, rules

    async def why(self, ask: WhyJob, *, now: datetime) -> Why:
        """Why a job is where it is."""

        async def work(c: Connection) -> Why:
            row = await find(c, ask.project_id, ask.job_id, asked_by=ask.asked_by)
            if row["state"] != JobState.QUEUED:
                return Why(job=view(row))
            standings = Standings(c, now, rules=self._rules)
            stands = (await standings.of([row]))[row["id"]]
            mine = row["user_id"] == ask.asked_by
            waiting = why_waiting(row["gpu_model"], row["gpu_count"], stands, mine=mine)
            # Nobody is ahead of a job that its quota holds back: it is not in the queue by then.
            counted = stands.quota is None and stands.ahead <= MOST_COUNTED
            named = await standings.ahead_of(row) if stands.quota is None else []
            first = await c.fetch(_WHO_IS_AHEAD, named)
            holding = await c.fetch(_WHO_HOLDS, row["pool"], row["gpu_model"])
            return Why(
                job=view(row, waiting=waiting),
                position=stands.ahead + 1 if counted else None,
                waiting=waiting,
                ahead=tuple(_neighbour(other, ask.project_id) for other in first),
                holding=tuple(_neighbour(other, ask.project_id) for other in holding),
            )

        return await self._database.run(work)

    async def spec(self, ask: GetSpec) -> JobSpec:
        """What a job was submitted with."""

        async def work(c: Connection) -> JobSpec:
            return spec_of(await find(c, ask.project_id, ask.job_id, asked_by=ask.asked_by))

        return await self._database.run(work)

    async def gpus(self) -> tuple[GpuKind, ...]:
        """The GPUs of every model, by its name."""

        async def work(c: Connection) -> tuple[GpuKind, ...]:
            return tuple(GpuKind(**dict(row)) for row in await c.fetch(_KINDS, self._pool))

        return await self._database.run(work)


def _neighbour(row: Any, project_id: ProjectId) -> Neighbour:
    job = view(row)
    ours = row["project_id"] == project_id
    limit = row["time_limit_seconds"]
    return Neighbour(
        id=job.id if ours else "",
        app_name=job.app_name if ours else "",
        user=job.user,
        gpu=job.gpu,
        since=job.since,
        where=job.agent_name,
        ends_by=job.started_at + limit if job.started_at is not None and limit is not None else None,
    )
