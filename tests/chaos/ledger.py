"""GPUs over time: what the books gave to whom, and what jobs saw. Pure."""

from collections.abc import Iterator

from tests.chaos.facts import Facts

_OPENS, _CLOSES = "claim", frozenset({"succeed", "fail", "cancel", "time_out", "lose", "requeue"})


def overcommitted(facts: Facts) -> Iterator[tuple[str, str]]:
    """Agents that held more than they have, in the order in which transactions committed."""
    totals = {agent.name: agent.total for agent in facts.agents}
    changes = []
    for job in facts.jobs:
        holders = {attempt.number: attempt for attempt in job.attempts}
        holder = None
        for event in job.events:
            if event.event == _OPENS and event.attempt in holders:
                holder = holders[event.attempt]
                changes.append((event.committed, 1, holder.agent, holder.gpus))
            elif event.event in _CLOSES and holder is not None:  # none: it ended in the queue
                changes.append((event.committed, 0, holder.agent, -holder.gpus))
                holder = None
    held = dict.fromkeys(totals, 0)
    for _, _, agent, gpus in sorted(changes):
        held[agent] = held.get(agent, 0) + gpus
        if held[agent] > totals.get(agent, 0):
            yield agent, f"held {held[agent]} GPUs and has {totals.get(agent, 0)}"


def shared_gpus(facts: Facts) -> Iterator[tuple[str, str]]:
    """GPUs that two jobs were told to be theirs at one time."""
    spans: dict[tuple[str, int], list[tuple[float, float, str]]] = {}
    for job in facts.jobs:
        agents = {attempt.number: attempt.agent for attempt in job.attempts}
        for life in job.lives:
            for gpu in life.gpus:
                place = (agents.get(life.attempt, "?"), gpu)
                spans.setdefault(place, []).append((life.first, life.last, job.plan.name))
    for (agent, gpu), found in spans.items():
        last = (0.0, 0.0, "")
        for span in sorted(found):
            if span[0] < last[1] and span[2] != last[2]:
                yield agent, f"GPU {gpu} was {last[2]}'s and {span[2]}'s for {last[1] - span[0]:.3f} s"
            last = max(last, span, key=lambda one: one[1])
