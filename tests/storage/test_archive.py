"""Output is taken over from the bus exactly, whatever dies between two steps."""

import asyncio
import hashlib
import random
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from chisel_shared.contract.errors import InternalError, StorageFull, Unavailable
from chisel_shared.contract.job import EndReason, JobEnd
from chisel_shared.contract.messages import AttemptView, MarkArchived
from chisel_shared.runtime.bus import NatsBus
from chisel_shared.runtime.output import STREAMS, Follower
from chisel_shared.runtime.streams import Streams, Usage
from chisel_storage import archive as module
from chisel_storage.archive import Place, crowding, place_of, totals
from chisel_storage.store import Archived
from chisel_storage.times import Mark
from tests.support.output import Received, Spool
from tests.support.storage import FakeAttempts, RunningStorage
from tests.support.waiting import until


def end_of(spool: Spool) -> JobEnd:
    return JobEnd(
        reason=EndReason.EXIT,
        exit_code=0,
        stdout_bytes=spool.written["stdout"],
        stderr_bytes=spool.written["stderr"],
        stdout_sha256=spool.sha256("stdout"),
        stderr_sha256=spool.sha256("stderr"),
    )


def place(spool: Spool) -> Place:
    return Place(spool.agent_id, spool.job_id, spool.attempt)


async def finished(spool: Spool, streams: Streams, attempts: FakeAttempts) -> AttemptView:
    await spool.ship_all(streams)
    return attempts.add(spool.job_id, spool.attempt, spool.agent_id, end_of(spool))


def archived_sha256(storage: RunningStorage, spool: Spool, stream: str = "stdout") -> str:
    path = storage.outputs.path(spool.job_id, spool.attempt, stream)
    return hashlib.sha256(path.read_bytes() if path.exists() else b"").hexdigest()


async def held(streams: Streams, spool: Spool) -> int:
    return sum((await streams.usage(f"{spool.prefix}.*")).messages.values())


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path)
    made.write(random.randbytes(10_000_000))
    made.write(b"a warning\n" * 1000, "stderr")
    return made


async def test_a_finished_attempt_is_archived_marked_and_purged(
    storage: RunningStorage, streams: Streams, attempts: FakeAttempts, spool: Spool
) -> None:
    view = await finished(spool, streams, attempts)
    assert await storage.archiver.take_over(view)
    for stream in STREAMS:
        assert archived_sha256(storage, spool, stream) == spool.sha256(stream)
    assert attempts.marked == [(spool.job_id, 1)]
    assert await held(streams, spool) == 0
    assert await storage.archiver.take_over(view)
    assert archived_sha256(storage, spool) == spool.sha256()


async def test_an_attempt_without_output_needs_no_file(
    storage: RunningStorage, streams: Streams, attempts: FakeAttempts, tmp_path: Path
) -> None:
    spool = Spool(tmp_path)
    assert await storage.archiver.take_over(await finished(spool, streams, attempts))
    assert not storage.outputs.path(spool.job_id, 1, "stdout").exists()
    assert await held(streams, spool) == 0


