"""A scheduler on real servers, and agents and users that talk to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import pytest

import chisel_scheduler
from chisel_scheduler.service import Scheduler, build
from chisel_scheduler.settings import SchedulerSettings
from chisel_shared.runtime.bus import NatsBus
from chisel_shared.runtime.db import Database, open_database
from tests.scheduler.actors import EMPTY, Desk
from tests.support.backends import Nats, Postgres

MIGRATIONS = Path(chisel_scheduler.__file__).parent / "sql"


@pytest.fixture(scope="session")
def migrated_url(postgres: Postgres) -> str:
    """One database with the scheduler's tables for all tests here: making one takes longer than a test."""

    async def make() -> str:
        admin = await asyncpg.connect(postgres.url())
        await admin.execute("create database scheduler_tests")
        await admin.close()
        url = postgres.url("scheduler_tests")
        async with open_database(url, connections=2, schema="scheduler", migrations=MIGRATIONS):
            return url

    return asyncio.run(make())


@pytest.fixture
async def empty_url(migrated_url: str) -> str:
    """The same database with nothing in its tables."""
    connection = await asyncpg.connect(migrated_url, server_settings={"search_path": "scheduler"})
    await connection.execute(EMPTY)
    await connection.close()
    return migrated_url


@pytest.fixture
async def database(empty_url: str) -> AsyncIterator[Database]:
    async with open_database(empty_url, connections=8, schema="scheduler", migrations=MIGRATIONS) as opened:
        yield opened


@pytest.fixture
async def desk(database: Database) -> Desk:
    """The scheduler's store without a bus, at a time that the test moves."""
    return Desk(database=database)


@pytest.fixture
def settings(nats_server: Nats, empty_url: str) -> SchedulerSettings:
    """Rounds of the reaper far apart, so that a test calls them itself."""
    return SchedulerSettings(
        nats_url=nats_server.url,
        nats_user=nats_server.user,
        nats_password=nats_server.password,
        database_url=empty_url,
        reap_seconds=3_600,
        stream_max_bytes=2 << 30,
    )


@pytest.fixture
async def scheduler(settings: SchedulerSettings, bus: NatsBus) -> AsyncIterator[Scheduler]:
    """The whole service, as its main would build it."""
    async with AsyncExitStack() as stack:
        service = await build(settings, stack)
        ready = asyncio.Event()
        running = asyncio.create_task(service.run(ready), name="scheduler")
        await ready.wait()
        yield service
        await service.drain()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
