"""A NATS whose disk is full: what it has acknowledged stays, and it is known when only a restart helps."""

from collections.abc import Iterator

import pytest

from chisel_shared.contract.errors import Unavailable
from chisel_shared.runtime.bus import nats_connection
from chisel_shared.runtime.streams import Streams
from tests.support.backends import Nats, running_nats, short_folder
from tests.support.full_disk import SmallDisk, small_disk
from tests.support.waiting import until

SUBJECT = "out.agent.job.1.stdout"
PIECE = bytes(100_000)


@pytest.fixture
def small() -> Iterator[tuple[Nats, SmallDisk]]:
    with (
        short_folder() as folder,
        small_disk(folder / "jetstream", size_bytes=32 << 20) as disk,
        running_nats(folder) as nats,
    ):
        if nats.folder is None:
            pytest.skip("NATS runs in a container, whose disk is not this machine's to fill")
        yield nats, disk


async def test_a_stream_that_is_not_written_any_more_says_so_until_nats_is_restarted(
    small: tuple[Nats, SmallDisk],
) -> None:
    nats, disk = small
    async with nats_connection(nats.url, name="t", user=nats.user, password=nats.password) as client:
        streams = Streams(client)
        await streams.ensure(max_bytes=1 << 30)
        acknowledged = last = 0

        async def append() -> None:
            nonlocal acknowledged, last
            last = await streams.append(SUBJECT, PIECE, offset=acknowledged, after=last)
            acknowledged += len(PIECE)

        async def is_refused() -> bool:
            try:
                await append()
                return False
            except Unavailable:
                return True

        await append()
        assert await streams.failed() == {}
        disk.fill()
        await until(is_refused)
        assert "no space" in (await streams.failed())["OUT"]
        disk.clear()
        assert "OUT" in await streams.failed(), "should NATS heal by itself one day, less has to be done"
        assert await is_refused()
        nats.server.stop()
        nats.start()

        async def well() -> bool:
            try:
                return await streams.failed() == {}
            except Unavailable:
                return False

        await until(well)
        found = await streams.last(SUBJECT)
        assert found is not None
        assert found.end == acknowledged
        await append()
