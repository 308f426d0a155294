"""Sentences for people about agents and the queue: why a job waits, why one can never run. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

MOST_COUNTED = 100
"""Jobs ahead are counted up to here: beyond it the number tells nobody anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An agent as a reason. `state` is a word of `agent_state`; `by` and `reason` are of its cordon."""

    name: str
    gpu_model: str
    gpus_total: int
    gpus_free: int
    state: str
    gpus_quarantined: int = 0
    by: str = ""
    reason: str = ""


def agent_state(heard: str, *, stopping: bool, cordoned: bool, drain: bool, gpus_held: int) -> str:
    """One word for how an agent stands. `heard` is `online`, `unreachable` or `offline`: of one that is not
    heard nothing else is certain. An operator's word comes before the agent's own."""
    if heard != "online":
        return heard
    if drain:
        return "draining" if gpus_held else "drained"
    if cordoned:
        return "cordoned"
    return "stopping" if stopping else "online"


def cordon_clause(state: str, by: str, reason: str) -> str:
    """`is drained by Ada: new driver`, and the like."""
    verb = "cordoned" if state == "cordoned" else "drained"
    who = f" by {by}" if by else ""
    return f"is {verb}{who}: {reason}" if reason else f"is {verb}{who}"


def no_such_gpus(model: str, count: int, agents: Sequence[Place]) -> str | None:
    """Why no agent of `agents` could ever run a job of `count` GPUs; None when one could."""
    if not agents:
        return "no agent has ever joined, so there are no GPUs to run on"
    of_model = [agent for agent in agents if agent.gpu_model == model]
    if not of_model:
        other = max(agents, key=lambda agent: agent.gpus_total)
        return (
            f"no agent has {model} GPUs; the largest agent has"
            f" {other.gpus_total} {other.gpu_model} (agent {other.name})"
        )
    largest = max(of_model, key=lambda agent: agent.gpus_total)
    if largest.gpus_total >= count:
        return None
    wanted = f"{count} {model} GPU{'s' if count > 1 else ''}"
    return f"no agent has {wanted}; the largest has {largest.gpus_total} (agent {largest.name})"


def why_waiting(model: str, count: int, *, ahead: int, best: Place | None) -> str:
    """Why a queued job waits. `best` is the agent nearest to taking it, `ahead` how many go first.
    Empty when nothing stands in its way: an agent is about to take it."""
    reasons = []
    if ahead:
        number = f"more than {MOST_COUNTED}" if ahead > MOST_COUNTED else str(ahead)
        reasons.append(f"{number} {'job' if ahead == 1 else 'jobs'} ahead")
    free = f"{count} free {model} GPU{'s' if count > 1 else ''}"
    if best is None or best.gpus_total < count:
        reasons.append(f"no agent has {count} {model} GPU{'s' if count > 1 else ''} any more")
    elif best.state != "online":
        closed = best.state in ("cordoned", "draining", "drained")
        stands = cordon_clause(best.state, best.by, best.reason) if closed else f"is {best.state}"
        reasons.append(f"no agent with {free}; {best.name}, which has {best.gpus_total}, {stands}")
    elif best.gpus_free < count:
        are = "is" if best.gpus_free == 1 else "are"
        away = f", {best.gpus_quarantined} quarantined" if best.gpus_quarantined else ""
        reasons.append(
            f"no agent with {free}; {best.gpus_free} of {best.gpus_total} {are} free on {best.name}{away}"
        )
    return "; ".join(reasons)
