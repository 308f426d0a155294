"""Which agents are kept for which large jobs, from the rows as they are."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from chisel_scheduler.placement import Reservation, Waiting
from chisel_scheduler.reservations import Held, Place, eligible, most, reserve
from chisel_scheduler.rules import PolicyRules
from chisel_shared.contract.ids import AgentId
from chisel_shared.runtime.db import Connection

_FEW = 8
"""Agents looked at for each size, those with the most free GPUs first."""


def _places(limit: int) -> str:
    """The agents of each size with the most room, and what they hold."""
    return f"""
select agent.*, held.gpus, held.ends from (
    select distinct on (found.id) found.* from unnest($3::int[]) as size(gpus)
    cross join lateral (
        select id, gpus_total - gpus_quarantined as gpus_total, gpus_free, free_since from agents
        where takes_jobs and pool = $1 and gpu_model = $2 and gpus_total - gpus_quarantined >= size.gpus
        order by gpus_free desc, free_since desc limit {limit}
    ) found
) agent
cross join lateral (
    select array_agg(attempts.gpu_count) as gpus,
        array_agg(attempts.started_at + make_interval(secs => jobs.time_limit_seconds)) as ends
    from attempts join jobs on jobs.id = attempts.job_id
    where attempts.agent_id = agent.id and attempts.ended_at is null
) held
"""


_FEW_PLACES, _MANY_PLACES = _places(_FEW), _places(128)

_AGENTS = """
select count(*) from agents where takes_jobs and pool = $1 and gpu_model = $2
"""


async def reservations(
    c: Connection, pool: str, model: str, queue: Sequence[Waiting], now: datetime, *, rules: PolicyRules
) -> tuple[Reservation, ...]:
    """The reservations of a pool now. `queue` are its first jobs of each size, those quotas admit."""
    after = timedelta(seconds=rules.reserve_after_seconds)
    sizes = sorted({job.gpu_count for job in queue if eligible(job, now, after=after)})
    if not sizes:
        return ()
    places = [_place(row) for row in await c.fetch(_FEW_PLACES, pool, model, sizes)]
    held = [one for place in places for one in place.held]
    timed = sum(one.ends_by is not None for one in held)
    at_most = 1
    if 2 * timed > len(held):
        at_most = most(await c.fetchval(_AGENTS, pool, model), timed=timed, jobs=len(held))
        if at_most > 1:
            places = [_place(row) for row in await c.fetch(_MANY_PLACES, pool, model, sizes)]
    return reserve(queue, places, now, after=after, at_most=at_most)


def _place(row: Any) -> Place:
    return Place(
        agent_id=AgentId(row["id"]),
        gpus_total=row["gpus_total"],
        gpus_free=row["gpus_free"],
        since=row["free_since"],
        held=tuple(
            Held(gpu_count=gpus, ends_by=ends)
            for gpus, ends in zip(row["gpus"] or (), row["ends"] or (), strict=True)
        ),
    )