@pytest.mark.parametrize("step", ["append", "record", "verify", "seal", "mark", "purge"])
async def test_a_death_before_or_after_any_step_costs_nothing(
    storage: RunningStorage,
    bus: NatsBus,
    streams: Streams,
    attempts: FakeAttempts,
    spool: Spool,
    step: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The step is done or half done, and the process is gone before the next; then it starts again."""
    view = await finished(spool, streams, attempts)
    calls = 0

    class Killed(Exception):
        pass

    def deadly(owner: object, name: str, *, on_call: int = 1) -> None:
        real = getattr(owner, name)

        async def then_die(*args: object, **kwargs: object) -> object:
            nonlocal calls
            result = await real(*args, **kwargs)
            calls += 1
            if calls == on_call:
                raise Killed
            return result

        monkeypatch.setattr(owner, name, then_die)

    match step:
        case "append":
            real_append = storage.outputs.append

            def torn(
                job_id: object, attempt: int, stream: str, *, at: int, data: bytes, times: list[Mark]
            ) -> None:
                half = data[: len(data) // 2]
                real_append(spool.job_id, attempt, stream, at=at, data=half, times=times)
                raise Killed

            monkeypatch.setattr(storage.outputs, "append", torn)
        case "record":
            deadly(storage.store, "record", on_call=2)
        case "verify":
            deadly(storage.archiver, "_verify")
        case "seal":
            deadly(storage.store, "record", on_call=4)
        case "mark":
            deadly(bus, "request")
        case "purge":
            deadly(streams, "purge")
    with pytest.raises(Killed):
        await storage.archiver.take_over(view)
    monkeypatch.undo()
    await storage.stop()
    await storage.start()
    if (spool.job_id, 1) in attempts.marked:
        await storage.archiver.sweep()
    else:
        assert await storage.archiver.take_over(view)
    for stream in STREAMS:
        assert archived_sha256(storage, spool, stream) == spool.sha256(stream)
    assert (await storage.store.archived(spool.job_id, 1)).sealed
    assert await held(streams, spool) == 0


async def test_bytes_beyond_what_is_recorded_are_written_anew(
    storage: RunningStorage, streams: Streams, attempts: FakeAttempts, spool: Spool
) -> None:
    view = await finished(spool, streams, attempts)
    storage.outputs.append(spool.job_id, 1, "stdout", at=0, data=spool.path("stdout").read_bytes()[:500])
    await storage.store.record(spool.job_id, 1, Archived(stdout=500))
    with storage.outputs.path(spool.job_id, 1, "stdout").open("ab") as file:
        file.write(b"torn by a power cut")
    assert await storage.archiver.take_over(view)
    assert archived_sha256(storage, spool) == spool.sha256()


async def test_output_that_has_not_come_yet_is_waited_for(
    storage: RunningStorage, streams: Streams, attempts: FakeAttempts, spool: Spool
) -> None:
    """As after a wipe of NATS between the end of the job and its archiving."""
    view = attempts.add(spool.job_id, 1, spool.agent_id, end_of(spool))
    assert not await storage.archiver.take_over(view)
    await spool.ship_all(streams)
    assert await storage.archiver.take_over(view)
    assert archived_sha256(storage, spool) == spool.sha256()


async def test_an_archive_that_is_not_what_the_agent_read_is_a_defect(
    storage: RunningStorage, streams: Streams, attempts: FakeAttempts, spool: Spool
) -> None:
    await spool.ship_all(streams)
    end = msgspec.structs.replace(end_of(spool), stdout_sha256="0" * 64)
    with pytest.raises(InternalError, match="sha256"):
        await storage.archiver.take_over(attempts.add(spool.job_id, 1, spool.agent_id, end))
    assert attempts.marked == []
    assert await held(streams, spool) > 0


@pytest.mark.parametrize("eof", [True, False])
async def test_a_lost_attempt_is_archived_as_far_as_it_came(
    storage: RunningStorage, streams: Streams, attempts: FakeAttempts, spool: Spool, eof: bool
) -> None:
    lost = JobEnd(reason=EndReason.AGENT_LOST)
    view = attempts.add(spool.job_id, 1, spool.agent_id, lost)
    if eof:
        await spool.ship_all(streams)
    else:
        async with spool.shipping(streams):
            last = None
            while last is None or last.end < spool.written["stdout"]:
                last = await streams.last(f"{spool.prefix}.stdout")
        assert not await storage.archiver.take_over(view)
        await asyncio.sleep(0.3)
    assert await storage.archiver.take_over(view)
    assert archived_sha256(storage, spool) == spool.sha256()
    assert attempts.marked == [(spool.job_id, 1)]


async def test_attempts_of_one_job_are_archived_apart(
    storage: RunningStorage, streams: Streams, attempts: FakeAttempts, tmp_path: Path
) -> None:
    first = Spool(tmp_path / "a")
    second = Spool(tmp_path / "b", attempt=2)
    second.job_id = first.job_id
    first.write(b"first")
    second.write(b"second")
    for spool in (first, second):
        assert await storage.archiver.take_over(await finished(spool, streams, attempts))
    assert [archived_sha256(storage, s) for s in (first, second)] == [first.sha256(), second.sha256()]


async def test_a_running_attempt_is_relieved_while_it_writes_and_is_read(
    storage: RunningStorage, streams: Streams, attempts: FakeAttempts, tmp_path: Path
) -> None:
    spool, early = Spool(tmp_path), Received()

    def follower() -> Follower:
        async def archive(stream: str, offset: int):  # type: ignore[no-untyped-def]
            size = (await storage.store.archived(spool.job_id, 1)).offsets()[stream]
            path = storage.outputs.path(spool.job_id, 1, stream)
            yield path.read_bytes()[offset:size] if path.exists() else b""

        return Follower(streams=streams, subject_prefix=spool.prefix, offsets={}, archive=archive)

    async def copy(into: Received) -> None:
        async with aclosing(follower().chunks()) as chunks:
            async for chunk in chunks:
                into.take(chunk.stream, chunk.offset, chunk.data)

    async with spool.shipping(streams) as tasks:
        for _ in range(30):
            spool.write(random.randbytes(400_000))
            spool.write(b"w" * 100, "stderr")
            await storage.archiver.relieve(place(spool))
            if not early.offsets["stdout"]:
                await copy(early)
        spool.finish()
        await asyncio.gather(*tasks)
    await storage.archiver.relieve(place(spool))
    assert await held(streams, spool) <= 4
    late = Received()
    await copy(late)
    assert [late.sha256(s) for s in STREAMS] == [spool.sha256(s) for s in STREAMS]
    assert await storage.archiver.take_over(await finished(spool, streams, attempts))
    assert [archived_sha256(storage, spool, s) for s in STREAMS] == [spool.sha256(s) for s in STREAMS]


async def test_the_sweep_relieves_who_crowds_the_bus_and_drops_what_is_archived(
    storage: RunningStorage,
    streams: Streams,
    attempts: FakeAttempts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MANY_MESSAGES", 20)
    loud, quiet, gone = Spool(tmp_path / "l"), Spool(tmp_path / "q"), Spool(tmp_path / "g")
    loud.write(random.randbytes(30 * 256 * 1024))
    quiet.write(b"hello")
    gone.write(b"bye")
    assert await storage.archiver.take_over(await finished(gone, streams, attempts))
    for spool in (loud, quiet, gone):
        await spool.ship_all(streams)
    await storage.archiver.sweep()
    assert (await held(streams, loud), await held(streams, quiet), await held(streams, gone)) == (2, 2, 0)
    assert (await storage.store.archived(loud.job_id, 1)).stdout == loud.written["stdout"]


async def test_the_archiver_finds_by_itself_what_ended(
    storage: RunningStorage, streams: Streams, attempts: FakeAttempts, spool: Spool, tmp_path: Path
) -> None:
    """One that cannot be archived does not keep the others from it, and is tried again."""
    broken = Spool(tmp_path / "broken")
    broken.write(b"never shipped")
    attempts.add(broken.job_id, 1, broken.agent_id, end_of(broken))
    await finished(spool, streams, attempts)
    running = asyncio.create_task(storage.archiver.run())
    await until(lambda: bool(attempts.marked))
    await broken.ship_all(streams)

    def both() -> bool:
        storage.archiver._wake.set()
        return len(attempts.marked) == 2

    await until(both)
    running.cancel()
    assert set(attempts.marked) == {(spool.job_id, 1), (broken.job_id, 1)}


async def test_a_full_disk_stops_the_archive_and_nothing_is_lost(
    storage: RunningStorage,
    streams: Streams,
    attempts: FakeAttempts,
    spool: Spool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    view = await finished(spool, streams, attempts)

    def full(*args: object, **kwargs: object) -> None:
        raise StorageFull

    with monkeypatch.context() as patched:
        patched.setattr(storage.outputs, "append", full)
        with pytest.raises(StorageFull):
            await storage.archiver.take_over(view)
    assert await storage.archiver.take_over(view)
    assert archived_sha256(storage, spool) == spool.sha256()


async def test_a_scheduler_that_is_away_is_told_later(
    storage: RunningStorage,
    bus: NatsBus,
    streams: Streams,
    attempts: FakeAttempts,
    spool: Spool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    view = await finished(spool, streams, attempts)
    real = bus.request

    async def deaf(message: object, *, timeout: float = 5.0) -> object:
        if isinstance(message, MarkArchived):
            raise Unavailable
        return await real(message, timeout=timeout)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(bus, "request", deaf)
        with pytest.raises(Unavailable):
            await storage.archiver.take_over(view)
    assert await held(streams, spool) > 0
    assert await storage.archiver.take_over(view)
    assert await held(streams, spool) == 0


def test_who_is_relieved() -> None:
    def usage(fraction: float, **messages: int) -> Usage:
        return Usage({f"out.a1.{job}.1.stdout": count for job, count in messages.items()}, fraction)

    assert crowding(usage(0.01, j1=20_000, j2=20_001)) == {place_of("out.a1.j2.1.stdout")}
    assert crowding(usage(0.30, j1=128, j2=129)) == {place_of("out.a1.j2.1.stdout")}
    assert crowding(usage(0.99)) == set()


def test_whose_totals_are_known() -> None:
    end = JobEnd(reason=EndReason.EXIT, exit_code=0, stdout_bytes=3, stderr_bytes=4)
    assert totals(end) == {"stdout": 3, "stderr": 4}
    assert totals(None) is None
    for reason in (EndReason.AGENT_LOST, EndReason.LEASE_EXPIRED):
        assert totals(msgspec.structs.replace(end, reason=reason)) is None
    assert replace(Archived(stdout=3), sealed=True).offsets() == {"stdout": 3, "stderr": 0}
