"""Where queued jobs stand: the same order, quotas and reservations that claims go by, read for people."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chisel_scheduler.explain import Kept, Place, Standing, why_waiting
from chisel_scheduler.placement import Reservation, Waiting, permitted, place_in_queue
from chisel_scheduler.quota import exhausted
from chisel_scheduler.rules import PolicyRules
from chisel_scheduler.store.agents import best_place, names
from chisel_scheduler.store.lanes import Lane, lane_of, lanes, to_count, to_weigh, waiting_of
from chisel_scheduler.store.reserving import reservations
from chisel_shared.contract.ids import AgentId, JobId, UserId
from chisel_shared.contract.job import JobState
from chisel_shared.runtime.db import Connection

Kind = tuple[str, str]
"""A pool and a model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Situation:
    """The first jobs of a kind in their order, which agents are kept for which, and their names."""

    first: tuple[Waiting, ...]
    reservations: tuple[Reservation, ...]
    names: Mapping[AgentId, str]


class Standings:
    """Where jobs stand at `now`, as one transaction sees it. What several share is read once."""

    def __init__(self, c: Connection, now: datetime, *, rules: PolicyRules) -> None:
        self._c, self._now, self._rules = c, now, rules
        self._situations: dict[Kind, _Situation] = {}
        self._lanes: dict[tuple[str, str, int], Lane] = {}
        self._best: dict[tuple[Kind, int, tuple[AgentId, ...]], tuple[AgentId, Place] | None] = {}

    async def of(self, row: Any) -> tuple[Standing, Sequence[Waiting]]:
        """Where the queued job of `row` stands, and those ahead of it, one more than are counted at most."""
        kind = (row["pool"], row["gpu_model"])
        here, lane = await self._situation(kind), await self.lane(row)
        job = waiting_of(row, lane.level)
        mine = place_in_queue(job)
        ahead = [other for other in here.first if place_in_queue(other) < mine]
        own = next((one for one in here.reservations if one.job_id == job.id), None)
        others = {one.agent_id: one for one in here.reservations if not permitted(job, one, self._now)}
        found = await self._best_place(kind, job.gpu_count, tuple(sorted(others)))
        best_id, best = found if found is not None else (None, None)
        stands = Standing(
            ahead=len(ahead),
            lighter=sum(other.priority == job.priority and other.order > job.order for other in ahead),
            quota=exhausted(job.gpu_count, lane.quotas),
            reserved=self._kept(here, own),
            best=best,
            kept=self._kept(here, others.get(best_id) if best_id is not None else None),
        )
        return stands, ahead

    async def lane(self, row: Any) -> Lane:
        """The lane of the job of `row`, with its quotas."""
        key = (row["user_id"], row["project_id"], row["gpu_count"])
        if key not in self._lanes:
            self._lanes[key] = await lane_of(self._c, *key, self._now, rules=self._rules)
        return self._lanes[key]

    async def _situation(self, kind: Kind) -> _Situation:
        if kind not in self._situations:
            found = await lanes(self._c, *kind, self._now, rules=self._rules)
            first = await to_count(self._c, *kind, found)
            weighed = await to_weigh(self._c, *kind, found)
            kept = await reservations(self._c, *kind, weighed, self._now, rules=self._rules)
            self._situations[kind] = _Situation(
                first=tuple(first),
                reservations=kept,
                names=await names(self._c, [one.agent_id for one in kept]),
            )
        return self._situations[kind]

    async def _best_place(
        self, kind: Kind, gpu_count: int, kept: tuple[AgentId, ...]
    ) -> tuple[AgentId, Place] | None:
        key = (kind, gpu_count, kept)
        if key not in self._best:
            self._best[key] = await best_place(self._c, *kind, gpu_count, kept=kept)
        return self._best[key]

    def _kept(self, here: _Situation, reserved: Reservation | None) -> Kept | None:
        if reserved is None:
            return None
        starts = reserved.starts_at
        return Kept(
            name=here.names.get(reserved.agent_id, ""),
            gpu_count=reserved.gpu_count,
            gpus_missing=reserved.gpus_missing,
            seconds=max(0.0, (starts - self._now).total_seconds()) if starts is not None else None,
        )


async def reasons(standings: Standings, rows: Iterable[Any], *, asked_by: UserId) -> Mapping[JobId, str]:
    """Why each queued job of `rows` waits, as told to `asked_by`."""
    told = {}
    for row in rows:
        if row["state"] == JobState.QUEUED:
            stands, _ = await standings.of(row)
            told[row["id"]] = why_waiting(
                row["gpu_model"], row["gpu_count"], stands, mine=row["user_id"] == asked_by
            )
    return told
