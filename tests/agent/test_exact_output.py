"""What a script writes is what everybody reads, live, slowly, in parts, late and from the archive, bit for
bit, through the death of what carries it. Real agent, shim, NATS and storage."""

import asyncio
import hashlib
import itertools
import random
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from chisel_agent import shim_tail
from chisel_shared.contract.errors import Unavailable
from chisel_shared.contract.job import EndReason, JobEnd
from chisel_shared.contract.messages import AttemptRef
from chisel_shared.runtime.bus import NatsBus
from chisel_shared.runtime.live import Tail
from chisel_shared.runtime.output import STREAMS, Archive, Follower
from chisel_shared.runtime.streams import MAX_CHUNK_BYTES
from chisel_storage.archive import Place
from tests.agent.facts import until
from tests.agent.world import World, make_world
from tests.support.backends import Nats
from tests.support.output import Received
from tests.support.storage import FakeAttempts, RunningStorage, running_storage

PIECES = r"""
import random

def pieces(kind):
    chance = random.Random(kind)
    if kind == "random":
        for n in range(40):
            yield 1, chance.randbytes(chance.randrange(1, 150_000))
    elif kind == "not utf-8":
        for n in range(2_000):
            yield 1, b"\xff\xfe \xe2\x82 \xf0\x9f\x98\x00 \xc3" + b"\n" * (n % 7 == 0)
    elif kind == "one line":
        for n in range(20):
            yield 1, bytes([97 + n]) * 1_000_000
    elif kind == "bars":
        for n in range(2_000):
            yield 2, b"\r%3d%%|%s" % (n // 20, b"#" * (n // 40))
    elif kind == "both":
        for n in range(2_000):
            yield 1 + n % 2, b"%d\n" % n
        yield 1, b"no newline"
        yield 2, b"nor here"
"""
PRINT = """
import os, sys, time
for n, (fd, data) in enumerate(pieces(sys.argv[1])):
    while data:
        data = data[os.write(fd, data):]
    while n == 15 and len(sys.argv) > 2 and not os.path.exists(sys.argv[2]):
        time.sleep(0.01)
"""


def written(kind: str, head: int = 1 << 30, tail: int = 0) -> dict[str, bytes]:
    """What the job of this kind writes, as it is kept."""
    names: dict[str, object] = {}
    exec(PIECES, names)
    found = {"stdout": b"", "stderr": b""}
    for number, data in names["pieces"](kind):  # type: ignore[operator]
        found["stderr" if number == 2 else "stdout"] += data
    return {name: shortened(data, head, tail) for name, data in found.items()}


def shortened(data: bytes, head: int, tail: int) -> bytes:
    more = data[head:]
    notice = shim_tail.notice(len(more), tail, within_line=data[head - 1 : head] != b"\n")
    return data[:head] + notice + more[max(0, len(more) - tail) :]


class Readers:
    """Everybody who reads one attempt."""

    def __init__(self, world: World, ref: AttemptRef) -> None:
        self.world = world
        self.prefix = f"out.{world.scheduler.agent_id}.{ref.job_id}.{ref.attempt}"
        self.live, self.slow, self.cut = Received(), Received(), Received()

    def follower(
        self, tail: Tail | None, offsets: dict[str, int] | None = None, archive: Archive | None = None
    ) -> Follower:
        return Follower(
            streams=self.world.streams,
            subject_prefix=self.prefix,
            offsets=offsets or {},
            tail=tail,
            archive=archive,
        )

    @asynccontextmanager
    async def reading(self, archive: Archive | None = None) -> AsyncIterator[None]:
        """Read while the body runs, and then to the end."""
        tail = Tail()
        while True:
            try:
                await tail.open(self.world.streams, f"{self.prefix}.*")
                break
            except Unavailable:
                await asyncio.sleep(0.05)
        async with asyncio.TaskGroup() as tasks:
            for received, pause in ((self.live, 0.0), (self.slow, 0.005)):
                tasks.create_task(take(self.follower(tail, archive=archive), received, pause=pause))
            tasks.create_task(self._read_in_parts(tail, archive))
            yield
        await tail.close()

    async def _read_in_parts(self, tail: Tail, archive: Archive | None) -> None:
        """A reader that is cut after every few chunks, and begins again where it was."""
        for count in itertools.cycle((1, 2, 5)):
            follower = self.follower(tail, self.cut.offsets, archive)
            if await take(follower, self.cut, most=count):
                return

    async def late(self, archive: Archive | None = None, offsets: dict[str, int] | None = None) -> Received:
        received = Received(offsets)
        await take(self.follower(None, offsets, archive), received)
        return received


