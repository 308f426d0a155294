"""The queue as claims and questions read it: lane by lane, in the order of policy, never as a whole.

A lane is what one user has queued of one size in one project, in the order of priority and submission.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chisel_scheduler.explain import MOST_COUNTED
from chisel_scheduler.fairshare import Usage, level
from chisel_scheduler.placement import Waiting, ordered, place_in_queue
from chisel_scheduler.quota import Quota, exhausted
from chisel_scheduler.rules import PolicyRules
from chisel_shared.contract.ids import ProjectId, UserId
from chisel_shared.runtime.db import Connection

MOST_LANES = 256
"""Read at once. Where there are more they are read in turns, each time the next so many."""

Cursor = tuple[str, str, int]
"""User, project and size of the lane after which to read on."""
FROM_THE_FIRST: Cursor = ("", "", 0)


def _with_owners(lanes: str) -> str:
    """The rows of `lanes` with what their users and projects hold, had and may have."""
    return f"""
select lane.*,
    coalesce(of_user.gpus_held, 0) as user_held, of_user.gpu_seconds, of_user.counted_at,
    user_share.gpus as user_gpus, user_share.weight as user_weight, user_share.name as user_name,
    coalesce(of_project.gpus_held, 0) as project_held,
    project_share.gpus as project_gpus, project_share.weight as project_weight,
    project_share.name as project_name
from {lanes} lane
left join usage of_user on of_user.kind = 'user' and of_user.id = lane.user_id
left join usage of_project on of_project.kind = 'project' and of_project.id = lane.project_id
left join shares user_share on user_share.kind = 'user' and user_share.id = lane.user_id
left join shares project_share on project_share.kind = 'project' and project_share.id = lane.project_id
"""


# One step of the index a lane, whatever is queued in it.
_LANES = f"""
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
)
{_with_owners("step")}"""

_LANE = _with_owners(
    "(select $1::text as user_id, $2::text as project_id, $3::int as gpu_count, 0 as rank, 0 as seq)"
)


def _first(most: int) -> str:
    """The first `most` jobs of each of these lanes. The bound stands in the sentence: of one given as a
    parameter the planner thinks the worst."""
    return f"""
