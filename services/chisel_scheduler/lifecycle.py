"""What follows from what for one job, beyond the table of the contract. Pure."""

from chisel_shared.contract.job import (
    TRANSITIONS,
    EndReason,
    JobEnd,
    JobEvent,
    JobState,
    advance,
    may_run_again,
    sources,
)

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


def after_loss(
    lost: JobEnd, *, ran: bool, attempt: int, runs_lost: int, retries: int, cancel_requested: bool
) -> tuple[JobEvent, JobEnd | None]:
    """What losing an attempt does to its job, and the job's end if it is one.

    `runs_lost` counts this loss too. Nobody restarts what somebody asked to end.
    """
    if cancel_requested:
        return JobEvent.CANCEL, JobEnd(reason=EndReason.USER)
    if may_run_again(ran=ran, attempt=attempt, runs_lost=runs_lost, retries=retries):
        return JobEvent.REQUEUE, None
    return JobEvent.LOSE, lost