async def take(follower: Follower, into: Received, *, pause: float = 0.0, most: int = 1 << 60) -> bool:
    """Read at most so many chunks; whether that was the end."""
    async with aclosing(follower.chunks()) as chunks:
        async for chunk in chunks:
            into.take(chunk.stream, chunk.offset, chunk.data)
            most -= 1
            if not most:
                return follower.complete
            if pause:
                await asyncio.sleep(pause)
    return True


def sums(data: dict[str, bytes]) -> list[str]:
    return [hashlib.sha256(data[name]).hexdigest() for name in STREAMS]


def got(received: Received) -> list[str]:
    return [received.sha256(name) for name in STREAMS]


def archive_of(storage: RunningStorage, ref: AttemptRef) -> Archive:
    async def archived(stream: str, offset: int) -> AsyncGenerator[bytes, None]:
        size = (await storage.store.archived(ref.job_id, ref.attempt)).offsets()[stream]
        path = storage.outputs.path(ref.job_id, ref.attempt, stream)
        data = path.read_bytes()[offset:size] if path.exists() else b""
        for at in range(0, len(data), MAX_CHUNK_BYTES):
            yield data[at : at + MAX_CHUNK_BYTES]

    return archived


@pytest.fixture
async def attempts(bus: NatsBus) -> FakeAttempts:
    fake = FakeAttempts()
    await fake.serve(bus)
    return fake


@pytest.fixture
async def storage(
    bus: NatsBus, world: World, tmp_path: Path, database_url: str
) -> AsyncIterator[RunningStorage]:
    async with running_storage(
        bus=bus, streams=world.streams, folder=tmp_path / "storage", database_url=database_url
    ) as running:
        yield running


async def all_read_the_same(
    readers: Readers,
    storage: RunningStorage,
    attempts: FakeAttempts,
    ref: AttemptRef,
    end: JobEnd,
    expected: dict[str, bytes],
) -> None:
    """After the end: live, slow, in parts, late, from offsets of every kind, and from the archive."""
    agent_id = readers.world.scheduler.agent_id
    assert [end.stdout_sha256, end.stderr_sha256] == sums(expected)
    assert [end.stdout_bytes, end.stderr_bytes] == [len(expected[name]) for name in STREAMS]
    for reader in (readers.live, readers.slow, readers.cut, await readers.late()):
        assert got(reader) == sums(expected)
    for offsets in places(expected):
        rest = {name: expected[name][offsets[name] :] for name in STREAMS}
        assert got(await readers.late(offsets=offsets)) == sums(rest)
    assert await storage.archiver.take_over(attempts.add(ref.job_id, ref.attempt, agent_id, end))
    archive = archive_of(storage, ref)
    assert got(await readers.late(archive)) == sums(expected)
    for offsets in places(expected):
        rest = {name: expected[name][offsets[name] :] for name in STREAMS}
        assert got(await readers.late(archive, offsets)) == sums(rest)


def places(expected: dict[str, bytes]) -> Iterator[dict[str, int]]:
    """Where a reader may begin: around the edges of everything, and anywhere."""
    chance = random.Random(1)
    sizes = {name: len(data) for name, data in expected.items()}
    for at in (1, MAX_CHUNK_BYTES - 1, MAX_CHUNK_BYTES, MAX_CHUNK_BYTES + 1, HEAD - 1, HEAD, HEAD + 20):
        yield {name: min(size, at) for name, size in sizes.items()}
    for back in (0, 1):
        yield {name: max(0, size - back) for name, size in sizes.items()}
    for _ in range(3):
        yield {name: chance.randrange(size + 1) for name, size in sizes.items()}


HEAD, TAIL = 1_000_000, 200_000


