"""One storage service a test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chisel_shared.runtime.bus import NatsBus
from chisel_shared.runtime.streams import Streams
from tests.support.storage import FakeAttempts, RunningStorage, running_storage


@pytest.fixture
async def attempts(bus: NatsBus) -> FakeAttempts:
    fake = FakeAttempts()
    await fake.serve(bus)
    return fake


@pytest.fixture
async def storage(
    bus: NatsBus, streams: Streams, tmp_path: Path, database_url: str
) -> AsyncIterator[RunningStorage]:
    async with running_storage(
        bus=bus, streams=streams, folder=tmp_path / "storage", database_url=database_url
    ) as running:
        yield running
