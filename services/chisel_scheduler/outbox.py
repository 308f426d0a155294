"""The relay: says to the bus what the outbox holds, once each and in order, and deletes it.

One relay at a time, by a lock that dies with its database session. A crash between saying and deleting
says the same again under the same message id, which the stream drops. Three things wake it: the
handler that just committed, Postgres' notification (another replica committed), and a slow poll.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, Protocol

from chisel_scheduler.store import outbox
from chisel_shared.contract.errors import Unavailable
from chisel_shared.runtime.db import Connection, Database
from chisel_shared.runtime.failpoints import failpoint
from chisel_shared.runtime.logs import Log
from chisel_shared.runtime.service import every

log = Log("chisel.scheduler.outbox")

_ROWS_AT_ONCE = 256
_SUBJECTS_AT_ONCE = 16
"""Jobs whose events are under way together; those of one job always follow one another."""
_POLL_SECONDS = 2.0
_OTHER_RELAY_SECONDS = 1.0
_REST_SECONDS = 0.2
"""Between two tries while the bus or the database is away."""


class EventStream(Protocol):
    def publish_event(self, subject: str, payload: bytes, message_id: str) -> Awaitable[None]:
        """Store one event; `Unavailable` when that is not certain."""


class Relay:
    """Empties the outbox for as long as it runs."""

    def __init__(self, *, database: Database, streams: EventStream) -> None:
        self._database, self._streams = database, streams
        self._woken = asyncio.Event()
        self._places = asyncio.Semaphore(_SUBJECTS_AT_ONCE)

    def kick(self) -> None:
        """A transaction that wrote to the outbox has committed: look now."""
        self._woken.set()

    async def run(self) -> None:
        """Be the relay whenever nobody else is, for ever."""
        await every(_REST_SECONDS, self._hold_session, log=log, name="outbox")

    async def _hold_session(self) -> None:
        async with self._database.session() as c:
            while not await outbox.become_relay(c):  # noqa: ASYNC110 - Postgres does not say when it is free
                await asyncio.sleep(_OTHER_RELAY_SECONDS)
            await outbox.listen(c, self.kick)
            while True:
                self._woken.clear()
                if not await self._relay(c):
                    await self._wait()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(_POLL_SECONDS):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _relay(self, c: Connection) -> bool:
        """Say the oldest rows; whether there were any."""
        rows = await outbox.oldest(c, _ROWS_AT_ONCE)
        if not rows:
            return False
        by_subject: dict[str, list[Any]] = {}
        for row in rows:
            by_subject.setdefault(row["subject"], []).append(row)
        async with asyncio.TaskGroup() as group:
            sending = [
                group.create_task(self._say(of_one), name=f"say {subject}")
                for subject, of_one in by_subject.items()
            ]
        said = [row_id for task in sending for row_id in task.result()]
        if said:
            failpoint("outbox.said")
            await outbox.delete(c, said)
        if len(said) < len(rows):
            await asyncio.sleep(_REST_SECONDS)
        return True

    async def _say(self, rows: Sequence[Any]) -> list[int]:
        """Say the events of one job in order, up to the first that was not taken; returns those that were."""
        said: list[int] = []
        async with self._places:
            for row in rows:
                try:
                    await self._streams.publish_event(row["subject"], bytes(row["body"]), row["message_id"])
                except Unavailable as error:
                    log.warning("event_not_stored", subject=row["subject"], error=str(error))
                    break
                said.append(row["id"])
        return said
