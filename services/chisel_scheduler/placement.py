"""Who gets the claim: queue, agents and the time in, a choice out. Pure.

Order: priority, then the user who had least (fair share), then submission. Fit: an asking agent gets
a job only if no attentive agent with a smaller hole would take it, because a small job in a large
hole is what keeps large jobs waiting. That other agent has `patience_seconds` to ask; then whoever
asks gets the job, so a better place that does not answer never holds a job up for longer.

A job too large for the asker is overtaken by smaller ones behind it; a choice names every job it
overtook. On an agent reserved for a large job only that job starts, and what surely ends before it can.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from chisel_shared.contract.ids import AgentId, JobId, ProjectId, UserId

SHORTEST_WAIT_SECONDS = 0.05
"""Nobody is asked to come back sooner than this."""
START_SECONDS = 30.0
"""A job holds its GPUs so much longer than its time limit: while it is prepared, and while it is ended."""

FEW_ONES, ALL_ONES = 16, 32
"""How many jobs of one GPU a choice looks at: at first, and when none of the first was given, because what
fills the gaps before a reservation is found among them."""
_OTHERS_WEIGHED = 8


def most_weighed(gpu_count: int, *, ones: int = ALL_ONES) -> int:
    """How many jobs of a size a choice looks at, `ones` of one GPU: each of the others goes after so many."""
    return ones if gpu_count == 1 else _OTHERS_WEIGHED


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A queued job. `order` grows with submission; `since` is when it last entered the queue; `level` is
    its user's place in fair share, lower first; `attempt` the last it had, 0 if none."""

    id: JobId
    user_id: UserId
    project_id: ProjectId
    gpu_count: int
    priority: int
    order: int
    since: datetime
    time_limit_seconds: float | None = None
    level: float = 0.0
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """An agent and its free GPUs, which are that many since `since`."""

    agent_id: AgentId
    gpus_free: int
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """An agent kept for a job, which starts on it as soon as `gpus_missing` more are free: at `starts_at`
    at the latest, None when nobody can know."""

    agent_id: AgentId
    job_id: JobId
    gpu_count: int
    gpus_missing: int
    starts_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What an asker gets. Without a job, `ask_again_seconds` says when there may be one although
    nothing changes. `overtaken` are the jobs that were ahead of `job` and too large for the asker."""

    job: Waiting | None = None
    overtaken: tuple[JobId, ...] = ()
    ask_again_seconds: float | None = None


def ordered(queue: Iterable[Waiting]) -> list[Waiting]:
    """The queue in the order of policy."""
    return sorted(queue, key=place_in_queue)


def place_in_queue(job: Waiting) -> tuple[int, float, int]:
    """What the order of policy compares."""
    return -job.priority, job.level, job.order


def choose(
    asker: Room,
    queue: Sequence[Waiting],
    others: Sequence[Room],
    now: datetime,
    *,
    patience_seconds: float,
    reservations: Sequence[Reservation] = (),
) -> Choice:
    """The job `asker` starts now, if any. `others` are the attentive agents besides it. Whoever has no
    quota left is not in `queue`."""
    jobs = ordered(queue)
    kept = {reserved.agent_id: reserved for reserved in reservations}
    mine = kept.get(asker.agent_id)
    if mine is not None and mine.gpu_count <= asker.gpus_free:
        # Were others asked first, a short one would put off, again and again, what the agent is kept for.
        for job in jobs:
            if job.id == mine.job_id:
                return Choice(job=job)
    # What the others would have left once they took the jobs this walk leaves to them.
    left = {other.agent_id: other.gpus_free for other in others}
    overtaken: list[JobId] = []
    ask_again: float | None = None
    for job in jobs:
        if job.gpu_count > asker.gpus_free:
            overtaken.append(job.id)
            continue
        if not permitted(job, mine, now):
            continue
        better = _better_place(job, asker, others, left, kept, now, patience_seconds)
        if better is None:
            return Choice(job=job, overtaken=tuple(overtaken))
        left[better.agent_id] -= job.gpu_count
        wait = max(SHORTEST_WAIT_SECONDS, patience_seconds - _waited_seconds(job, better, now))
        ask_again = wait if ask_again is None else min(ask_again, wait)
    return Choice(ask_again_seconds=ask_again)


def permitted(job: Waiting, reserved: Reservation | None, now: datetime) -> bool:
    """Whether `job` may start on an agent that is `reserved`, if it is."""
    if reserved is None or reserved.job_id == job.id:
        return True
    if job.time_limit_seconds is None or reserved.starts_at is None:
        return False
    return now + timedelta(seconds=job.time_limit_seconds + START_SECONDS) <= reserved.starts_at


def _better_place(
    job: Waiting,
    asker: Room,
    others: Sequence[Room],
    left: Mapping[AgentId, int],
    kept: Mapping[AgentId, Reservation],
    now: datetime,
    patience_seconds: float,
) -> Room | None:
    places = [
        other
        for other in others
        if job.gpu_count <= left[other.agent_id] < asker.gpus_free
        and _waited_seconds(job, other, now) < patience_seconds
        and permitted(job, kept.get(other.agent_id), now)
    ]
    return min(places, key=lambda place: left[place.agent_id], default=None)


def _waited_seconds(job: Waiting, place: Room, now: datetime) -> float:
    """How long `place` could have asked for `job` and did not."""
    return (now - max(job.since, place.since)).total_seconds()
