"""The storage service put together: its handlers on the bus, the inner HTTP door, the archiver, the
reading of traces."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from aiohttp import web

from chisel_shared.contract.messages import HasBundle, JobChanged
from chisel_shared.runtime.bus import Bus, NatsBus, nats_connection
from chisel_shared.runtime.db import open_database
from chisel_shared.runtime.logs import Log
from chisel_shared.runtime.service import Service, serve
from chisel_shared.runtime.streams import Streams
from chisel_storage.archive import Archiver
from chisel_storage.blobs import DiskBlobs
from chisel_storage.bundles import Bundles
from chisel_storage.http import StorageHttp
from chisel_storage.outputs import DiskOutputs
from chisel_storage.parts import DiskParts
from chisel_storage.readings import Limits, Reader, Readings
from chisel_storage.settings import Settings
from chisel_storage.store import MIGRATIONS, SCHEMA, Store
from chisel_storage.trace_store import TraceStore
from chisel_storage.traces import TraceDesk

log = Log("chisel.storage")


class Storage(Service):
    def __init__(
        self, *, bus: Bus, bundles: Bundles, traces: TraceDesk, readings: Readings, archiver: Archiver,
        http: StorageHttp, settings: Settings,
    ) -> None:  # fmt: skip
        self._bus = bus
        self._bundles = bundles
        self._traces = traces
        self._readings = readings
        self._archiver = archiver
        self._settings = settings
        self._runner = web.AppRunner(
            http.app(), access_log=None, auto_decompress=False, shutdown_timeout=settings.drain_seconds
        )

        self.url = ""

    async def run(self, ready: asyncio.Event) -> None:
        await self._bus.serve(HasBundle, self._bundles.presence)
        await self._traces.serve()
        await self._bus.subscribe(JobChanged, self._archiver.on_changed)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._settings.host, self._settings.port).start()
        await self._bus.flush()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        log.info("listening", url=self.url)
        ready.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._archiver.run(), name="archiver")
            tasks.create_task(self._readings.run(), name="readings")

    async def drain(self) -> None:
        await self._runner.cleanup()


@asynccontextmanager
async def sole_owner(folder: Path) -> AsyncIterator[None]:
    """Wait until no other process works in `folder`: two archivers would write into one file."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        warned = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not warned:
                    log.warning("folder_in_use", folder=str(folder))
                warned = True
                await asyncio.sleep(0.1)
        yield
    finally:
        os.close(descriptor)


async def build(settings: Settings, stack: AsyncExitStack) -> Service:
    await stack.enter_async_context(sole_owner(settings.data_dir))
    database = await stack.enter_async_context(
        open_database(
            settings.database_url,
            connections=settings.database_connections,
            schema=SCHEMA,
            migrations=MIGRATIONS,
        )
    )
    store, trace_store = Store(database), TraceStore(database)
    access = {"user": settings.nats_user, "password": settings.nats_password}
    bus = await stack.enter_async_context(NatsBus.connect(settings.nats_url, name="storage", **access))
    # Bulk has a connection of its own, or a request would wait behind megabytes of output.
    bulk = await stack.enter_async_context(
        nats_connection(settings.nats_url, name="storage-output", **access)
    )
    blobs = DiskBlobs(settings.data_dir, reserve_bytes=settings.reserve_bytes)
    outputs, streams = DiskOutputs(settings.data_dir), Streams(bulk)
    blobs.prepare()
    parts = DiskParts(settings.data_dir, blobs)
    parts.prepare()
    traces = TraceDesk(bus=bus, store=trace_store)
    limits = Limits(memory_bytes=settings.summary_memory_bytes, seconds=settings.summary_seconds)
    readings = Readings(desk=traces, store=trace_store, blobs=blobs, reader=Reader(limits=limits))
    archiver = Archiver(
        bus=bus, streams=streams, store=store, outputs=outputs, settle_seconds=settings.settle_seconds
    )
    bundles = Bundles(
        blobs=blobs,
        store=store,
        max_bytes=settings.max_bundle_bytes,
        max_entries=settings.max_bundle_entries,
    )
    http = StorageHttp(
        blobs=blobs,
        parts=parts,
        bundles=bundles,
        traces=traces,
        outputs=outputs,
        store=store,
        token=settings.token,
    )
    return Storage(
        bus=bus,
        bundles=bundles,
        traces=traces,
        readings=readings,
        archiver=archiver,
        http=http,
        settings=settings,
    )


def main() -> None:
    serve("storage", Settings, build)
