"""A job's output as its agent would ship it: a spool file that a test writes, and its shipper."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from chisel_shared.contract.ids import AgentId, JobId, new_id
from chisel_shared.runtime.output import STREAMS, Shipper
from chisel_shared.runtime.streams import Streams, attempt_subject


class Spool:
    """The growing files of one attempt, and what a test wrote into them."""

    def __init__(self, folder: Path, *, attempt: int = 1) -> None:
        self.agent_id = AgentId("agent-1")
        self.job_id = JobId(new_id())
        self.attempt = attempt
        self.folder = folder / self.job_id
        self.folder.mkdir(parents=True)
        self.written = {name: 0 for name in STREAMS}
        self._hashes = {name: hashlib.sha256() for name in STREAMS}
        self._shippers: dict[str, Shipper] = {}
        self.capped = False
        for name in STREAMS:
            self.path(name).touch()

    def path(self, stream: str) -> Path:
        return self.folder / f"{self.attempt}.{stream}"

    @property
    def prefix(self) -> str:
        return attempt_subject(self.agent_id, self.job_id, self.attempt, "")[:-1]

    def write(self, data: bytes, stream: str = "stdout") -> None:
        with self.path(stream).open("ab") as file:
            file.write(data)
        self.written[stream] += len(data)
        self._hashes[stream].update(data)
        if shipper := self._shippers.get(stream):
            shipper.nudge()

    def nudge(self) -> None:
        """The agent is to look."""
        for shipper in self._shippers.values():
            shipper.nudge()

    def sha256(self, stream: str = "stdout") -> str:
        return self._hashes[stream].hexdigest()

    def finish(self) -> None:
        """The job has ended."""
        for name, shipper in self._shippers.items():
            shipper.finish(self.written[name])

    @asynccontextmanager
    async def shipping(self, streams: Streams) -> AsyncIterator[list[asyncio.Task[str]]]:
        """Ship while the body runs; the value are the tasks, which return the digests.
        Leaving early is an agent that dies."""
        self._shippers = {
            name: Shipper(
                streams=streams,
                subject=attempt_subject(self.agent_id, self.job_id, self.attempt, name),
                spool=self.path(name),
                is_capped=lambda: self.capped,
            )
            for name in STREAMS
        }
        tasks = [asyncio.create_task(shipper.run()) for shipper in self._shippers.values()]
        try:
            yield tasks
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self._shippers = {}

    async def ship_all(self, streams: Streams) -> list[str]:
        """Ship what was written, to its end; the digests."""
        async with self.shipping(streams) as tasks:
            self.finish()
            return await asyncio.gather(*tasks)


class Received:
    """What a reader got: digests, and a check that nothing was doubled, lost or out of order."""

    def __init__(self, offsets: dict[str, int] | None = None) -> None:
        """`offsets`: where the reader begins, if not at the beginning."""
        self.offsets = {name: (offsets or {}).get(name, 0) for name in STREAMS}
        self._hashes = {name: hashlib.sha256() for name in STREAMS}

    def take(self, stream: str, offset: int, data: bytes) -> None:
        assert offset == self.offsets[stream], f"{stream} jumped from {self.offsets[stream]} to {offset}"
        self.offsets[stream] += len(data)
        self._hashes[stream].update(data)

    def sha256(self, stream: str = "stdout") -> str:
        return self._hashes[stream].hexdigest()
