"""What follows from what for one job, beyond the table of the contract. Pure."""

from dataclasses import dataclass

import msgspec

from chisel_shared.contract.job import (
    TRANSITIONS,
    EndReason,
    JobEnd,
    JobEvent,
    JobState,
    advance,
    end_event,
    label,
    sources,
)
from chisel_shared.contract.retries import is_cause, may_run_again

_NEXT = {JobState.ASSIGNED: JobEvent.PREPARE, JobState.PREPARING: JobEvent.START}
REACHED = {JobState.PREPARING: JobEvent.PREPARE, JobState.RUNNING: JobEvent.START}
"""The states an agent reports, and the event each one is."""


def target(event: JobEvent) -> JobState:
    """The state `event` leads to, the same from wherever it is legal."""
    (state,) = {advance(source, event) for source in sources(event)}
    return state


def steps(state: JobState, event: JobEvent) -> tuple[JobEvent, ...]:
    """The events that bring a held job from `state` through `event`.

    A report of progress may be lost, never the end: an end that needs a state not yet reported passes
    through it. Empty when the job is already there or beyond.
    """
    way: list[JobEvent] = []
    while event not in TRANSITIONS[state]:
        if state not in _NEXT:
            return ()
        way.append(_NEXT[state])
        state = advance(state, _NEXT[state])
    return (*way, event)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tries:
    """What a job has had and may have. `repeated` attempts ran user code and were followed by another."""

    attempt: int
    repeated: int
    retries: int
    retry_on: tuple[str, ...] = ()
    cancel_requested: bool = False
    evicted: int = 0
    """Earlier attempts that ended because their agent was drained: no failures, so they are not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the end of an attempt does to its job: the job's end if it is one, else why it waits."""

    event: JobEvent
    end: JobEnd | None = None
    waiting: str = ""


def after_loss(lost: JobEnd, tries: Tries, *, ran: bool) -> Outcome:
    """What losing an attempt does to its job. Nobody restarts what somebody asked to end."""
    if tries.cancel_requested:
        return Outcome(event=JobEvent.CANCEL, end=JobEnd(reason=EndReason.USER))
    if _again(tries, ran=ran):
        return Outcome(event=JobEvent.REQUEUE, waiting="its agent was lost; it will run again")
    return Outcome(event=JobEvent.LOSE, end=lost)


def after_end(end: JobEnd, tries: Tries) -> Outcome:
    """What the end that an agent reports of an attempt does to its job."""
    if not tries.cancel_requested and is_cause(end, tries.retry_on) and _again(tries, ran=True):
        again = f"attempt {tries.attempt} ended ({label(end)}); it will run again"
        return Outcome(event=JobEvent.REQUEUE, waiting=again)
    return Outcome(event=end_event(end), end=end)


def after_drain(end: JobEnd, tries: Tries, *, ran: bool, drained: str) -> Outcome:
    """What it does to a job that an attempt was ended because its agent is drained, as `drained` says.

    It runs elsewhere if user code never ran, or while it may be repeated at all. That is not counted as one
    of its retries, which are for failures: whoever upgrades ten machines would use them up.
    """
    if not ran or tries.repeated < tries.retries:
        return Outcome(event=JobEvent.REQUEUE, waiting=f"{drained}; it will run again")
    return Outcome(event=JobEvent.CANCEL, end=msgspec.structs.replace(end, reason=EndReason.DRAIN))


def _again(tries: Tries, *, ran: bool) -> bool:
    attempt, repeated = tries.attempt - tries.evicted, tries.repeated + ran
    return may_run_again(ran=ran, attempt=attempt, repeated=repeated, retries=tries.retries)
