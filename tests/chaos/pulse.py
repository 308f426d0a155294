"""Watching the system from beside: when it answers, and whether leases are held that should not be."""

import asyncio
import time
from dataclasses import dataclass, field

import aiohttp
import asyncpg

from tests.chaos.faults import Faults
from tests.chaos.history import History
from tests.chaos.system import AWAY, System

_EVERY_SECONDS = 0.1
_AGENTS_EVERY = 3
_LEASES_EVERY_SECONDS = 0.5
_PATIENCE = aiohttp.ClientTimeout(total=2.5)

OVERDUE = """
select attempts.job_id, attempts.attempt, extract(epoch from now() - lease_until)::float8 as overdue
from scheduler.attempts join scheduler.jobs on jobs.id = attempts.job_id
where attempts.ended_at is null and jobs.retries > 0 and lease_until < now()
"""
"""Open attempts of jobs that may run again, and for how long their leases have been over."""


@dataclass(slots=True)
class Sample:
    """One look: asked at `began`, answered or given up at `ended`."""

    began: float
    ended: float
    ready: bool
    agents: dict[str, float] = field(default_factory=dict)
    """When the scheduler last heard of each, where this look was for them; by the campaign's clock."""


class Pulse:
    """Takes samples until it is cancelled."""

    def __init__(self, system: System, history: History, faults: Faults) -> None:
        self._system, self._history, self._faults = system, history, faults
        self.samples: list[Sample] = []

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._answers(), name="answers")
            group.create_task(self._leases(), name="leases")

    async def _answers(self) -> None:
        headers = {"Authorization": f"Bearer {self._system.cluster.key}"}
        url = self._system.cluster.url
        number = 0
        async with aiohttp.ClientSession(headers=headers, timeout=_PATIENCE) as session:
            while True:
                number += 1
                sample = Sample(began=self._history.now, ended=0.0, ready=False)
                try:
                    async with session.get(f"{url}/ready") as answer:
                        sample.ready = answer.status == 200
                    if sample.ready and number % _AGENTS_EVERY == 0:
                        async with session.get(f"{url}/api/v1/agents") as answer:
                            found = await answer.json() if answer.status == 200 else {"agents": ()}
                        shift = self._history.now - time.time()
                        sample.agents = {one["name"]: one["last_seen"] + shift for one in found["agents"]}
                except (aiohttp.ClientError, OSError, TimeoutError):
                    pass
                sample.ended = self._history.now
                self.samples.append(sample)
                if not sample.ready:
                    self._faults.calm_since = self._history.now
                await asyncio.sleep(_EVERY_SECONDS)

    async def _leases(self) -> None:
        """Note every lease that is over although its attempt is not, and how long it has been calm."""
        url = self._system.cluster.postgres.url()
        while True:
            await asyncio.sleep(_LEASES_EVERY_SECONDS)
            try:
                connection = await asyncpg.connect(url, timeout=2)
                try:
                    rows = await connection.fetch(OVERDUE, timeout=2)
                finally:
                    connection.terminate()
            except AWAY:
                self._faults.calm_since = self._history.now
                continue
            for row in rows:
                self._history.note(
                    "overdue",
                    job=row["job_id"],
                    attempt=row["attempt"],
                    overdue=round(row["overdue"], 3),
                    calm=round(self._faults.calm_for, 3),
                )


@dataclass(frozen=True, slots=True)
class Recovery:
    """How long after the end of a fault the system answered again, or the agent was heard again."""

    kind: str
    target: str
    seconds: float
    alone: bool
    """Nothing else that it depends on was struck meanwhile."""


def recoveries(history: History, samples: list[Sample]) -> list[Recovery]:
    """Of every fault that ended, where the system was seen to recover."""
    healed = history.of("healed")
    found = []
    for entry in healed:
        target, end = entry["target"], entry["at"]
        if target == "clients" or entry["kind"] in ("shim kill", "shim stop"):
            continue
        back = _back(samples, target, end)
        if back is None:
            continue
        others = [
            other
            for other in healed
            if other is not entry and not other["target"].startswith(("agent:", "clients"))
        ]
        alone = not any(other["began"] < back and other["at"] > end - 1.0 for other in others)
        found.append(Recovery(entry["kind"], target, back - end, alone))
    return found


def _back(samples: list[Sample], target: str, end: float) -> float | None:
    agent = target.removeprefix("agent:") if target.startswith("agent:") else ""
    for sample in samples:
        # The gateway may repeat an answer that is a tenth of a second old.
        if not agent and sample.ready and sample.began >= end + 0.1:
            return sample.ended
        if agent and sample.agents.get(agent, -1.0) >= end:
            return sample.agents[agent]
    return None