@pytest.mark.parametrize("capped", [False, True], ids=["whole", "capped"])
@pytest.mark.parametrize("kind", ["random", "not utf-8", "one line", "bars", "both", "nothing"])
async def test_whatever_is_written(
    world: World, storage: RunningStorage, attempts: FakeAttempts, kind: str, capped: bool
) -> None:
    head, tail = (HEAD if kind in ("random", "one line") else 2_000, TAIL // 100) if capped else (1 << 30, 0)
    async with world.agent(output_head_bytes=head, output_tail_bytes=tail):
        job = world.python(PIECES + PRINT, argv=("python", "main.py", kind))
        ref = await world.scheduler.submit(job)
        readers = Readers(world, ref)
        async with asyncio.timeout(60), readers.reading():
            end = await world.scheduler.end_of(ref)
    whole = written(kind)
    expected = written(kind, head, tail)
    missing = [max(0, len(whole[name]) - head - tail) for name in STREAMS]
    assert [end.stdout_omitted, end.stderr_omitted] == missing
    assert any(missing) == (capped and kind != "nothing")
    await all_read_the_same(readers, storage, attempts, ref, end, expected)


@pytest.mark.parametrize("capped", [False, True], ids=["whole", "capped"])
async def test_a_writer_that_is_killed_while_it_writes(
    world: World, storage: RunningStorage, attempts: FakeAttempts, capped: bool
) -> None:
    """Nobody knows how far it came, but what is kept is the beginning of what it wrote, and its end."""
    head, tail = (HEAD, TAIL) if capped else (1 << 30, 0)
    code = "import os, signal, time\nsignal.signal(2, signal.SIG_IGN)\nsignal.signal(15, signal.SIG_IGN)\n"
    code += "n = 0\nwhile True:\n    os.write(1, b'%012d\\n' % n * 1000)\n    n += 1\n    time.sleep(0.002)\n"
    async with world.agent(output_head_bytes=head, output_tail_bytes=tail):
        ref = await world.scheduler.submit(world.python(code))
        readers = Readers(world, ref)
        async with asyncio.timeout(60), readers.reading():
            await until(lambda: readers.live.offsets["stdout"] >= 1_000_000)
            await world.scheduler.ask_to_cancel(ref)
            end = await world.scheduler.end_of(ref)
    assert end.reason is EndReason.USER
    seen = end.stdout_bytes if not end.stdout_omitted else head + end.stdout_omitted + tail
    lines = b"".join(b"%012d\n" % n * 1000 for n in range(seen // 13_000 + 1))[:seen]
    expected = {"stdout": shortened(lines, head, tail), "stderr": b""}
    await all_read_the_same(readers, storage, attempts, ref, end, expected)


@pytest.mark.parametrize("capped", [False, True], ids=["whole", "capped"])
@pytest.mark.parametrize("fault", ["agent killed", "bus killed", "bus wiped", "relieved"])
async def test_whatever_happens_in_the_middle(
    own_nats: Nats, tmp_path: Path, database_url: str, fault: str, capped: bool
) -> None:
    head, tail = (HEAD, TAIL) if capped else (1 << 30, 0)
    go, attempts = tmp_path / "go", FakeAttempts()
    async with (
        make_world(own_nats, tmp_path) as world,
        NatsBus.connect(own_nats.url, name="s", user=own_nats.user, password=own_nats.password) as bus,
        running_storage(
            bus=bus, streams=world.streams, folder=tmp_path / "storage", database_url=database_url
        ) as storage,
    ):
        await attempts.serve(bus)
        agent = world.process(output_head_bytes=head, output_tail_bytes=tail)
        agent.start()
        try:
            job = world.python(PIECES + PRINT, argv=("python", "main.py", "random", str(go)))
            ref = await world.scheduler.submit(job)
            readers = Readers(world, ref)
            async with asyncio.timeout(90), readers.reading(archive_of(storage, ref)):
                await until(lambda: readers.live.offsets["stdout"] >= 500_000)
                match fault:
                    case "agent killed":
                        await asyncio.to_thread(agent.kill)
                        agent.start()
                    case "bus killed" | "bus wiped":
                        own_nats.kill()
                        if fault == "bus wiped":
                            own_nats.wipe()
                        own_nats.start()
                        await world.streams.ensure(max_bytes=1 << 30)
                    case "relieved":
                        place = Place(world.scheduler.agent_id, ref.job_id, ref.attempt)
                        await storage.archiver.relieve(place)
                        left, _ = await world.streams.read(f"{readers.prefix}.stdout", after=0)
                        assert left[0].offset > 0, "nothing was purged"
                go.touch()
                end = await world.scheduler.end_of(ref)
            if fault == "relieved":
                assert await storage.archiver.take_over(
                    attempts.add(ref.job_id, ref.attempt, world.scheduler.agent_id, end)
                )
                archive = archive_of(storage, ref)
                everybody = (readers.live, readers.slow, readers.cut, await readers.late(archive))
                assert [got(reader) for reader in everybody] == [sums(written("random", head, tail))] * 4
            else:
                expected = written("random", head, tail)
                await all_read_the_same(readers, storage, attempts, ref, end, expected)
        finally:
            agent.stop()
