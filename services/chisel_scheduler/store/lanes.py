"""The queue as claims and questions read it: lane by lane, in the order of policy, never as a whole.

A lane is what one user has queued of one size in one project, in the order of priority and submission.
Its user's level and whether its quotas admit it are computed here in SQL: `fairshare.py` and `quota.py` say
the same of single values, and a test compares them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chisel_scheduler.placement import ALL_ONES, FEW_ONES, Waiting, most_weighed
from chisel_scheduler.quota import Quota, exhausted
from chisel_scheduler.rules import PolicyRules
from chisel_scheduler.store.usage import decayed_sql
from chisel_shared.contract.gpus import GPUType
from chisel_shared.contract.ids import ProjectId, UserId
from chisel_shared.runtime.db import Connection

MOST_LANES = 256
"""Read at once. Where there are more they are read in turns, each time the next so many."""

Cursor = tuple[str, str, int]
"""User, project and size of the lane after which to read on."""
FROM_THE_FIRST: Cursor = ("", "", 0)

_LEVEL = f"""
    (coalesce(of_user.gpus_held, 0)
        + coalesce({decayed_sql("of_user", "$6", "$7")}, 0) * ln(2::float8) / $7::float8
    ) / (coalesce(user_share.weight, 1) * coalesce(project_share.weight, 1))
"""


def _with_owners(lanes: str) -> str:
    """The rows of `lanes` with what their users and projects hold, had and may have. Parameters: $6 is now,
    $7 the half-life in seconds."""
    return f"""
select lane.*, {_LEVEL} as level,
    coalesce(of_user.gpus_held, 0) as user_held, user_share.gpus as user_gpus, user_share.name as user_name,
    coalesce(of_project.gpus_held, 0) as project_held, project_share.gpus as project_gpus,
    project_share.name as project_name
from {lanes} lane
left join usage of_user on of_user.kind = 'user' and of_user.id = lane.user_id
left join usage of_project on of_project.kind = 'project' and of_project.id = lane.project_id
left join shares user_share on user_share.kind = 'user' and user_share.id = lane.user_id
left join shares project_share on project_share.kind = 'project' and project_share.id = lane.project_id
"""


# One step of the index a lane, whatever is queued in it.
_STEPS = f"""
with recursive step as (
    (
        select user_id, project_id, gpu_count, rank, seq, 1 as number from jobs
        where state = 'queued' and pool = $1 and gpu_model = $2
            and (user_id, project_id, gpu_count) > ($3::text, $4::text, $5::int)
        order by user_id, project_id, gpu_count, rank, seq limit 1
    )
    union all
    select next.*, step.number + 1 from step
    cross join lateral (
        select user_id, project_id, gpu_count, rank, seq from jobs
        where state = 'queued' and pool = $1 and gpu_model = $2
            and (user_id, project_id, gpu_count) > (step.user_id, step.project_id, step.gpu_count)
        order by user_id, project_id, gpu_count, rank, seq limit 1
    ) next
    where step.number < {MOST_LANES}
)"""

_LANES = f"{_STEPS} {_with_owners('step')}"

_LANE = _with_owners(
    "(select $1::text as user_id, $2::text as project_id, $3::int as gpu_count, $4::int as rank,"
    " $5::int as seq)"
)

_ADMITTED = f"""{_STEPS}, lane as materialized (
    select *, row_number() over (partition by gpu_count order by rank, level, seq) as place,
        row_number() over (order by rank, level, seq) as place_of_all
    from ({_with_owners("step")}) known
    where user_held + gpu_count <= coalesce(user_gpus, user_held + gpu_count)
        and project_held + gpu_count <= coalesce(project_gpus, project_held + gpu_count)
)"""


def _first(most: int, where: str, place: str) -> str:
    """The first `most` jobs of the lanes `where`, whose order is `place`. Each of these lanes has a job
    before all jobs of those behind it, so of the n-th only the first `most` - n + 1 jobs can be meant."""
    return f"""(
    select queued.*, lane.level from lane
    cross join lateral (
        select id, user_id, project_id, gpu_count, priority, rank, seq, queued_at, time_limit_seconds, attempt
        from jobs
        where state = 'queued' and pool = $1 and gpu_model = $2 and user_id = lane.user_id
            and project_id = lane.project_id and gpu_count = lane.gpu_count
        order by rank, seq limit {most + 1} - {place}
    ) queued
    where {where} and {place} <= {most}
    order by queued.rank, lane.level, queued.seq limit {most}
)"""


def _jobs(parts: Sequence[str]) -> str:
    """These jobs, beside the last lane where there may be more: at least one row."""
    return f"""{_ADMITTED}
