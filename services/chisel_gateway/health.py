"""Whether a job submitted now would get somewhere: one cheap request to everything behind the gateway."""

import asyncio
import time

from chisel_gateway.storage import StorageClient
from chisel_shared.contract.errors import ChiselError, Unavailable
from chisel_shared.contract.ids import Digest, ProjectId
from chisel_shared.contract.messages import Authorize, HasBundle, ListAgents
from chisel_shared.runtime.bus import Bus
from chisel_shared.runtime.streams import Streams

_ASK_SECONDS = 2.0
_VALID_SECONDS = 0.1
"""The address is open to everybody: however often it is asked, the services are not."""


class Readiness:
    """Remembers its answer for a moment, and asks once for all who ask at the same time."""

    def __init__(self, *, bus: Bus, streams: Streams, storage: StorageClient) -> None:
        self._bus = bus
        self._streams = streams
        self._storage = storage
        self._asking = asyncio.Lock()
        self._away: tuple[str, ...] = ()
        self._asked_at = float("-inf")

    async def away(self) -> tuple[str, ...]:
        """The names of what does not answer, or could not keep what it is given; empty when all is well."""
        async with self._asking:
            if time.monotonic() - self._asked_at > _VALID_SECONDS:
                answers = await asyncio.gather(
                    self._auth(), self._scheduler(), self._storage_too(), self._streams_too()
                )
                names = ("auth", "scheduler", "storage", "bus")
                self._away = tuple(name for name, ok in zip(names, answers, strict=True) if not ok)
                self._asked_at = time.monotonic()
            return self._away

    async def _auth(self) -> bool:
        """A refusal is an answer."""
        try:
            await self._bus.request(Authorize(token="", action="jobs:read"), timeout=_ASK_SECONDS)
        except Unavailable:
            return False
        except ChiselError:
            return True
        return True

    async def _scheduler(self) -> bool:
        try:
            await self._bus.request(ListAgents(), timeout=_ASK_SECONDS)
        except ChiselError:
            return False
        return True

    async def _streams_too(self) -> bool:
        try:
            return not await self._streams.failed()
        except Unavailable:
            return False

    async def _storage_too(self) -> bool:
        try:
            await self._storage.ping()
            nothing = HasBundle(project_id=ProjectId("none"), digest=Digest(""))
            await self._bus.request(nothing, timeout=_ASK_SECONDS)
        except ChiselError:
            return False
        return True
