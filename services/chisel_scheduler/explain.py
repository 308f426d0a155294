"""Sentences for people about agents and the queue: why a job waits, why one can never run. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from chisel_scheduler.placement import START_SECONDS
from chisel_scheduler.quota import Quota, too_small

MOST_COUNTED = 100
"""Jobs ahead are counted up to here: beyond it the number tells nobody anything."""
_ENOUGH_MINUTES = 60
"""Nobody is advised a time limit longer than this: the sentence would not be worth its length."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A reservation as a reason: which agent, for a job of how many GPUs, how many more must be free, and
    in how many seconds they are at the latest, None when nobody knows."""

    name: str
    gpu_count: int
    gpus_missing: int
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a queued job stands. `ahead` go first, `lighter` of them only because their users had less.
    `quota` is used up; `reserved` is this job's own agent; `best` is the agent nearest to taking it,
    `kept` for another job if it is."""

    ahead: int = 0
    lighter: int = 0
    quota: Quota | None = None
    reserved: Kept | None = None
    best: Place | None = None
    kept: Kept | None = None


def why_waiting(model: str, count: int, standing: Standing, *, mine: bool = False) -> str:
    """Why a queued job waits; `mine` when its own user asks. Empty when nothing stands in its way: an
    agent is about to take it."""
    if standing.quota is not None:
        return _over(standing.quota, count, mine=mine)
    reasons = []
    if standing.ahead:
        reasons.append(_ahead(standing.ahead, standing.lighter))
    if standing.reserved is not None:
        reasons.append(_reserved(standing.reserved))
    elif (room := _room(model, count, standing)) is not None:
        reasons.append(room)
    return "; ".join(reasons)


def over_quota(count: int, quota: Quota) -> str:
    """Why a job of `count` GPUs is refused, and who can change it."""
    whose = f"project {quota.name} may have" if quota.of_project else "you may have"
    project = " --project" if quota.of_project else ""
    limit = f"{quota.gpus} GPU{'' if quota.gpus == 1 else 's'}" if quota.gpus else "no GPUs"
    return (
        f"{whose} {limit} at once and this job wants {count}: ask for fewer, or let an admin raise it"
        f" (chisel admin quota set {quota.name}{project} --gpus {count})"
    )


def _over(quota: Quota, count: int, *, mine: bool) -> str:
    whose = "your quota" if mine and not quota.of_project else f"the quota of {quota.name}"
    if quota.of_project:
        whose = f"the quota of project {quota.name}"
    gpus = f"{quota.gpus} GPU{'' if quota.gpus == 1 else 's'}"
    if too_small(count, (quota,)):
        return f"{whose} of {gpus} is smaller than this job; an admin can raise it"
    left = quota.gpus - quota.held
    if left <= 0:
        return f"{whose} of {gpus} is in use"
    return f"{whose} of {gpus} has {left} left"


def _ahead(ahead: int, lighter: int) -> str:
    number = f"more than {MOST_COUNTED}" if ahead > MOST_COUNTED else str(ahead)
    said = f"{number} {'job' if ahead == 1 else 'jobs'} ahead"
    if not lighter or (ahead > MOST_COUNTED and lighter < ahead):
        return said  # of those not counted nobody knows whose they are
    if lighter == ahead == 1:
        return f"{said}, of a user who had less lately"
    which = "all" if lighter >= ahead else str(lighter)
    return f"{said}, {which} of users who had less lately"


def _reserved(own: Kept) -> str:
    if not own.gpus_missing:
        return f"reserved on {own.name}, which is about to take it"
    if own.seconds is not None:
        return f"reserved on {own.name}, free in at most {_minutes(own.seconds)}"
    more = f"{own.gpus_missing} more {'GPU is' if own.gpus_missing == 1 else 'GPUs are'}"
    return f"reserved on {own.name}, free when {more}"


def _room(model: str, count: int, standing: Standing) -> str | None:
    """What is wrong with the best place there is; None when nothing is."""
    best, kept = standing.best, standing.kept
    gpus = f"{model} GPU{'s' if count > 1 else ''}"
    if best is None or best.gpus_total < count:
        return f"no agent has {count} {gpus} any more"
    free = f"{count} free {gpus}"
    if best.state != "online":
        closed = best.state in ("cordoned", "draining", "drained")
        stands = cordon_clause(best.state, best.by, best.reason) if closed else f"is {best.state}"
        return f"no agent with {free}; {best.name}, which has {best.gpus_total}, {stands}"
    if best.gpus_free < count:
        are = "is" if best.gpus_free == 1 else "are"
        away = f", {best.gpus_quarantined} quarantined" if best.gpus_quarantined else ""
        return f"no agent with {free}; {best.gpus_free} of {best.gpus_total} {are} free on {best.name}{away}"
    if kept is None:
        return None
    said = f"{best.name} is kept for a job of {kept.gpu_count} GPUs"
    minutes = int((kept.seconds - START_SECONDS) // 60) if kept.seconds is not None else 0
    if not 1 <= minutes <= _ENOUGH_MINUTES:
        return said
    return f"{said}; with --time-limit {minutes}m this one could run before it"


def _minutes(seconds: float) -> str:
    if seconds < 60:
        return "a minute"
    if seconds < 5400:
        return f"{math.ceil(seconds / 60)} min"
    return f"{math.ceil(seconds / 3600)} h"
