"""How services grow as they grow older: samples of what they hold, and the slopes through them."""

import asyncio
import os
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from chisel_agent import places
from tests.chaos.history import History
from tests.chaos.system import System

_WARM_UP = 0.2
"""This share of a soak is not looked at: caches fill, pools open."""
_KIB = 1024


@dataclass(frozen=True, slots=True)
class Held:
    """What a process holds at `at`, seconds since the beginning."""

    name: str
    at: float
    pss_bytes: int
    descriptors: int
    cgroups: int = 0
    """Control groups below an agent's; one that waits for a job is among them."""


@dataclass(frozen=True, slots=True)
class Slope:
    """By how much something of one process grows in an hour, and where it ended."""

    name: str
    what: str
    hourly: float
    last: float


class Soak:
    """Takes samples until it is cancelled."""

    def __init__(self, system: System, history: History, *, every_seconds: float) -> None:
        self._system, self._history, self._every = system, history, every_seconds
        self.samples: list[Held] = []

    async def run(self) -> None:
        while True:
            for name in self._system.servers:
                held = self._look(name)
                if held is not None:
                    self.samples.append(held)
            await asyncio.sleep(self._every)

    def _look(self, name: str) -> Held | None:
        try:
            pids = self._system.processes(name)
            pss = sum(_pss(pid) for pid in pids)
            descriptors = sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)
        except OSError:
            return None  # it is being replaced, or one of its sessions has just ended
        groups = 0
        if name.startswith("agent:"):
            for place in places.find(self._system.data_of(name.removeprefix("agent:")))[:1]:
                groups = sum(entry.is_dir() for entry in Path(place).iterdir())
        return Held(name, self._history.now, pss, descriptors, groups)


def _pss(pid: int) -> int:
    """The proportional share of a process's memory: shared pages count once, over all who share them."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * _KIB
    return 0


def slopes(samples: Iterable[Held]) -> list[Slope]:
    """For each process and thing: the least-squares line through what is beyond the warm-up."""
    by_name: dict[str, list[Held]] = {}
    for sample in samples:
        by_name.setdefault(sample.name, []).append(sample)
    found = []
    for name, held in sorted(by_name.items()):
        late = held[int(len(held) * _WARM_UP) :]
        hours = [sample.at / 3600.0 for sample in late]
        columns = {
            "PSS, MB": [sample.pss_bytes / 1e6 for sample in late],
            "descriptors": [float(sample.descriptors) for sample in late],
        }
        if name.startswith("agent:"):
            columns["cgroups"] = [float(sample.cgroups) for sample in late]
        for what, values in columns.items():
            found.append(Slope(name, what, _slope(hours, values), values[-1] if values else 0.0))
    return found


def _slope(at: Sequence[float], values: Sequence[float]) -> float:
    if len(set(at)) < 2:
        return 0.0
    return statistics.linear_regression(at, values).slope


def text_of(found: Iterable[Slope]) -> str:
    """A table for people."""
    lines = ["| process | what | an hour | at the end |", "|---|---|---:|---:|"]
    lines += [f"| {one.name} | {one.what} | {one.hourly:+.2f} | {one.last:.1f} |" for one in found]
    return "\n".join(lines)