select job.*, last.user_id as last_user, last.project_id as last_project, last.gpu_count as last_size
from (values (0)) as always(answered)
left join step last on last.number = {MOST_LANES}
left join ({" union all ".join(parts)}) job on true
"""


def _to_weigh(ones: int) -> str:
    """The first jobs of each size, of one GPU the first `ones`."""
    sizes = sorted({gpu.count for gpu in GPUType})
    return _jobs(
        [_first(most_weighed(size, ones=ones), f"lane.gpu_count = {size}", "lane.place") for size in sizes]
    )


_TO_WEIGH = {ones: _to_weigh(ones) for ones in (FEW_ONES, ALL_ONES)}
MOST_NAMED = 20
_FOREMOST = _jobs([_first(MOST_NAMED, "true", "lane.place_of_all")])


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """`rank` and `seq` are those of its first job; `quotas` bound what may start of it."""

    user_id: UserId
    project_id: ProjectId
    gpu_count: int
    rank: int
    seq: int
    level: float
    quotas: tuple[Quota, ...]

    @property
    def admitted(self) -> bool:
        return exhausted(self.gpu_count, self.quotas) is None


async def lanes(c: Connection, pool: str, model: str, now: datetime, *, rules: PolicyRules) -> list[Lane]:
    """The lanes of a pool, at most `MOST_LANES`, by user, project and size."""
    rows = await c.fetch(_LANES, pool, model, *FROM_THE_FIRST, now, rules.half_life_seconds)
    return [_lane(row) for row in rows]


async def lane_of(
    c: Connection, user_id: str, project_id: str, gpu_count: int, now: datetime, *, rules: PolicyRules
) -> Lane:
    """The lane of such a job, queued or not; its `rank` and `seq` mean nothing."""
    values = (user_id, project_id, gpu_count, 0, 0)
    return _lane(await c.fetchrow(_LANE, *values, now, rules.half_life_seconds))


async def to_weigh(
    c: Connection,
    pool: str,
    model: str,
    now: datetime,
    *,
    rules: PolicyRules,
    ones: int = ALL_ONES,
    after: Cursor = FROM_THE_FIRST,
) -> tuple[list[Waiting], Cursor | None]:
    """The first jobs of each size that quotas admit, in their order, as many as a choice looks at, or of
    one GPU only `FEW_ONES`; and where to read on, when the lanes behind `after` were too many."""
    rows = await c.fetch(_TO_WEIGH[ones], pool, model, *after, now, rules.half_life_seconds)
    last = rows[0]
    more = None if last["last_size"] is None else (last["last_user"], last["last_project"], last["last_size"])
    return [waiting_of(row, row["level"]) for row in rows if row["id"] is not None], more


async def foremost(
    c: Connection, pool: str, model: str, now: datetime, *, rules: PolicyRules
) -> list[Waiting]:
    """The first `MOST_NAMED` jobs that quotas admit, in their order."""
    rows = await c.fetch(_FOREMOST, pool, model, *FROM_THE_FIRST, now, rules.half_life_seconds)
    return [waiting_of(row, row["level"]) for row in rows if row["id"] is not None]


def _lane(row: Any) -> Lane:
    return Lane(
        user_id=row["user_id"],
        project_id=row["project_id"],
        gpu_count=row["gpu_count"],
        rank=row["rank"],
        seq=row["seq"],
        level=row["level"],
        quotas=tuple(
            Quota(
                name=row[f"{kind}_name"],
                of_project=kind == "project",
                gpus=row[f"{kind}_gpus"],
                held=row[f"{kind}_held"],
            )
            for kind in ("user", "project")
            if row[f"{kind}_gpus"] is not None
        ),
    )


def waiting_of(row: Any, level: float) -> Waiting:
    """A row of `jobs` as policy sees it."""
    return Waiting(
        id=row["id"],
        user_id=row["user_id"],
        project_id=row["project_id"],
        gpu_count=row["gpu_count"],
        priority=row["priority"],
        order=row["seq"],
        since=row["queued_at"],
        time_limit_seconds=row["time_limit_seconds"],
        level=level,
        attempt=row["attempt"],
    )
