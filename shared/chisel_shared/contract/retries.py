"""When a job runs again: what its user asked for, and what became of an attempt. Pure.

Nothing runs again unless its user gave it retries. With them a lost machine is always a cause; every other
cause has to be named. Nobody restarts what somebody asked to end, nor what succeeded.
"""

from collections.abc import Sequence

from chisel_shared.contract.errors import BadRequest
from chisel_shared.contract.job import EndReason, JobEnd, JobEvent, end_event, label

LOST = "lost"
ANY = "any"

_WITH_NUMBER = {EndReason.EXIT: (1, 255), EndReason.SIGNAL: (1, 64)}
"""Causes that may name one status: `exit:75`, `signal:9`."""

CAUSES = {
    LOST: "its machine was lost, which is always a cause",
    EndReason.EXIT.value: "it exited with something else than 0; `exit:75`: with just that",
    EndReason.SIGNAL.value: "a signal ended it; `signal:9`: just that one",
    EndReason.OOM.value: "it ran out of memory",
    EndReason.TIME_LIMIT.value: "it reached its time limit",
    EndReason.DISK.value: "its agent's disk was full",
    EndReason.DEPS.value: "its requirements could not be installed",
    EndReason.START.value: "it could not be started",
    ANY: "whatever ended it, but for success and a cancel",
}
"""What `--retry-on` takes, with what each means."""

MIN_LEASE_SECONDS, MAX_LEASE_SECONDS = 30.0, 86_400.0
"""Shorter, an outage of the bus would end jobs; longer, a lost machine would be noticed too late."""

MAX_CAUSES = 32

MOST_STARTS_LOST = 10
"""Attempts of one job that may be lost before user code ran: more are no accident of one machine."""


def check_cause(word: str) -> str:
    """`word`, if it is a cause; `BadRequest` names those there are."""
    name, colon, number = word.partition(":")
    if not colon and name in CAUSES:
        return word
    if colon and number.isascii() and number.isdecimal() and name in _WITH_NUMBER:
        low, high = _WITH_NUMBER[EndReason(name)]
        if low <= int(number) <= high and number == str(int(number)):
            return word
    raise BadRequest(
        f"a job can be retried on {', '.join(CAUSES)}, exit:N with N from 1 to 255 or signal:N,"
        f" not {word[:40]!r}"
    )


def is_cause(end: JobEnd, retry_on: Sequence[str]) -> bool:
    """Whether an attempt that ended so, told by its agent, is among what a user wants repeated."""
    event = end_event(end)
    if event in (JobEvent.SUCCEED, JobEvent.CANCEL):
        return False
    return event is JobEvent.LOSE or not {ANY, end.reason.value, label(end)}.isdisjoint(retry_on)


def may_run_again(*, ran: bool, attempt: int, repeated: int, retries: int) -> bool:
    """Whether the end of `attempt`, for a cause, puts its job back into the queue.

    An attempt that never ran user code is not counted against `retries`, but there is an end to
    trying; one that ran, or may have, because its agent fell silent, is repeated only while `retries`
    allow it. `repeated` counts the attempts that ran and are repeated, this one too.
    """
    return repeated <= retries if ran else attempt - repeated < MOST_STARTS_LOST
