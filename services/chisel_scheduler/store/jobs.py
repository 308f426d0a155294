"""Jobs as users ask about them: submit, read, cancel."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from chisel_scheduler.explain import MOST_COUNTED, no_such_gpus, why_waiting
from chisel_scheduler.store.agents import best_place, places
from chisel_scheduler.store.changes import apply, as_json, request_cancel, say, spec_of, view
from chisel_shared.contract.errors import BadRequest, Conflict, NoSuchGpus, NotFound
from chisel_shared.contract.gpus import GPUType
from chisel_shared.contract.ids import JobId, ProjectId, is_id, new_id
from chisel_shared.contract.job import EndReason, JobEnd, JobEvent, JobState, JobView
from chisel_shared.contract.messages import SubmitJob, Submitted
from chisel_shared.runtime.db import Connection, Database

MAX_LISTED = 500
MAX_LISTING_BYTES = 512 * 1024
"""Arguments of all jobs in one listing: the answer must fit into one message of the bus."""
_MOST_NAMED = 5

_INSERT = """
insert into jobs (id, project_id, user_id, idempotency_key, spec, pool, gpu_model, gpu_count, priority,
    retries, time_limit_seconds, state, submitted_at, queued_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'queued', $12, $12)
on conflict (user_id, idempotency_key) do nothing
returning *
"""

# A range, not a pattern: it uses the primary key. '{' follows every character an id may have.
_BY_PREFIX = "select * from jobs where id >= $2 and id < $2 || '{' and project_id = $1 order by id limit $3"

_LIST = """
select * from jobs where project_id = $1 order by seq desc limit $2
"""

_LIST_UNFINISHED = """
select * from jobs where project_id = $1 and ended_at is null order by seq desc limit $2
"""

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


class Jobs:
    """What users ask of the scheduler, each in one transaction."""

    def __init__(self, *, database: Database, pool: str) -> None:
        self._database, self._pool = database, pool

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
            )
            if row is None:
                return Submitted(job=await self._earlier(c, ask), created=False)
            best = await best_place(c, self._pool, gpu.model, gpu.count)
            if best is None or best.gpus_total < gpu.count:
                refusal = no_such_gpus(gpu.model, gpu.count, await places(c, self._pool))
                if refusal is not None:
                    raise NoSuchGpus(refusal)
            waiting = why_waiting(gpu.model, gpu.count, ahead=(await _ahead(c, [row]))[row["id"]], best=best)
            return Submitted(job=await say(c, row, "submit", now=now, waiting=waiting), created=True)

        return await self._database.run(work)

    async def _earlier(self, c: Connection, ask: SubmitJob) -> JobView:
        row = await c.fetchrow(
            "select * from jobs where user_id = $1 and idempotency_key = $2", ask.user_id, ask.idempotency_key
        )
        if row["project_id"] != ask.project_id or spec_of(row) != ask.spec:
            raise Conflict("this idempotency key was used for another job before: use a new one")
        return await _explained(c, row)

    async def get(self, project_id: ProjectId, job_id: str) -> JobView:
        async def work(c: Connection) -> JobView:
            return await _explained(c, await _find(c, project_id, job_id))

        return await self._database.run(work)

    async def listing(self, project_id: ProjectId, *, unfinished: bool, limit: int) -> tuple[JobView, ...]:
        """The newest jobs first, as many as were asked for and fit into one answer."""

        async def work(c: Connection) -> tuple[JobView, ...]:
            sentence = _LIST_UNFINISHED if unfinished else _LIST
            rows = await c.fetch(sentence, project_id, max(1, min(limit, MAX_LISTED)))
            reasons = await _reasons(c, rows)
            jobs: list[JobView] = []
            room = MAX_LISTING_BYTES
            for row in rows:
                job = view(row, waiting=reasons.get(row["id"], ""))
                room -= sum(len(part) for part in job.argv)
                if room < 0 and jobs:
                    break
                jobs.append(job)
            return tuple(jobs)

        return await self._database.run(work)

    async def cancel(
        self, project_id: ProjectId, job_id: str, requested_by: str, *, now: datetime
    ) -> tuple[JobView, bool]:
        """End a queued job at once; note the wish for a held one; leave a finished one as it is.
        The job afterwards, and whether that changed it."""

        async def work(c: Connection) -> tuple[JobView, bool]:
            found = await _find(c, project_id, job_id)
            row = await c.fetchrow("select * from jobs where id = $1 for update", found["id"])
            if row["state"] == JobState.QUEUED:
                end = JobEnd(reason=EndReason.USER)
                job = await apply(c, row["id"], row["attempt"], JobEvent.CANCEL, now=now, end=end)
            else:
                job = await request_cancel(c, row["id"], requested_by, now=now)
            return job or view(row), job is not None

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


async def _find(c: Connection, project_id: ProjectId, job_id: str) -> Any:
    wanted = job_id.lower()
    rows = await c.fetch(_BY_PREFIX, project_id, wanted, _MOST_NAMED + 1) if is_id(wanted) else []
    exact = [row for row in rows if row["id"] == wanted]
    if len(rows) == 1 or exact:
        return (exact or rows)[0]
    if not rows:
        raise NotFound(f"there is no job {job_id[:80]!r} in this project")
    names = ", ".join(row["id"] for row in rows[:_MOST_NAMED])
    more = ", …" if len(rows) > _MOST_NAMED else ""
    raise BadRequest(f"{job_id!r} is the beginning of several job ids: {names}{more}")


async def _explained(c: Connection, row: Any) -> JobView:
    reasons = await _reasons(c, [row])
    return view(row, waiting=reasons.get(row["id"], ""))


async def _reasons(c: Connection, rows: list[Any]) -> Mapping[JobId, str]:
    """Why each queued job of `rows` waits."""
    queued = [row for row in rows if row["state"] == JobState.QUEUED]
    if not queued:
        return {}
    ahead = await _ahead(c, queued)
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


async def _ahead(c: Connection, rows: list[Any]) -> Mapping[JobId, int]:
    """How many jobs go before each of `rows`, counted up to a bound."""
    sizes = sorted({gpu.count for gpu in GPUType})
    counted = await c.fetch(_AHEAD, [row["id"] for row in rows], sizes)
    return {row["id"]: int(row["ahead"]) for row in counted}
