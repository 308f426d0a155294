"""The output protocol on a real NATS that is killed, wiped and restarted under it."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from chisel_shared.contract.errors import NotFound, Unavailable
from chisel_shared.runtime import output
from chisel_shared.runtime.bus import nats_connection
from chisel_shared.runtime.live import Tail
from chisel_shared.runtime.output import Archive, Follower
from chisel_shared.runtime.streams import MAX_CHUNK_BYTES, Chunk, Streams
from tests.support.backends import Nats
from tests.support.output import Received, Spool
from tests.support.waiting import until


@asynccontextmanager
async def connected(nats: Nats) -> AsyncIterator[Streams]:
    async with nats_connection(nats.url, name="test", user=nats.user, password=nats.password) as client:
        streams = Streams(client)
        await streams.ensure(max_bytes=1 << 30)
        yield streams


@asynccontextmanager
async def following(
    streams: Streams,
    spool: Spool,
    *,
    live: bool = True,
    offsets: dict[str, int] | None = None,
    archive: Archive | None = None,
) -> AsyncIterator[Follower]:
    tail = Tail() if live else None
    if tail is not None:
        await tail.open(streams, f"{spool.prefix}.*")
    try:
        yield Follower(
            streams=streams, subject_prefix=spool.prefix, offsets=offsets or {}, tail=tail, archive=archive
        )
    finally:
        if tail is not None:
            await tail.close()


async def read(
    follower: Follower, received: Received, *, pause_seconds: float = 0.0, stop_at: int | None = None
) -> None:
    async with aclosing(follower.chunks()) as chunks:
        async for chunk in chunks:
            received.take(chunk.stream, chunk.offset, chunk.data)
            if stop_at is not None and received.offsets["stdout"] >= stop_at:
                return
            if pause_seconds:
                await asyncio.sleep(pause_seconds)


async def all_of(streams: Streams, spool: Spool, *, archive: Archive | None = None) -> Received:
    received = Received()
    async with following(streams, spool, live=False, archive=archive) as follower:
        await read(follower, received)
    return received


async def stored(streams: Streams, spool: Spool, size: int) -> None:
    """Return when at least `size` bytes of stdout are stored."""
    while True:
        try:
            last = await streams.last(f"{spool.prefix}.stdout")
        except Unavailable:
            last = None
        if last is not None and last.end >= size:
            return
        await asyncio.sleep(0.005)


def archive_of(spool: Spool, size: int) -> Archive:
    """The first `size` bytes of stdout, as storage would serve them."""

    async def pieces(stream: str, offset: int) -> AsyncGenerator[bytes, None]:
        if stream != "stdout":
            raise NotFound
        data = spool.path(stream).read_bytes()[:size]
        for start in range(offset, len(data), MAX_CHUNK_BYTES):
            yield data[start : min(start + MAX_CHUNK_BYTES, len(data))]

    return pieces


async def test_what_was_written_is_read_exactly(streams: Streams, tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.write(b"out\n" * 100_000)
    spool.write(b"err\n", "stderr")
    digests = await spool.ship_all(streams)
    assert digests == [spool.sha256("stdout"), spool.sha256("stderr")]
    received = await all_of(streams, spool)
    assert [received.sha256("stdout"), received.sha256("stderr")] == digests


async def test_no_output_is_an_end_too(streams: Streams, tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    await spool.ship_all(streams)
    async with following(streams, spool) as follower, asyncio.timeout(5):
        received = Received()
        await read(follower, received)
    assert received.offsets == {"stdout": 0, "stderr": 0}


async def test_a_live_line_arrives_without_polling(streams: Streams, tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    async with (
        spool.shipping(streams),
        following(streams, spool) as follower,
        aclosing(follower.chunks()) as chunks,
        asyncio.timeout(4),
    ):
        for number in range(20):
            line = f"line {number}\n".encode()
            asyncio.get_running_loop().call_later(0.01, spool.write, line)
            assert (await anext(chunks)).data == line


async def test_a_follower_begins_where_it_is_told(streams: Streams, tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.write(bytes(range(256)) * 4096)
    await spool.ship_all(streams)
    for offset in (1, 262_143, 262_144, 262_145, 1_048_575, 1_048_576):
        async with (
            following(streams, spool, live=False, offsets={"stdout": offset}) as follower,
            aclosing(follower.chunks()) as chunks,
        ):
            data = b"".join([chunk.data async for chunk in chunks])
        assert data == spool.path("stdout").read_bytes()[offset:]


async def test_an_agent_that_dies_goes_on_where_the_stream_ends(streams: Streams, tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    live = Received()
    async with following(streams, spool) as follower:
        reading = asyncio.create_task(read(follower, live))
        for _ in range(8):
            async with spool.shipping(streams):
                for _ in range(20):
                    spool.write(random.randbytes(random.randrange(1, 100_000)))
                    await asyncio.sleep(0)
                await stored(streams, spool, spool.written["stdout"] - 500_000)
        assert await spool.ship_all(streams) == [spool.sha256("stdout"), spool.sha256("stderr")]
        await asyncio.wait_for(reading, 10)
    assert live.sha256() == spool.sha256()


async def test_lost_live_copies_are_fetched(streams: Streams, tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    received = Received()
    tail = Tail()
    pushed = 0

    def lossy(chunk: object) -> None:
        nonlocal pushed
        pushed += 1
        if pushed % 3:
            Tail.push(tail, chunk)  # type: ignore[arg-type]

    tail.push = lossy  # type: ignore[method-assign]
    await tail.open(streams, f"{spool.prefix}.*")
    follower = Follower(streams=streams, subject_prefix=spool.prefix, offsets={}, tail=tail)
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(read(follower, received))
        async with spool.shipping(streams) as tasks:
            for number in range(200):
                spool.write(b"o" * 999 + b"\n")
                if number % 17 == 0:
                    spool.write(f"e {number}\n".encode(), "stderr")
                await stored(streams, spool, spool.written["stdout"])
            spool.finish()
            await asyncio.gather(*tasks)
        follower.expect(stdout=spool.written["stdout"], stderr=spool.written["stderr"])
        await asyncio.wait_for(reading, 10)
    await tail.close()
    assert [received.sha256(n) for n in ("stdout", "stderr")] == [
        spool.sha256(n) for n in ("stdout", "stderr")
    ]


async def test_a_lost_line_is_found_while_the_other_stream_flows(
    streams: Streams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "_IDLE_CHECK_SECONDS", 0.2)
    spool, tail, received = Spool(tmp_path), Tail(), Received()

    def stdout_only(chunk: Chunk) -> None:
        if chunk.stream == "stdout":
            Tail.push(tail, chunk)

    tail.push = stdout_only  # type: ignore[method-assign]
    await tail.open(streams, f"{spool.prefix}.*")
    follower = Follower(streams=streams, subject_prefix=spool.prefix, offsets={}, tail=tail)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        reading = group.create_task(read(follower, received))
        async with spool.shipping(streams):
            spool.write(b"o")
            await until(lambda: received.offsets["stdout"] == 1)
            spool.write(b"warning\n", "stderr")
            while received.offsets["stderr"] == 0:
                spool.write(b"o")
                await stored(streams, spool, spool.written["stdout"])
        follower.settle()
        await reading
    await tail.close()
    assert received.sha256("stderr") == spool.sha256("stderr")


async def test_a_slow_reader_holds_only_a_batch(streams: Streams, tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    received = Received()
    async with following(streams, spool) as follower:
        reading = asyncio.create_task(read(follower, received, pause_seconds=0.002))
        for _ in range(60):
            spool.write(random.randbytes(300_000))
        await spool.ship_all(streams)
        tail = follower._tail
        assert tail is not None
        assert tail._bytes <= 3 << 20
        await asyncio.wait_for(reading, 30)
    assert received.sha256() == spool.sha256()


async def test_a_lost_attempt_ends_where_its_bytes_end(streams: Streams, tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.write(b"half a li")
    async with spool.shipping(streams):
        await stored(streams, spool, 9)
    async with following(streams, spool) as follower, aclosing(follower.chunks()) as chunks:
        assert (await anext(chunks)).data == b"half a li"
        asyncio.get_running_loop().call_later(0.05, follower.settle)
        async with asyncio.timeout(2):
            assert await anext(chunks, None) is None


async def test_purged_bytes_come_from_the_archive(streams: Streams, tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.write(random.randbytes(3_000_000))
    await spool.ship_all(streams)
    last = await streams.last(f"{spool.prefix}.stdout")
    assert last is not None
    await streams.purge(f"{spool.prefix}.stdout", below=last.sequence)
    received = await all_of(streams, spool, archive=archive_of(spool, last.offset + 10))
    assert received.sha256() == spool.sha256()
    await streams.purge(f"{spool.prefix}.*")
    received = await all_of(streams, spool, archive=archive_of(spool, 3_000_000))
    assert received.sha256() == spool.sha256()


async def test_a_hole_waits_for_the_archive(streams: Streams, tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.write(random.randbytes(1_000_000))
    await spool.ship_all(streams)
    last = await streams.last(f"{spool.prefix}.stdout")
    assert last is not None
    await streams.purge(f"{spool.prefix}.stdout", below=last.sequence)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(all_of(streams, spool), 0.5)


async def test_a_stream_that_is_gone_is_not_an_empty_one(own_nats: Nats, tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    async with connected(own_nats) as streams:
        spool.write(b"x")
        await spool.ship_all(streams)
        own_nats.kill()
        own_nats.wipe()
        own_nats.start()
        while True:
            try:
                await streams.read(f"{spool.prefix}.*", after=0)
            except Unavailable as error:
                if "503" in str(error):
                    break
            else:
                pytest.fail("a missing stream must not look like an attempt without output")
            await asyncio.sleep(0.05)


async def test_what_a_silent_job_has_printed_is_stored_again_after_a_wipe(
    own_nats: Nats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "_IDLE_CHECK_SECONDS", 0.2)
    spool = Spool(tmp_path)
    spool.write(b"epoch 1\n" * 50_000)
    async with connected(own_nats) as streams, spool.shipping(streams), asyncio.timeout(20):
        await stored(streams, spool, spool.written["stdout"])
        own_nats.kill()
        own_nats.wipe()
        own_nats.start()
        await streams.ensure(max_bytes=1 << 30)
        await stored(streams, spool, spool.written["stdout"])


async def test_an_output_ends_although_its_spool_lost_some_of_it(streams: Streams, tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.write(b"stored and lost")
    async with spool.shipping(streams):
        await stored(streams, spool, spool.written["stdout"])
    spool.path("stdout").write_bytes(b"stored")
    spool.written["stdout"] = len(b"stored")
    for _ in ("this agent", "the next"):
        assert (await spool.ship_all(streams))[0] == ""
        last = await streams.last(f"{spool.prefix}.stdout")
        assert last is not None
        assert (last.end, last.eof) == (15, 15)


async def test_shipping_again_after_the_end_fills_a_wiped_store(own_nats: Nats, tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.write(b"done\n" * 100_000)
    async with connected(own_nats) as streams, asyncio.timeout(20):
        digests = await spool.ship_all(streams)
        own_nats.kill()
        own_nats.wipe()
        own_nats.start()
        await streams.ensure(max_bytes=1 << 30)
        assert await spool.ship_all(streams) == digests
        assert (await all_of(streams, spool)).sha256() == digests[0]


@pytest.mark.parametrize("wipe", [False, True], ids=["kill", "kill and wipe"])
async def test_output_survives_everything_at_once(
    own_nats: Nats, tmp_path: Path, wipe: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NATS dies, the shippers restart, a live and a slow reader go on, a late one begins: all equal."""
    monkeypatch.setattr(output, "_IDLE_CHECK_SECONDS", 0.5)
    spool = Spool(tmp_path)
    live, slow = Received(), Received()
    seed = random.Random(7)
    async with connected(own_nats) as streams, asyncio.TaskGroup() as group:
        async with following(streams, spool) as one, following(streams, spool) as other:
            readers = [
                group.create_task(read(one, live)),
                group.create_task(read(other, slow, pause_seconds=0.004)),
            ]
            for turn in range(4):
                async with spool.shipping(streams):
                    for _ in range(40):
                        spool.write(seed.randbytes(seed.randrange(1, 120_000)))
                        if seed.random() < 0.2:
                            spool.write(b"warning\n", "stderr")
                        await asyncio.sleep(0.001)
                    if turn % 2 == 0:
                        own_nats.kill()
                        if wipe and turn:
                            own_nats.wipe()
                        own_nats.start()
                        await streams.ensure(max_bytes=1 << 30)
                    await stored(streams, spool, spool.written["stdout"] // 2)
            digests = await spool.ship_all(streams)
            for follower in (one, other):
                follower.expect(stdout=spool.written["stdout"], stderr=spool.written["stderr"])
            async with asyncio.timeout(40):
                await asyncio.gather(*readers)
        late = await all_of(streams, spool)
    expected = [spool.sha256("stdout"), spool.sha256("stderr")]
    assert digests == expected
    for reader in (live, slow, late):
        assert [reader.sha256("stdout"), reader.sha256("stderr")] == expected
