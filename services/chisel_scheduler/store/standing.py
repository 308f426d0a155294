"""Where queued jobs stand: the same order, quotas and reservations that claims go by, read for people."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chisel_scheduler.explain import Kept, Place, Standing, why_waiting
from chisel_scheduler.placement import Reservation, Waiting, permitted, place_in_queue
from chisel_scheduler.quota import exhausted
from chisel_scheduler.rules import PolicyRules
from chisel_scheduler.store.agents import best_place, names
from chisel_scheduler.store.ahead import count_ahead
from chisel_scheduler.store.lanes import Lane, foremost, lane_of, lanes, to_weigh, waiting_of
from chisel_scheduler.store.reserving import reservations
from chisel_shared.contract.ids import AgentId, JobId, UserId
from chisel_shared.contract.job import JobState
from chisel_shared.runtime.db import Connection

Kind = tuple[str, str]
"""A pool and a model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Situation:
    """The lanes of a kind, which agents are kept for which jobs, and what those are called."""

    lanes: tuple[Lane, ...]
    reservations: tuple[Reservation, ...]
    names: Mapping[AgentId, str]


class Standings:
    """Where jobs stand at `now`, as one transaction sees it. What several share is read once."""

    def __init__(self, c: Connection, now: datetime, *, rules: PolicyRules) -> None:
        self._c, self._now, self._rules = c, now, rules
        self._situations: dict[Kind, _Situation] = {}
        self._lanes: dict[tuple[str, str, int], Lane] = {}
        self._best: dict[tuple[Kind, int, tuple[AgentId, ...]], tuple[AgentId, Place] | None] = {}

    async def of(self, rows: Iterable[Any]) -> dict[JobId, Standing]:
        """Where each queued job of `rows` stands."""
        kinds: dict[Kind, list[Waiting]] = {}
        for row in rows:
            job = waiting_of(row, (await self.lane(row)).level)
            kinds.setdefault((row["pool"], row["gpu_model"]), []).append(job)
        found: dict[JobId, Standing] = {}
        for kind, jobs in kinds.items():
            here = await self._situation(kind)
            counted = await count_ahead(self._c, *kind, here.lanes, jobs)
            for job, (ahead, lighter) in zip(jobs, counted, strict=True):
                found[job.id] = await self._standing(kind, here, job, ahead, lighter)
        return found

    async def ahead_of(self, row: Any) -> list[JobId]:
        """The first few that go before the queued job of `row`, in their order."""
        kind = (row["pool"], row["gpu_model"])
        mine = place_in_queue(waiting_of(row, (await self.lane(row)).level))
        first = await foremost(self._c, *kind, self._now, rules=self._rules)
        return [other.id for other in first if place_in_queue(other) < mine]

    async def _standing(
        self, kind: Kind, here: _Situation, job: Waiting, ahead: int, lighter: int
    ) -> Standing:
        lane = self._lanes[job.user_id, job.project_id, job.gpu_count]
        own = next((one for one in here.reservations if one.job_id == job.id), None)
        others = {one.agent_id: one for one in here.reservations if not permitted(job, one, self._now)}
        found = await self._best_place(kind, job.gpu_count, tuple(sorted(others)))
        best_id, best = found if found is not None else (None, None)
        return Standing(
            ahead=ahead,
            lighter=lighter,
            quota=exhausted(job.gpu_count, lane.quotas),
            reserved=self._kept(here, own),
            best=best,
            kept=self._kept(here, others.get(best_id) if best_id is not None else None),
        )

    async def lane(self, row: Any) -> Lane:
        """The lane of the job of `row`, with its quotas."""
        key = (row["user_id"], row["project_id"], row["gpu_count"])
        if key not in self._lanes:
            self._lanes[key] = await lane_of(self._c, *key, self._now, rules=self._rules)
        return self._lanes[key]

    async def _situation(self, kind: Kind) -> _Situation:
        if kind not in self._situations:
            found = await lanes(self._c, *kind, self._now, rules=self._rules)
            weighed, _ = await to_weigh(self._c, *kind, self._now, rules=self._rules)
            kept = await reservations(self._c, *kind, weighed, self._now, rules=self._rules)
            called = await names(self._c, [one.agent_id for one in kept]) if kept else {}
            self._situations[kind] = _Situation(lanes=tuple(found), reservations=kept, names=called)
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
    queued = {row["id"]: row for row in rows if row["state"] == JobState.QUEUED}
    return {
        job_id: why_waiting(
            queued[job_id]["gpu_model"],
            queued[job_id]["gpu_count"],
            stands,
            mine=queued[job_id]["user_id"] == asked_by,
        )
        for job_id, stands in (await standings.of(queued.values())).items()
    }
