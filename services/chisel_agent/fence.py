"""When an agent must end what it holds, so that it is gone before anybody else may start it. Pure."""

from collections.abc import Collection

from chisel_shared.contract.messages import AttemptRef, Renewed

_MOST_EARLY_SECONDS = 30.0


def lease_end(sent_at: float, lease_seconds: float) -> float:
    """When a job that may be run again must have ended, had its lease been granted in answer to what was
    sent at `sent_at`: the scheduler cannot have begun to count earlier, and counts longer."""
    return sent_at + lease_seconds - min(_MOST_EARLY_SECONDS, lease_seconds / 5)


def to_end(asked: Collection[AttemptRef], answer: Renewed) -> set[AttemptRef]:
    """What a renewal's answer does not leave to us: what it calls gone, and what it does not name at all."""
    return set(asked) - {*answer.renewed, *answer.cancel}
