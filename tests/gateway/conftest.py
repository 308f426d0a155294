"""One gateway a test, in front of a real bus, a real storage service and a small fake of the rest."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from chisel_gateway.service import Gateway
from chisel_gateway.settings import Settings
from chisel_gateway.storage import StorageClient
from chisel_shared.runtime.bus import NatsBus
from chisel_shared.runtime.streams import Streams
from tests.gateway.backend import USER, Backend
from tests.support.storage import TOKEN, RunningStorage, running_storage

Http = Callable[..., aiohttp.ClientSession]


@pytest.fixture
async def backend(bus: NatsBus) -> Backend:
    made = Backend(bus)
    await made.serve(bus)
    return made


@pytest.fixture
async def storage(
    bus: NatsBus, streams: Streams, tmp_path: Path, database_url: str
) -> AsyncIterator[RunningStorage]:
    async with running_storage(
        bus=bus, streams=streams, folder=tmp_path / "storage", database_url=database_url
    ) as running:
        yield running


@asynccontextmanager
async def running_gateway(bus: NatsBus, streams: Streams, storage_url: str) -> AsyncIterator[Gateway]:
    settings = Settings(
        nats_url="unused", port=0, storage_url=storage_url, storage_token=TOKEN, drain_seconds=2.0
    )
    async with StorageClient.connect(url=storage_url, token=TOKEN) as client:
        service = Gateway(bus=bus, streams=streams, storage=client, settings=settings)
        ready = asyncio.Event()
        running = asyncio.create_task(service.run(ready))
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        try:
            yield service
        finally:
            await service.drain()
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


@pytest.fixture
async def gateway(
    bus: NatsBus, streams: Streams, storage: RunningStorage, backend: Backend
) -> AsyncIterator[Gateway]:
    async with running_gateway(bus, streams, storage.url) as service:
        yield service


@pytest.fixture
async def http(gateway: Gateway) -> AsyncIterator[Http]:
    """Sessions by key: `http()` is the user's, `http(None)` shows none."""
    async with AsyncExitStack() as stack:
        made: list[aiohttp.ClientSession] = []

        def session(key: str | None = USER) -> aiohttp.ClientSession:
            headers = {} if key is None else {"Authorization": f"Bearer {key}"}
            made.append(aiohttp.ClientSession(base_url=gateway.url, headers=headers))
            stack.push_async_callback(made[-1].close)
            return made[-1]

        yield session


@pytest.fixture(autouse=True)
def no_errors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever a client does, the gateway has no defect to report."""
    yield
    told = [record for phase in ("setup", "call", "teardown") for record in caplog.get_records(phase)]
    ours = (record for record in told if record.name.startswith("chisel"))
    errors = [record for record in ours if record.levelno >= logging.ERROR]
    assert not errors, [(record.getMessage(), record.__dict__.get("fields")) for record in errors]
