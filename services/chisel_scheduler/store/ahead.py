"""How many jobs go before others, counted up to a bound: a long queue makes nobody's question slow."""

from collections.abc import Sequence

from chisel_scheduler.explain import MOST_COUNTED
from chisel_scheduler.placement import Waiting
from chisel_scheduler.store.lanes import Lane
from chisel_shared.runtime.db import Connection

# Of each lane those before the job, which of a user who had less are all of the same priority, and no more
# altogether than anybody counts. The bounds stand in the sentence: of one given as a parameter the planner
# thinks the worst.
_AHEAD = f"""
select job.number, (
    select array[count(*), count(*) filter (where counted.rank = job.rank and counted.seq > job.seq)]
    from (
        select found.rank, found.seq
        from unnest($7::text[], $8::text[], $9::int[], $10::float8[])
            as lane(user_id, project_id, gpus, level)
        cross join lateral (
            select rank, seq from jobs
            where state = 'queued' and pool = $1 and gpu_model = $2 and user_id = lane.user_id
                and project_id = lane.project_id and gpu_count = lane.gpus
                and (rank, seq) < (job.rank, case
                    when lane.level < job.level then {(1 << 63) - 1}
                    when lane.level = job.level then job.seq
                    else 0
                end)
            order by rank, seq limit {MOST_COUNTED + 1}
        ) found
        limit {MOST_COUNTED + 1}
    ) counted
) as ahead
from unnest($3::int[], $4::int[], $5::bigint[], $6::float8[]) as job(number, rank, seq, level)
"""


async def count_ahead(
    c: Connection, pool: str, model: str, found: Sequence[Lane], jobs: Sequence[Waiting]
) -> list[tuple[int, int]]:
    """For each of `jobs` how many go before it, of those that quotas admit, and how many of these only
    because their users had less."""
    admitted = [lane for lane in found if lane.admitted]
    rows = await c.fetch(
        _AHEAD,
        pool,
        model,
        list(range(len(jobs))),
        [-job.priority for job in jobs],
        [job.order for job in jobs],
        [job.level for job in jobs],
        [lane.user_id for lane in admitted],
        [lane.project_id for lane in admitted],
        [lane.gpu_count for lane in admitted],
        [lane.level for lane in admitted],
    )
    ahead = {row["number"]: (row["ahead"][0], row["ahead"][1]) for row in rows}
    return [ahead[number] for number in range(len(jobs))]
