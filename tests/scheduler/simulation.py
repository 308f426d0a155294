"""A pool without its services: agents, users and a clock, driven by the real policy. Discrete events.

Jobs are drawn from a seed; then all their lengths are scaled, by a few percent, so that agents without
number would be busy for exactly `load` of the time: otherwise the luck of a seed would decide what it can
show. Agents ask as real ones do, in any order, whenever something has changed, until nobody gets anything.
"""

import heapq
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from chisel_scheduler import fairshare
from chisel_scheduler.placement import (
    ALL_ONES,
    FEW_ONES,
    Reservation,
    Room,
    Waiting,
    choose,
    most_weighed,
    ordered,
)
from chisel_scheduler.quota import Quota, exhausted
from chisel_scheduler.reservations import Held, Place, most, reserve
from chisel_shared.contract.ids import AgentId, JobId, ProjectId, UserId
from tests.scheduler.actors import START

_PROJECT = ProjectId("p")


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What is simulated. Times in minutes; `mix` is the share of jobs of each size, `users` that of jobs
    of each user; `timed` of the jobs carry a time limit of one to three times their length."""

    agents: tuple[int, ...] = (8, 8, 8, 8, 4, 2, 1, 1)
    mix: Mapping[int, float] = field(default_factory=lambda: {1: 0.86, 2: 0.06, 4: 0.05, 8: 0.03})
    users: Mapping[str, float] = field(default_factory=lambda: {f"u{n}": (1 + n) ** -0.5 for n in range(12)})
    quotas: Mapping[str, int] = field(default_factory=dict)
    load: float = 0.90
    mean_minutes: float = 10.0
    hours: float = 40.0
    timed: float = 0.0
    reserve_after_minutes: float | None = 1.0
    """None: nothing is ever reserved."""
    half_life_hours: float = 40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of it. Waits in minutes, of jobs still waiting at the end too; `most_held` is the most GPUs
    that each user held at once."""

    waits: Mapping[int, list[float]]
    waits_of_users: Mapping[str, list[float]]
    utilisation: float
    most_held: Mapping[str, int]

    def wait(self, gpus: int, share: float) -> float:
        """The wait that `share` of the jobs of this size did not exceed."""
        return quantile(self.waits[gpus], share)


def quantile(values: Iterable[float], share: float) -> float:
    found = sorted(values)
    return found[min(len(found) - 1, int(len(found) * share))] if found else 0.0


@dataclass(slots=True)
class _Agent:
    id: AgentId
    total: int
    free: int
    since: datetime
    running: dict[JobId, Held] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Job:
    waiting: Waiting
    seconds: float


def simulate(world: World, seed: int) -> Outcome:
    """Everything from the first arrival to `hours` later."""
    return _Run(world, seed).outcome()


