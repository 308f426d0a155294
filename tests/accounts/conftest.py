"""A real auth service and a real gateway on the bus and the database of the tests, with a clock of ours."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

import chisel_auth.service
from chisel_auth.service import assemble
from chisel_auth.settings import AuthSettings
from chisel_gateway.service import Gateway
from chisel_gateway.settings import Settings
from chisel_gateway.storage import StorageClient
from chisel_shared.runtime.bus import NatsBus
from chisel_shared.runtime.db import open_database
from chisel_shared.runtime.service import Service
from chisel_shared.runtime.streams import Streams
from tests.accounts.world import ADA, PASSWORD, Browser, Clock, World

_NOBODY = "http://127.0.0.1:1"
_TOKEN = "no storage is asked here"

MakeWorld = Callable[..., Awaitable[World]]


@asynccontextmanager
async def running(service: Service) -> AsyncIterator[None]:
    """The service from ready to drained."""
    ready = asyncio.Event()
    task = asyncio.create_task(service.run(ready), name="service")
    waiting = asyncio.create_task(ready.wait(), name="ready")
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    try:
        if task.done():
            task.result()
        yield
        await service.drain()
    finally:
        for one in (task, waiting):
            one.cancel()
            with suppress(asyncio.CancelledError):
                await one


@pytest.fixture
async def make_world(
    bus: NatsBus, streams: Streams, database_url: str, tmp_path: Path
) -> AsyncIterator[MakeWorld]:
    """`make_world(public_url=..., proxies=...)` starts both services with these settings of the gateway."""
    async with AsyncExitStack() as stack:

        async def make(**gateway: object) -> World:
            clock = Clock()
            settings = AuthSettings(
                nats_url="unused",
                database_url=database_url,
                bootstrap_key_file=tmp_path / "key",
                admin_token_file=tmp_path / "admin-token",
            )
            migrations = Path(chisel_auth.service.__file__).parent / "sql"
            database = await stack.enter_async_context(
                open_database(database_url, connections=4, schema="auth", migrations=migrations)
            )
            auth = assemble(settings=settings, bus=bus, database=database, clock=clock)
            await stack.enter_async_context(running(auth))
            storage = await stack.enter_async_context(StorageClient.connect(url=_NOBODY, token=_TOKEN))
            door = Settings.model_validate(
                {"nats_url": "unused", "port": 0, "storage_url": _NOBODY, "storage_token": _TOKEN, **gateway}
            )
            service = Gateway(bus=bus, streams=streams, storage=storage, settings=door)
            await stack.enter_async_context(running(service))
            return World(
                url=service.url,
                database_url=database_url,
                admin_token_file=tmp_path / "admin-token",
                key_file=tmp_path / "key",
                clock=clock,
            )

        yield make


@pytest.fixture
async def world(make_world: MakeWorld) -> World:
    return await make_world()


@pytest.fixture
async def new_browser(world: World) -> AsyncIterator[Callable[[], Browser]]:
    """Browsers that know nothing of each other."""
    async with AsyncExitStack() as stack:

        def make() -> Browser:
            jar = aiohttp.CookieJar(unsafe=True)  # it takes cookies from an address without a name
            http = aiohttp.ClientSession(cookie_jar=jar)
            stack.push_async_callback(http.close)
            return Browser(http, world.url)

        yield make


@pytest.fixture
async def browser(new_browser: Callable[[], Browser]) -> Browser:
    return new_browser()


@pytest.fixture
async def ada(world: World, browser: Browser) -> Browser:
    """The first admin, signed in."""
    shown = await browser.open_account(world.admin_token, ADA, PASSWORD)
    assert shown.status == 200, shown.words
    return browser
