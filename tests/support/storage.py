"""A real storage service inside a test: its own folder and database, a fake scheduler on the bus."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import aiohttp

from chisel_shared.contract.errors import NotFound
from chisel_shared.contract.ids import AgentId, JobId, ProjectId
from chisel_shared.contract.job import JobEnd
from chisel_shared.contract.messages import (
    Attempts,
    AttemptView,
    Done,
    GetAttempt,
    ListUnarchived,
    MarkArchived,
)
from chisel_shared.runtime.bus import Bus
from chisel_shared.runtime.db import open_database
from chisel_shared.runtime.streams import Streams
from chisel_storage.archive import Archiver
from chisel_storage.blobs import DiskBlobs
from chisel_storage.bundles import Bundles
from chisel_storage.http import StorageHttp
from chisel_storage.outputs import DiskOutputs
from chisel_storage.parts import DiskParts
from chisel_storage.readings import Limits, Reader, Readings
from chisel_storage.service import Storage
from chisel_storage.settings import Settings
from chisel_storage.store import MIGRATIONS, SCHEMA, Store
from chisel_storage.trace_store import TraceStore
from chisel_storage.traces import TraceDesk

TOKEN = "storage-token-of-the-tests"
PROJECT = ProjectId("project-1")


class FakeAttempts:
    """What the scheduler knows of attempts, and which were marked archived."""

    def __init__(self) -> None:
        self.views: dict[tuple[JobId, int], AttemptView] = {}
        self.marked: list[tuple[JobId, int]] = []

    def add(self, job_id: JobId, attempt: int, agent_id: AgentId, end: JobEnd | None = None) -> AttemptView:
        view = AttemptView(
            job_id=job_id, attempt=attempt, agent_id=agent_id, project_id=PROJECT, end=end, archived=False
        )
        self.views[job_id, attempt] = view
        return view

    async def serve(self, bus: Bus) -> None:
        await bus.serve(GetAttempt, self._get)
        await bus.serve(ListUnarchived, self._unarchived)
        await bus.serve(MarkArchived, self._mark)

    async def _get(self, ask: GetAttempt) -> AttemptView:
        try:
            return self.views[ask.job_id, ask.attempt]
        except KeyError:
            raise NotFound from None

    async def _unarchived(self, ask: ListUnarchived) -> Attempts:
        waiting = (v for key, v in self.views.items() if v.end and key not in self.marked)
        return Attempts(attempts=tuple(waiting)[: ask.limit])

    async def _mark(self, ask: MarkArchived) -> Done:
        if (ask.job_id, ask.attempt) not in self.marked:
            self.marked.append((ask.job_id, ask.attempt))
        return Done()


class RunningStorage:
    """The parts of a storage service; `stop` and `start` are a crash and a restart of the process."""

    def __init__(self, *, bus: Bus, streams: Streams, folder: Path, database_url: str) -> None:
        self._bus = bus
        self._streams = streams
        self._folder = folder
        self._database_url = database_url
        self._stack = AsyncExitStack()
        self.reads_with: tuple[str, ...] = ()
        """The command that reads traces from the next start on; the service's own with ()."""
        self.url = ""

    async def start(self, *, archiving: bool = False, reading: bool = True) -> None:
        database = await self._stack.enter_async_context(
            open_database(self._database_url, connections=2, schema=SCHEMA, migrations=MIGRATIONS)
        )
        self.store, self.trace_store = Store(database), TraceStore(database)
        self.blobs, self.outputs = DiskBlobs(self._folder), DiskOutputs(self._folder)
        self.blobs.prepare()
        self.parts = DiskParts(self._folder, self.blobs)
        self.parts.prepare()
        self.traces = TraceDesk(bus=self._bus, store=self.trace_store)
        self.archiver = Archiver(
            bus=self._bus,
            streams=self._streams,
            store=self.store,
            outputs=self.outputs,
            settle_seconds=0.3,
        )
        settings = Settings(
            nats_url="unused", database_url=self._database_url, token=TOKEN, data_dir=self._folder, port=0
        )
        self.bundles = Bundles(
            blobs=self.blobs,
            store=self.store,
            max_bytes=settings.max_bundle_bytes,
            max_entries=settings.max_bundle_entries,
        )
        http = StorageHttp(
            blobs=self.blobs, parts=self.parts, bundles=self.bundles, traces=self.traces,
            outputs=self.outputs, store=self.store, token=TOKEN,
        )  # fmt: skip
        reader = Reader(limits=Limits(memory_bytes=1 << 30, seconds=60.0), command=self.reads_with)
        self.readings = Readings(desk=self.traces, store=self.trace_store, blobs=self.blobs, reader=reader)
        self.service = Storage(
            bus=self._bus,
            bundles=self.bundles,
            traces=self.traces,
            readings=self.readings if reading else _Idle(),  # type: ignore[arg-type]
            archiver=self.archiver if archiving else _Idle(),  # type: ignore[arg-type]
            http=http,
            settings=settings,
        )
        ready = asyncio.Event()
        running = asyncio.create_task(self.service.run(ready))

        async def end() -> None:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
            await self.service.drain()

        self._stack.push_async_callback(end)
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        self.url = self.service.url

    async def stop(self) -> None:
        await self._stack.aclose()
        self._stack = AsyncExitStack()

    def http(self, token: str = TOKEN) -> aiohttp.ClientSession:
        """A session whose answers have been read to their end once they are there."""
        reading = aiohttp.TraceConfig()
        reading.on_request_end.append(_read)
        return aiohttp.ClientSession(
            base_url=self.url, headers={"Authorization": f"Bearer {token}"}, trace_configs=[reading]
        )


async def _read(session: aiohttp.ClientSession, context: object, told: aiohttp.TraceRequestEndParams) -> None:
    """An answer that nobody reads keeps its connection until the garbage collector comes by and warns,
    in whichever test runs then."""
    await told.response.read()


class _Idle:
    """Does nothing by itself: the test calls the real one's steps."""

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def on_changed(self, changed: object) -> None:
        return


@asynccontextmanager
async def running_storage(
    *, bus: Bus, streams: Streams, folder: Path, database_url: str, archiving: bool = False
) -> AsyncIterator[RunningStorage]:
    storage = RunningStorage(bus=bus, streams=streams, folder=folder, database_url=database_url)
    try:
        await storage.start(archiving=archiving)
        yield storage
    finally:
        await storage.stop()