class _Run:
    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._random = random.Random(seed)
        self._agents = [_Agent(AgentId(f"a{n}"), total, total, START) for n, total in enumerate(world.agents)]
        self._jobs = self._draw()
        self._queue: dict[JobId, Waiting] = {}
        self._usage = {user: fairshare.NOTHING for user in world.users}
        self._waits: dict[int, list[float]] = {gpus: [] for gpus in world.mix}
        self._waits_of_users: dict[str, list[float]] = {user: [] for user in world.users}
        self._most_held = dict.fromkeys(world.users, 0)
        self._events: list[tuple[datetime, int, JobId, _Agent | None, datetime]] = []

    def outcome(self) -> Outcome:
        end = START + timedelta(hours=self._world.hours)
        busy, area, last = 0, 0.0, START
        for job in self._jobs.values():
            heapq.heappush(self._events, (job.waiting.since, 1, job.waiting.id, None, START))
        while self._events and self._events[0][0] <= end:
            now, _, job_id, agent, began = heapq.heappop(self._events)
            busy = sum(held.total - held.free for held in self._agents)
            area += busy * (now - last).total_seconds()
            last = now
            if agent is None:
                self._queue[job_id] = self._jobs[job_id].waiting
            else:
                self._end(job_id, agent, began, now)
            self._ask_around(now)
        busy = sum(held.total - held.free for held in self._agents)
        area += busy * (end - last).total_seconds()
        for waiting in self._queue.values():
            self._note_wait(waiting, end)
        capacity = sum(self._world.agents) * self._world.hours * 3600
        return Outcome(
            waits=self._waits,
            waits_of_users=self._waits_of_users,
            utilisation=area / capacity,
            most_held=self._most_held,
        )

    def _draw(self) -> dict[JobId, _Job]:
        world, draw = self._world, self._random
        whole = world.hours * 3600
        sizes, users = list(world.mix), list(world.users)
        mean_gpus = sum(gpus * share for gpus, share in world.mix.items()) / sum(world.mix.values())
        rate = world.load * sum(world.agents) / (mean_gpus * world.mean_minutes * 60)
        drawn: list[tuple[float, str, int, float, float | None]] = []
        at = draw.expovariate(rate)
        while at < whole:
            user = draw.choices(users, list(world.users.values()))[0]
            gpus = draw.choices(sizes, list(world.mix.values()))[0]
            seconds = min(draw.expovariate(1.0), 6.0) * world.mean_minutes * 60
            limit = draw.uniform(1, 3) if draw.random() < world.timed else None
            drawn.append((at, user, gpus, seconds, limit))
            at += draw.expovariate(rate)
        scale = 1.0
        for _ in range(20):
            offered = sum(gpus * min(seconds * scale, whole - at) for at, _, gpus, seconds, _ in drawn)
            scale *= world.load * whole * sum(world.agents) / offered
        jobs = {}
        for order, (at, user, gpus, seconds, limit) in enumerate(drawn):
            waiting = Waiting(
                id=JobId(f"j{order}"),
                user_id=UserId(user),
                project_id=_PROJECT,
                gpu_count=gpus,
                priority=0,
                order=order,
                since=START + timedelta(seconds=at),
                time_limit_seconds=seconds * scale * limit if limit is not None else None,
            )
            jobs[waiting.id] = _Job(waiting, seconds * scale)
        return jobs

    def _ask_around(self, now: datetime) -> None:
        moved = True
        while moved and self._queue:
            moved = False
            asking = [agent for agent in self._agents if agent.free]
            self._random.shuffle(asking)
            few, more = self._candidates(now)
            for agent in asking:
                if self._ask(agent, few, now) or (more and self._ask(agent, more, now)):
                    (few, more), moved = self._candidates(now), True

    def _ask(self, agent: _Agent, queue: list[Waiting], now: datetime) -> bool:
        if not any(job.gpu_count <= agent.free for job in queue):
            return False
        choice = choose(
            Room(agent_id=agent.id, gpus_free=agent.free, since=agent.since),
            queue,
            [
                Room(agent_id=other.id, gpus_free=other.free, since=now)
                for other in self._agents
                if other is not agent and 0 < other.free < agent.free
            ],
            now,
            patience_seconds=1.0,
            reservations=self._reservations(queue, now),
        )
        if choice.job is not None:
            self._start(choice.job, agent, now)
        return choice.job is not None

    def _candidates(self, now: datetime) -> tuple[list[Waiting], list[Waiting]]:
        """What a claim looks at, at first and when that gave nothing; the second empty when it is no more."""
        world = self._world
        levels = {
            user: fairshare.level(usage, now, half_life_seconds=world.half_life_hours * 3600)
            for user, usage in self._usage.items()
        }
        sizes: dict[int, list[Waiting]] = {gpus: [] for gpus in world.mix}
        for job in self._queue.values():
            if exhausted(job.gpu_count, self._quotas(job.user_id)) is None:
                sizes[job.gpu_count].append(replace(job, level=levels[job.user_id]))
        ranked = {gpus: ordered(jobs) for gpus, jobs in sizes.items()}
        few, more = (
            [job for gpus, jobs in ranked.items() for job in jobs[: most_weighed(gpus, ones=ones)]]
            for ones in (FEW_ONES, ALL_ONES)
        )
        return few, more if len(more) > len(few) else []

    def _quotas(self, user: str) -> tuple[Quota, ...]:
        gpus = self._world.quotas.get(user)
        if gpus is None:
            return ()
        return (Quota(name=user, of_project=False, gpus=gpus, held=self._usage[user].gpus_held),)

    def _reservations(self, queue: list[Waiting], now: datetime) -> tuple[Reservation, ...]:
        after = self._world.reserve_after_minutes
        if after is None:
            return ()
        places = [
            Place(
                agent_id=agent.id,
                gpus_total=agent.total,
                gpus_free=agent.free,
                since=agent.since,
                held=tuple(agent.running.values()),
            )
            for agent in self._agents
        ]
        held = [one for place in places for one in place.held]
        timed = sum(one.ends_by is not None for one in held)
        return reserve(
            queue,
            places,
            now,
            after=timedelta(minutes=after),
            at_most=most(len(places), timed=timed, jobs=len(held)),
        )

    def _start(self, job: Waiting, agent: _Agent, now: datetime) -> None:
        del self._queue[job.id]
        self._note_wait(job, now)
        limit = job.time_limit_seconds
        ends_by = now + timedelta(seconds=limit) if limit is not None else None
        agent.free -= job.gpu_count
        agent.since = now
        agent.running[job.id] = Held(gpu_count=job.gpu_count, ends_by=ends_by)
        self._hold(job.user_id, job.gpu_count, 0.0, now)
        ends = now + timedelta(seconds=self._jobs[job.id].seconds)
        heapq.heappush(self._events, (ends, 0, job.id, agent, now))

    def _end(self, job_id: JobId, agent: _Agent, began: datetime, now: datetime) -> None:
        held = agent.running.pop(job_id)
        agent.free += held.gpu_count
        agent.since = now
        half_life = self._world.half_life_hours * 3600
        used = fairshare.accrued(held.gpu_count, (now - began).total_seconds(), half_life_seconds=half_life)
        self._hold(self._jobs[job_id].waiting.user_id, -held.gpu_count, used, now)

    def _hold(self, user: str, gpus: int, used: float, now: datetime) -> None:
        before = self._usage[user]
        elapsed = (now - (before.counted_at or now)).total_seconds()
        half_life = self._world.half_life_hours * 3600
        self._usage[user] = fairshare.Usage(
            gpus_held=before.gpus_held + gpus,
            gpu_seconds=fairshare.decayed(before.gpu_seconds, elapsed, half_life_seconds=half_life) + used,
            counted_at=now,
        )
        self._most_held[user] = max(self._most_held[user], self._usage[user].gpus_held)

    def _note_wait(self, job: Waiting, now: datetime) -> None:
        minutes = (now - job.since).total_seconds() / 60
        self._waits[job.gpu_count].append(minutes)
        self._waits_of_users[job.user_id].append(minutes)
