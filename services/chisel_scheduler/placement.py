"""Who gets the claim: queue, agents and the time in, a choice out. Pure.

Order: priority, then the user who uses least (fair share), then submission. Fit: an asking agent gets
a job only if no attentive agent with a smaller hole would take it, because a small job in a large
hole is what keeps large jobs waiting. That other agent has `patience_seconds` to ask; then whoever
asks gets the job, so a better place that does not answer never holds a job up for longer.

A job too large for the asker is overtaken by smaller ones behind it; a choice names every job it
overtook. Reservation and backfill enter through `reservations`: on a reserved agent only the reserved
job starts, and whatever surely ends before the reservation does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from chisel_shared.contract.ids import AgentId, JobId, UserId

SHORTEST_WAIT_SECONDS = 0.05
"""Nobody is asked to come back sooner than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A queued job. `order` grows with submission; `since` is when it last entered the queue."""

    id: JobId
    user_id: UserId
    gpu_count: int
    priority: int
    order: int
    since: datetime
    time_limit_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """An agent and its free GPUs, which are that many since `since`."""

    agent_id: AgentId
    gpus_free: int
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """An agent kept free for a job that is to start on it at `starts_at`."""

    agent_id: AgentId
    job_id: JobId
    starts_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What an asker gets. Without a job, `ask_again_seconds` says when there may be one although
    nothing changes. `overtaken` are the jobs that were ahead of `job` and too large for the asker."""

    job: Waiting | None = None
    overtaken: tuple[JobId, ...] = ()
    ask_again_seconds: float | None = None


def choose(
    asker: Room,
    queue: Sequence[Waiting],
    others: Sequence[Room],
    now: datetime,
    *,
    patience_seconds: float,
    usage: Mapping[UserId, float] | None = None,
    reservations: Sequence[Reservation] = (),
) -> Choice:
    """The job `asker` starts now, if any. `others` are the attentive agents besides it."""
    used = usage or {}
    ordered = sorted(queue, key=lambda job: (-job.priority, used.get(job.user_id, 0.0), job.order))
    # What the others would have left once they took the jobs this walk leaves to them.
    left = {other.agent_id: other.gpus_free for other in others}
    overtaken: list[JobId] = []
    ask_again: float | None = None
    for job in ordered:
        if job.gpu_count > asker.gpus_free:
            overtaken.append(job.id)
            continue
        if not _permitted(job, asker, reservations, now):
            continue
        better = _better_place(job, asker, others, left, now, patience_seconds)
        if better is None:
            return Choice(job=job, overtaken=tuple(overtaken))
        left[better.agent_id] -= job.gpu_count
        wait = max(SHORTEST_WAIT_SECONDS, patience_seconds - _waited_seconds(job, better, now))
        ask_again = wait if ask_again is None else min(ask_again, wait)
    return Choice(ask_again_seconds=ask_again)


def _permitted(job: Waiting, asker: Room, reservations: Sequence[Reservation], now: datetime) -> bool:
    for reserved in reservations:
        if reserved.agent_id != asker.agent_id or reserved.job_id == job.id:
            continue
        limit = job.time_limit_seconds
        if limit is None or now + timedelta(seconds=limit) > reserved.starts_at:
            return False
    return True


def _better_place(
    job: Waiting,
    asker: Room,
    others: Sequence[Room],
    left: Mapping[AgentId, int],
    now: datetime,
    patience_seconds: float,
) -> Room | None:
    places = [
        other
        for other in others
        if job.gpu_count <= left[other.agent_id] < asker.gpus_free
        and _waited_seconds(job, other, now) < patience_seconds
    ]
    return min(places, key=lambda place: left[place.agent_id], default=None)


def _waited_seconds(job: Waiting, place: Room, now: datetime) -> float:
    """How long `place` could have asked for `job` and did not."""
    return (now - max(job.since, place.since)).total_seconds()
