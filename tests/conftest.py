"""Fixtures every level of tests may use: one NATS and one Postgres a session, a database a test."""

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from chisel_shared.runtime.bus import NatsBus
from chisel_shared.runtime.streams import Streams
from tests.support.backends import (
    Nats,
    Postgres,
    running_nats,
    running_postgres,
    short_folder,
    wait_for_postgres,
    wanted_backend,
)
from tests.support.reaper import reaped

# A shell starts what it runs in the background with Ctrl-C ignored, and every command that a test
# starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    """A folder for one server; its container, unlike a process, does not die with ours by itself."""
    with short_folder() as folder:
        (folder / name).mkdir()
        if wanted_backend() == "docker":
            with reaped(folder):
                yield folder / name
        else:
            yield folder / name


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with _folder("db") as folder, running_postgres(folder) as running:
        asyncio.run(wait_for_postgres(running.url()))
        yield running


@pytest.fixture(scope="session")
def nats_server() -> Iterator[Nats]:
    """Shared by all tests of a session: do not kill it, take `own_nats` for that."""
    with _folder("nats") as folder, running_nats(folder) as running:
        yield running


@pytest.fixture
def own_nats() -> Iterator[Nats]:
    """A NATS that the test may kill, restart and wipe."""
    with _folder("nats") as folder, running_nats(folder) as running:
        yield running


@pytest.fixture
async def database_url(postgres: Postgres) -> AsyncIterator[str]:
    """An empty database of the test's own."""
    name = f"t{uuid.uuid4().hex[:12]}"
    admin = await asyncpg.connect(postgres.url())
    await admin.execute(f'create database "{name}"')
    yield postgres.url(name)
    await admin.execute(f'drop database "{name}" with (force)')
    await admin.close()


@pytest.fixture
async def bus(nats_server: Nats) -> AsyncIterator[NatsBus]:
    async with NatsBus.connect(
        nats_server.url, name="test", user=nats_server.user, password=nats_server.password
    ) as connected:
        yield connected


@pytest.fixture
async def streams(bus: NatsBus) -> Streams:
    made = Streams(bus.client)
    await made.ensure(max_bytes=2 << 30)
    return made
