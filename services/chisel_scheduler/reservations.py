"""Which agents are kept for which large jobs. Pure, and derived anew from what is: there is nothing to
lose in a restart, and nothing to take back when a job is cancelled or an agent goes.

A large job would wait for ever behind small ones that each fit into the next hole. So one that has been
blocked for a while gets an agent on which nothing else starts, except what surely ends in time (EASY
backfill). While most jobs carry no time limit nobody knows an end, a kept agent stands idle in part, and
one job at a time may have that.

Who gets it is not who is first in the queue: there a user who had much would never come to it. Waiting
counts, for more the larger the job, and for less the more its user had; so it grows without bound, and
whoever waits gets there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from chisel_scheduler.placement import Reservation, Waiting
from chisel_shared.contract.ids import AgentId

LARGE = 2
"""A job of fewer GPUs fits into every hole and needs no reservation."""
AGENTS_PER_RESERVATION = 8
UNTAKEN = timedelta(seconds=30)
"""An agent that had room for a job that long and did not take it has not the room it is said to have."""
_LITTLE = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """GPUs of an agent that an attempt holds, until `ends_by` at the latest if that is known."""

    gpu_count: int
    ends_by: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An agent that takes jobs. Its GPUs are as free as they are since `since`."""

    agent_id: AgentId
    gpus_total: int
    gpus_free: int
    since: datetime
    held: tuple[Held, ...] = ()


def most(agents: int, *, timed: int, jobs: int) -> int:
    """How many reservations a pool of `agents` may have when `timed` of `jobs` carry a time limit."""
    return max(1, agents // AGENTS_PER_RESERVATION) if 2 * timed > jobs else 1


def eligible(job: Waiting, now: datetime, *, after: timedelta) -> bool:
    """Whether `job` is large and has waited long enough to reserve."""
    return job.gpu_count >= LARGE and now - job.since >= after


def reserve(
    queue: Sequence[Waiting], places: Sequence[Place], now: datetime, *, after: timedelta, at_most: int
) -> tuple[Reservation, ...]:
    """An agent for each of the most urgent jobs of `queue` that can have one, `at_most` so many."""
    made: list[Reservation] = []
    left = list(places)
    large = [job for job in queue if eligible(job, now, after=after)]
    for job in sorted(large, key=lambda job: _urgency(job, now)):
        if len(made) >= at_most:
            break
        place = _soonest([place for place in left if _can_take(place, job, now)], job, now)
        if place is None:
            continue
        left.remove(place)
        made.append(
            Reservation(
                agent_id=place.agent_id,
                job_id=job.id,
                gpu_count=job.gpu_count,
                gpus_missing=max(0, job.gpu_count - place.gpus_free),
                starts_at=starts_at(place, job.gpu_count, now),
            )
        )
    return tuple(made)


def _urgency(job: Waiting, now: datetime) -> tuple[int, float, int]:
    """Ascending. By the square of the GPUs: a larger job waits for more of them, in fewer places. A level
    below two GPUs hardly counts: who runs one small job has not had much."""
    waited = (now - job.since).total_seconds()
    return -job.priority, -waited * job.gpu_count**2 / (_LITTLE + job.level), job.order


def starts_at(place: Place, gpu_count: int, now: datetime) -> datetime | None:
    """When `place` has so many GPUs free at the latest; None when no time limits say so."""
    free = place.gpus_free
    if free >= gpu_count:
        return now
    for held in sorted((held for held in place.held if held.ends_by), key=lambda held: held.ends_by or now):
        free += held.gpu_count
        if free >= gpu_count:
            return max(now, held.ends_by or now)
    return None


def _can_take(place: Place, job: Waiting, now: datetime) -> bool:
    if place.gpus_free >= job.gpu_count:
        return now - max(place.since, job.since) <= UNTAKEN
    return place.gpus_total >= job.gpu_count


def _soonest(places: Sequence[Place], job: Waiting, now: datetime) -> Place | None:
    """The place that is free for `job` soonest: by the time limits of what runs if they tell of every
    place, else by how many ends it takes, of which the last of eight is awaited longer than the last of
    two. Then the one that misses the fewest GPUs, then the smallest."""
    bounds = {place.agent_id: starts_at(place, job.gpu_count, now) for place in places}
    known = all(bounds.values())

    def cost(place: Place) -> tuple[float, float, int, int, AgentId]:
        bound = bounds[place.agent_id]
        missing = max(0, job.gpu_count - place.gpus_free)
        return (
            (bound - now).total_seconds() if known and bound else 0.0,
            _ends_awaited(place, missing),
            missing,
            place.gpus_total,
            place.agent_id,
        )

    return min(places, key=cost, default=None)


def _ends_awaited(place: Place, missing: int) -> float:
    """The expected wait, in mean lengths of a job, until ends in any order have freed `missing` GPUs."""
    running = len(place.held)
    held = sum(one.gpu_count for one in place.held)
    if missing == 0 or held == 0:
        return math.inf if missing else 0.0
    ends = min(running, -(-missing * running // held))
    return sum(1.0 / (running - ended) for ended in range(ends))
