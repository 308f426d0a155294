"""A campaign: a plan carried out on a running system, until everything has come to rest."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from tests.chaos.clients import Clients, Refused
from tests.chaos.collect import PLACES, Places
from tests.chaos.faults import Faults
from tests.chaos.history import History, boottime
from tests.chaos.plan import Plan
from tests.chaos.pulse import Pulse, Recovery, recoveries
from tests.chaos.system import AWAY, System

_REST_EVERY_SECONDS = 0.5
_LAST_WORDS_SECONDS = 5.0
"""What users have to note how it ended, once nothing more is to come."""

NOT_AT_REST = """
select
    (select count(*) from scheduler.jobs where ended_at is null) as unfinished,
    (select count(*) from scheduler.attempts where ended_at is null) as open,
    (select count(*) from scheduler.attempts where ended_at is not null and archived_at is null)
        as unarchived,
    (select count(*) from scheduler.outbox) as unsaid,
    (select count(*) from storage.readings where read_as = 0) as unread,
    (select coalesce(sum(gpus_held), 0) from scheduler.agents) as held
"""


class Campaign:
    """Carries out `plan`. `folder` gets the plan, the history and what the witnesses say."""

    def __init__(self, system: System, plan: Plan, folder: Path) -> None:
        self.plan, self.folder, self._system = plan, folder, system
        witness = folder / "witness"
        witness.mkdir()
        (folder / "plan.json").write_bytes(msgspec.json.encode(plan))
        (folder / PLACES).write_bytes(msgspec.json.encode(self._places()))
        self.history = History(folder / "history.jsonl")
        self.faults = Faults(system, self.history)
        self.pulse = Pulse(system, self.history, self.faults)
        self.clients = Clients(system, self.history, witness=witness, canary=plan.canary)

    async def run(self, beside: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        """All of it, and `beside` meanwhile. Afterwards the system is at rest, or the history says what is
        not."""
        await self.clients.open()
        self.history.began = boottime()
        self.history.note(
            "began", boottime=self.history.began, seed=self.plan.seed, profile=self.plan.profile
        )
        watching = [
            asyncio.create_task(self.pulse.run(), name="pulse"),
            asyncio.create_task(self.faults.supervise(), name="supervisor"),
        ]
        if beside is not None:
            watching.append(asyncio.create_task(beside(), name="beside"))
        working: list[asyncio.Task[None]] = []
        try:
            async with asyncio.TaskGroup() as group:
                for fault in self.plan.faults:
                    group.create_task(self._at(fault.at, partial(self.faults.strike, fault)))
                working += [
                    *(self._user(job.at, partial(self.clients.run, job)) for job in self.plan.jobs),
                    *(self._user(one.at, partial(self.clients.upload, one)) for one in self.plan.uploads),
                ]
            self.history.note("faults over")
            await self._rest(working)
        finally:
            await self.clients.end_commands()
            if working:
                await asyncio.wait(working, timeout=_LAST_WORDS_SECONDS)
            for task in (*working, *watching):
                task.cancel()
            await self.clients.close()
            ended = await asyncio.gather(*working, *watching, return_exceptions=True)
        for failure in ended:
            if isinstance(failure, Exception) and not isinstance(failure, Refused):
                self.history.note("user failed", error=repr(failure))

    def _places(self) -> Places:
        cluster = self._system.cluster
        return Places(
            database=cluster.postgres.url(),
            nats=cluster.nats.url,
            nats_user=cluster.nats.user,
            nats_password=cluster.nats.password,
            system=str(self._system.folder),
        )

    def recoveries(self) -> list[Recovery]:
        return recoveries(self.history, self.pulse.samples)

    async def _at(self, at: float, work: Callable[[], Awaitable[None]]) -> None:
        await asyncio.sleep(max(0.0, at - self.history.now))
        await work()

    def _user(self, at: float, work: Callable[[], Awaitable[None]]) -> "asyncio.Task[None]":
        return asyncio.create_task(self._at(at, work), name="user")

    async def _rest(self, working: list[asyncio.Task[None]]) -> None:
        """Wait until nothing is left to do, for as long as the plan gives it."""
        end = time.monotonic() + self.plan.rest
        left: dict[str, int] = {"everything": 1}
        while left and time.monotonic() < end:
            await asyncio.sleep(_REST_EVERY_SECONDS)
            left = await self._left()
            busy = sum(not task.done() for task in working)
            if busy:
                left["users"] = busy
        self.history.note("at rest" if not left else "not at rest", left=left)

    async def _left(self) -> dict[str, int]:
        try:
            connection = await asyncpg.connect(self._system.cluster.postgres.url(), timeout=3)
            try:
                row = await connection.fetchrow(NOT_AT_REST, timeout=3)
            finally:
                connection.terminate()
        except AWAY:
            return {"database": 1}
        left = {name: int(count) for name, count in row.items() if count}
        for agent in self._system.agents:
            folders = len(list((self._system.data_of(agent) / "attempts").glob("*")))
            if folders:
                left[f"folders of {agent}"] = folders
        return left
