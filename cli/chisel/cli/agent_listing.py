"""Agents as a table and as sentences for operators. Pure: nothing here prints."""

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from chisel.cli import listing, wording
from chisel.cli.legible import printable

if TYPE_CHECKING:
    from chisel_shared.contract.messages import AgentView


def table(found: "Sequence[AgentView]", *, now: float, width: int) -> str:
    """The table of `chisel admin agents ls`. What there is to know about an agent beyond its row stands
    below the row, in full however narrow the terminal is."""
    ids = listing.short_ids(agent.id for agent in found)
    rows = [("AGENT", "ID", "STATE", "GPUS", "FREE", "JOBS", "LAST SEEN")]
    for agent in found:
        free = f"{agent.gpus_free} of {agent.gpus_total}"
        seen = f"{wording.duration(max(0.0, now - agent.last_seen))} ago"
        rows.append((agent.name, ids[agent.id], agent.state, agent.gpu_model, free, str(agent.jobs), seen))
    heading, *lines = listing.fitted(rows, width, whole=1).split("\n")
    shown = [heading]
    for agent, line in zip(found, lines, strict=True):
        shown += [line, *(f"  {note}" for note in notes(agent, now=now))]
    return "\n".join(shown)


def notes(agent: "AgentView", *, now: float) -> list[str]:
    """Who closed an agent, since when and why, and which of its GPUs are given to nobody."""
    told = []
    cordon = agent.cordon
    if cordon is not None:
        ago = f"{wording.duration(max(0.0, now - cordon.since))} ago"
        verb = "drained" if cordon.drain else "cordoned"
        end = f", {ending(agent, now=now)}" if agent.jobs and cordon.drain else ""
        told.append(f"{verb} by {cordon.by} {ago}{end}{_because(cordon.reason)}")
    if agent.gpus_quarantined:
        gpus = _count(agent.gpus_quarantined, "GPU")
        told.append(f"{gpus} quarantined{_because(agent.quarantine)}")
    return told


def ending(agent: "AgentView", *, now: float) -> str:
    """What becomes of the jobs on an agent that is drained."""
    deadline = agent.cordon.deadline if agent.cordon is not None else None
    if deadline is None:
        return "what runs is waited for"
    if deadline <= now:
        return "what runs is being ended"
    return f"what still runs in {wording.duration(deadline - now)} is ended then"


def cordoned(agent: "AgentView") -> str:
    """Said after a cordon."""
    runs = f"{_jobs(agent)} on it" if agent.jobs else "nothing runs on it"
    goes_on = f", and {'goes' if agent.jobs == 1 else 'go'} on" if agent.jobs else ""
    undo = f"chisel admin agents uncordon {shlex.quote(agent.name)}"
    return f"{agent.name} is given nothing new; {runs}{goes_on}. To undo it: {undo}"


def draining(agent: "AgentView", *, now: float) -> str:
    """Said after a drain that nobody waits for."""
    if not agent.jobs:
        return drained(agent)
    return f"{left(agent, now=now)}. To see how many are left: chisel admin agents ls"


def left(agent: "AgentView", *, now: float) -> str:
    """How far a drain is."""
    out = " (it is out of contact)" if agent.state in ("unreachable", "offline") else ""
    return f"{agent.name} drains: {_jobs(agent)} on it{out}; {ending(agent, now=now)}"


def drained(agent: "AgentView") -> str:
    """Said when nothing runs on an agent that was drained."""
    undo = f"chisel admin agents uncordon {shlex.quote(agent.name)}"
    return f"{agent.name} is drained: nothing runs on it. When it may have jobs again: {undo}"


def uncordoned(agent: "AgentView") -> str:
    """Said after an uncordon."""
    if agent.state == "online":
        return f"{agent.name} is given jobs again"
    return f"{agent.name} is given jobs again as soon as it is back (it is {agent.state})"


def _jobs(agent: "AgentView") -> str:
    return f"{agent.jobs} {'job runs' if agent.jobs == 1 else 'jobs run'}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _because(reason: str) -> str:
    return f": {printable(reason)}" if reason else ""
