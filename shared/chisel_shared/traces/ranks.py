"""All ranks of one job side by side: who makes the others wait.

The n-th collective of a process group is the same one on every rank, so it is matched by group, number and
name, never by time. In it a rank waits from its own start until the last has started; the transfer is what
the one that waits least takes. The straggler is the rank for which the others wait most: it waits least
itself, so the time a rank spends in collectives tells the opposite of what one thinks.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from chisel_shared.traces.report import Collective, GpuTime, Rank, Ranks

_MATTERS = 0.01
"""Of the time in collectives: who makes others wait for less is no straggler."""
_MOST, _FAIR_SHARES = 0.5, 1.5
"""The straggler causes more than half of all waiting, and more than one and a half times its fair share."""


class Run(NamedTuple):
    """One collective on one rank. `start_us` is on a clock that all ranks share."""

    name: str
    group: str
    elements: int
    start_us: float
    us: float


class RankTrace(NamedTuple):
    """What one rank's trace tells; `runs` in the order they started."""

    rank: int
    trace: str
    host: str
    wall_us: float
    gpu: GpuTime
    runs: tuple[Run, ...]


class _Meeting(NamedTuple):
    """One collective that all ranks of its group took part in."""

    name: str
    group: str
    elements: int
    runs: dict[int, Run]


def compare(traces: Sequence[RankTrace]) -> Ranks:
    """Traces of different ranks of one job, in any order."""
    traces = sorted(traces, key=lambda trace: trace.rank)
    meetings, unmatched = _meet(traces)
    waits: dict[int, float] = defaultdict(float)
    caused: dict[int, float] = defaultdict(float)
    last: Counter[int] = Counter()
    joined: Counter[int] = Counter()
    for meeting in meetings:
        latest = max(meeting.runs, key=lambda rank: meeting.runs[rank].start_us)
        last[latest] += 1
        for rank, wait in _waits(meeting).items():
            waits[rank] += wait
            caused[latest] += wait
            joined[rank] += 1
    return Ranks(
        ranks=tuple(
            Rank(
                rank=trace.rank,
                trace=trace.trace,
                wall_us=trace.wall_us,
                gpu=trace.gpu,
                collectives=joined[trace.rank],
                wait_us=waits[trace.rank],
                caused_us=caused[trace.rank],
                arrives_last=last[trace.rank],
            )
            for trace in traces
        ),
        collectives=_kinds(meetings),
        straggler=_straggler(meetings, caused),
        unmatched=unmatched,
        notes=_notes(traces, meetings, unmatched),
    )


def _meet(traces: Sequence[RankTrace]) -> tuple[list[_Meeting], int]:
    """Collectives in which at least two ranks met, and how many runs met nobody. From where the names stop
    to agree the rest of a group is not matched: one rank has skipped a call, or its trace began later."""
    by_group: dict[str, dict[int, list[Run]]] = defaultdict(dict)
    for trace in traces:
        for run in trace.runs:
            by_group[run.group].setdefault(trace.rank, []).append(run)
    meetings: list[_Meeting] = []
    unmatched = 0
    for group, of_ranks in by_group.items():
        matched = 0
        if len(of_ranks) > 1:
            for met in zip(*of_ranks.values(), strict=False):
                if len({(run.name, run.elements) for run in met}) > 1:
                    break
                matched += 1
                runs = dict(zip(of_ranks, met, strict=True))
                meetings.append(_Meeting(met[0].name, group, met[0].elements, runs))
        unmatched += sum(len(runs) - matched for runs in of_ranks.values())
    return meetings, unmatched


def _waits(meeting: _Meeting) -> dict[int, float]:
    """µs from each rank's start to the last one's; never longer than its run, whatever the clocks say."""
    latest = max(run.start_us for run in meeting.runs.values())
    return {rank: min(latest - run.start_us, run.us) for rank, run in meeting.runs.items()}


def _kinds(meetings: Sequence[_Meeting]) -> tuple[Collective, ...]:
    """By kind, those that cost most first."""
    kinds: dict[tuple[str, str, int], list[_Meeting]] = defaultdict(list)
    for meeting in meetings:
        kinds[meeting.name, meeting.group, meeting.elements].append(meeting)
    found = [
        Collective(
            name=name,
            group=group,
            elements=elements,
            count=len(met),
            wait_us=sum(sum(_waits(one).values()) for one in met),
            transfer_us=sum(min(run.us for run in one.runs.values()) for one in met),
        )
        for (name, group, elements), met in kinds.items()
    ]
    return tuple(sorted(found, key=lambda one: (-(one.wait_us + one.transfer_us), one.name)))


def _straggler(meetings: Sequence[_Meeting], caused: dict[int, float]) -> int | None:
    """None when nobody waits for long, or when ranks take turns in coming late."""
    everything = sum(run.us for meeting in meetings for run in meeting.runs.values())
    waited = sum(caused.values())
    if waited <= _MATTERS * everything:
        return None
    present = {rank for meeting in meetings for rank in meeting.runs}
    candidate = max(caused, key=lambda rank: caused[rank])
    enough = max(_MOST, min(_FAIR_SHARES / len(present), 1.0)) * waited
    return candidate if caused[candidate] > enough else None


def _notes(traces: Sequence[RankTrace], meetings: Sequence[_Meeting], unmatched: int) -> tuple[str, ...]:
    said = []
    hosts = {trace.host for trace in traces if trace.host}
    if len(hosts) > 1:
        said.append(
            f"the ranks ran on {len(hosts)} machines, whose clocks may be milliseconds apart:"
            " waits are only as exact as that"
        )
    if len(traces) == 1:
        said.append("there is the trace of one rank only, so nothing can be compared")
    elif not meetings:
        said.append("the ranks have no collective in common in these traces")
    elif unmatched:
        said.append(f"{unmatched} collectives have no partner: a trace began later or ended earlier")
    return tuple(said)