select queued.*, lane.level
from unnest($3::text[], $4::text[], $5::int[], $6::float8[]) as lane(user_id, project_id, gpus, level)
cross join lateral (
    select id, user_id, project_id, gpu_count, priority, rank, seq, queued_at, time_limit_seconds, attempt
    from jobs
    where state = 'queued' and pool = $1 and gpu_model = $2 and user_id = lane.user_id
        and project_id = lane.project_id and gpu_count = lane.gpus
    order by rank, seq limit {most}
) queued
"""


MOST_WEIGHED = 32
"""Of each size a claim weighs so many. Each of the others goes after 32 jobs of its size."""
_GLANCE = 8
"""So many lanes are read first; mostly they tell that no others are needed."""
_DEPTHS = (8, MOST_WEIGHED, MOST_COUNTED + 1)
"""How many jobs of a lane are read at first, and then when they turn out to be too few."""
_FIRST = {depth: _first(depth) for depth in _DEPTHS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """`rank`, `level` and `seq` are those of its first job; `quotas` bound what may start of it."""

    user_id: UserId
    project_id: ProjectId
    gpu_count: int
    rank: int
    seq: int
    level: float
    quotas: tuple[Quota, ...]

    @property
    def cursor(self) -> Cursor:
        return self.user_id, self.project_id, self.gpu_count

    @property
    def place(self) -> tuple[int, float, int]:
        """The place in the queue of its first job, in terms of `place_in_queue`."""
        return self.rank, self.level, self.seq

    @property
    def admitted(self) -> bool:
        return exhausted(self.gpu_count, self.quotas) is None


async def lanes(
    c: Connection, pool: str, model: str, now: datetime, *, rules: PolicyRules, after: Cursor = FROM_THE_FIRST
) -> list[Lane]:
    """The lanes of a pool behind `after`, at most `MOST_LANES`, by user, project and size."""
    return [_lane(row, now, rules) for row in await c.fetch(_LANES, pool, model, *after)]


async def lane_of(
    c: Connection, user_id: str, project_id: str, gpu_count: int, now: datetime, *, rules: PolicyRules
) -> Lane:
    """The lane of such a job, queued or not; its `rank` and `seq` mean nothing."""
    return _lane(await c.fetchrow(_LANE, user_id, project_id, gpu_count), now, rules)


async def to_weigh(c: Connection, pool: str, model: str, found: Sequence[Lane]) -> list[Waiting]:
    """The first `MOST_WEIGHED` jobs of each size that quotas admit."""
    sizes: dict[int, list[Lane]] = {}
    for lane in found:
        sizes.setdefault(lane.gpu_count, []).append(lane)
    return await _first_of(c, pool, model, list(sizes.values()), MOST_WEIGHED)


async def to_count(c: Connection, pool: str, model: str, found: Sequence[Lane]) -> list[Waiting]:
    """The first jobs that quotas admit, one more than anybody counts."""
    return await _first_of(c, pool, model, [found], MOST_COUNTED + 1)


async def _first_of(
    c: Connection, pool: str, model: str, groups: Sequence[Sequence[Lane]], most: int
) -> list[Waiting]:
    """The first `most` jobs of each group of lanes, in order within the group, exactly."""
    merges = [_Merge(group, most) for group in groups]
    lanes_at_once = _GLANCE
    while wanted := [(merge, lane) for merge in merges for lane in merge.wanted()[:lanes_at_once]]:
        lanes_at_once = MOST_LANES
        by_depth: dict[int, list[tuple[_Merge, Lane]]] = {}
        for merge, lane in wanted:
            by_depth.setdefault(merge.next_depth(lane), []).append((merge, lane))
        for depth, chosen in by_depth.items():
            jobs = await _read(c, pool, model, [lane for _, lane in chosen], depth)
            for merge, lane in chosen:
                merge.take(lane, jobs[lane.cursor], depth)
    return [job for merge in merges for job in merge.first]


async def _read(
    c: Connection, pool: str, model: str, chosen: Sequence[Lane], depth: int
) -> dict[Cursor, list[Waiting]]:
    rows = await c.fetch(
        _FIRST[depth],
        pool,
        model,
        [lane.user_id for lane in chosen],
        [lane.project_id for lane in chosen],
        [lane.gpu_count for lane in chosen],
        [lane.level for lane in chosen],
    )
    jobs: dict[Cursor, list[Waiting]] = {lane.cursor: [] for lane in chosen}
    for row in rows:
        job = waiting_of(row, row["level"])
        jobs[job.user_id, job.project_id, job.gpu_count].append(job)
    return jobs


class _Merge:
    """The first `most` jobs of several lanes, and which of these must be read, or read on, to be sure.

    What is not read of a lane lies behind its last job that is, or begins with its first, whose place the
    lane knows; either may lie behind all that is wanted.
    """

    def __init__(self, group: Sequence[Lane], most: int) -> None:
        self._most = most
        # Each of these lanes has a job before all jobs of the lanes behind it.
        admitted = sorted((lane for lane in group if lane.admitted), key=lambda lane: lane.place)[:most]
        self._rest = {lane.cursor: (lane.place, lane) for lane in admitted}
        self._jobs: dict[Cursor, list[Waiting]] = {}

    @property
    def first(self) -> list[Waiting]:
        """The first of what was read."""
        return ordered(job for some in self._jobs.values() for job in some)[: self._most]

    def wanted(self) -> list[Lane]:
        """The lanes of which more must be read, the foremost first."""
        first = self.first
        last = place_in_queue(first[-1]) if len(first) == self._most else None
        rest = sorted(self._rest.values(), key=lambda one: one[0])
        return [lane for place, lane in rest if last is None or place < last]

    def next_depth(self, lane: Lane) -> int:
        read = len(self._jobs.get(lane.cursor, ()))
        return next(depth for depth in _DEPTHS if depth > read)

    def take(self, lane: Lane, jobs: list[Waiting], depth: int) -> None:
        """The first `depth` jobs of `lane`, or all there are."""
        self._jobs[lane.cursor] = jobs
        if len(jobs) < depth or depth >= self._most:
            del self._rest[lane.cursor]
        else:
            self._rest[lane.cursor] = (place_in_queue(jobs[-1]), lane)


def _lane(row: Any, now: datetime, rules: PolicyRules) -> Lane:
    used = Usage(
        gpus_held=row["user_held"], gpu_seconds=row["gpu_seconds"] or 0.0, counted_at=row["counted_at"]
    )
    weight = (row["user_weight"] or 1.0) * (row["project_weight"] or 1.0)
    return Lane(
        user_id=row["user_id"],
        project_id=row["project_id"],
        gpu_count=row["gpu_count"],
        rank=row["rank"],
        seq=row["seq"],
        level=level(used, now, half_life_seconds=rules.half_life_seconds, weight=weight),
        quotas=_quotas(row),
    )


def _quotas(row: Any) -> tuple[Quota, ...]:
    return tuple(
        Quota(
            name=row[f"{kind}_name"],
            of_project=kind == "project",
            gpus=row[f"{kind}_gpus"],
            held=row[f"{kind}_held"],
        )
        for kind in ("user", "project")
        if row[f"{kind}_gpus"] is not None
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
