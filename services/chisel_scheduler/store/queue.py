"""The queue and the GPUs as users ask about them: who is ahead, who holds what, what is free."""

from collections.abc import Mapping, Sequence
from typing import Any

from chisel_scheduler.explain import MOST_COUNTED, why_waiting
from chisel_scheduler.store.agents import best_place
from chisel_scheduler.store.changes import spec_of, view
from chisel_scheduler.store.finding import find
from chisel_shared.contract.gpus import GPUType
from chisel_shared.contract.ids import JobId, ProjectId
from chisel_shared.contract.job import JobSpec, JobState
from chisel_shared.contract.messages import GetSpec, GpuKind, Neighbour, Why, WhyJob
from chisel_shared.runtime.db import Connection, Database

_MOST_NEIGHBOURS = 20

# Counted size by size and up to a bound, on the index of the queue: a long queue does not make
# anybody's question slow. Order and bound are there for the planner: without the order it reads the
# table, and of a bound given as a parameter it thinks the worst.
_AHEAD = f"""
select job.id, (
    select sum(counted.jobs) from unnest($2::int[]) as size(gpus)
    cross join lateral (
        select count(*) as jobs from (
            select from jobs other
            where other.state = 'queued' and other.pool = job.pool and other.gpu_model = job.gpu_model
                and other.gpu_count = size.gpus and (other.rank, other.seq) < (job.rank, job.seq)
            order by other.rank, other.seq limit {MOST_COUNTED + 1}
        ) bounded
    ) counted
) as ahead
from jobs job where job.id = any($1::text[])
"""

_WHO_IS_AHEAD = f"""
select other.* from jobs job, unnest($2::int[]) as size(gpus)
cross join lateral (
    select * from jobs found
    where found.state = 'queued' and found.pool = job.pool and found.gpu_model = job.gpu_model
        and found.gpu_count = size.gpus and (found.rank, found.seq) < (job.rank, job.seq)
    order by found.rank, found.seq limit {_MOST_NEIGHBOURS}
) other
where job.id = $1
order by other.rank, other.seq limit {_MOST_NEIGHBOURS}
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


async def reasons(c: Connection, rows: Sequence[Any]) -> Mapping[JobId, str]:
    """Why each queued job of `rows` waits."""
    queued = [row for row in rows if row["state"] == JobState.QUEUED]
    if not queued:
        return {}
    ahead = await count_ahead(c, queued)
    shapes = {(row["pool"], row["gpu_model"], row["gpu_count"]) for row in queued}
    best = {shape: await best_place(c, *shape) for shape in shapes}
    return {
        row["id"]: why_waiting(
            row["gpu_model"],
            row["gpu_count"],
            ahead=ahead.get(row["id"], 0),
            best=best[row["pool"], row["gpu_model"], row["gpu_count"]],
        )
        for row in queued
    }


async def count_ahead(c: Connection, rows: Sequence[Any]) -> Mapping[JobId, int]:
    """How many jobs go before each of `rows`, counted up to a bound."""
    counted = await c.fetch(_AHEAD, [row["id"] for row in rows], _sizes())
    return {row["id"]: int(row["ahead"]) for row in counted}


class Queue:
    """Questions that change nothing, each in one transaction."""

    def __init__(self, *, database: Database, pool: str) -> None:
        self._database, self._pool = database, pool

    async def why(self, ask: WhyJob) -> Why:
        """Why a job is where it is."""

        async def work(c: Connection) -> Why:
            row = await find(c, ask.project_id, ask.job_id, asked_by=ask.asked_by)
            if row["state"] != JobState.QUEUED:
                return Why(job=view(row))
            waiting = (await reasons(c, [row])).get(row["id"], "")
            ahead = (await count_ahead(c, [row]))[row["id"]]
            first = await c.fetch(_WHO_IS_AHEAD, row["id"], _sizes())
            holding = await c.fetch(_WHO_HOLDS, row["pool"], row["gpu_model"])
            return Why(
                job=view(row, waiting=waiting),
                position=ahead + 1 if ahead <= MOST_COUNTED else None,
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


def _sizes() -> list[int]:
    return sorted({gpu.count for gpu in GPUType})
