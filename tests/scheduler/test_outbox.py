"""The relay: every committed change is on the bus once and in order, whoever dies meanwhile."""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from chisel_scheduler.outbox import Relay
from chisel_shared.contract.errors import Unavailable
from chisel_shared.contract.job import JobState
from chisel_shared.contract.messages import JobChanged
from chisel_shared.runtime.bus import NatsBus
from chisel_shared.runtime.streams import EV, Streams
from tests.scheduler.actors import Desk, hello_of, ref
from tests.support.backends import Nats


class Tape:
    """An event stream that stores like JetStream does: a message id once. It can be made to fail."""

    def __init__(self) -> None:
        self.stored: dict[str, list[int]] = defaultdict(list)
        self.ids: set[str] = set()
        self.repeated = 0
        self.failing = False
        self.grew = asyncio.Event()

    async def publish_event(self, subject: str, payload: bytes, message_id: str) -> None:
        await asyncio.sleep(0)
        if self.failing:
            raise Unavailable
        if message_id in self.ids:
            self.repeated += 1
            return
        event = msgspec.json.decode(payload, type=JobChanged)
        assert subject == f"ev.job.{event.job_id}"
        self.ids.add(message_id)
        self.stored[event.job_id].append(event.job.version)
        self.grew.set()

    async def holds(self, number: int) -> None:
        """Return when that many events are stored."""
        while len(self.ids) < number:
            self.grew.clear()
            async with asyncio.timeout(20):
                await self.grew.wait()


@asynccontextmanager
async def running(relay: Relay) -> AsyncIterator[None]:
    task = asyncio.create_task(relay.run(), name="relay")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def versions(desk: Desk) -> dict[str, list[int]]:
    """What every follower must have seen: all versions of every job, from 1, in order."""
    rows = await desk.fetch("select id, version from jobs")
    return {row["id"]: list(range(1, row["version"] + 1)) for row in rows}


async def empty(desk: Desk) -> None:
    """Return when the outbox has nothing left."""
    async with asyncio.timeout(30):
        while await desk.fetch("select id from outbox limit 1"):  # noqa: ASYNC110 - Postgres tells nobody
            await asyncio.sleep(0.01)


async def life(desk: Desk) -> None:
    """One job from submission to its end."""
    await desk.queue()
    given = (await desk.claim()).claimed.assignment
    if given is not None:
        for state in (JobState.PREPARING, JobState.RUNNING):
            await desk.progress(ref(given), state)
        await desk.done(ref(given))


async def test_what_was_committed_before_the_relay_began_is_said(desk: Desk) -> None:
    await desk.hello(hello_of())
    for _ in range(3):
        await life(desk)
    tape = Tape()
    async with running(Relay(database=desk.database, streams=tape)):
        await tape.holds(15)
        await empty(desk)
    assert dict(tape.stored) == await versions(desk)


async def test_a_commit_wakes_the_relay_by_itself(desk: Desk) -> None:
    """Postgres tells it, although nobody in this process does."""
    await desk.hello(hello_of())
    tape = Tape()
    async with running(Relay(database=desk.database, streams=tape)):
        await desk.queue()
        await tape.holds(1)  # it listens by now
        started = asyncio.get_running_loop().time()
        await desk.queue()
        await tape.holds(2)
        assert asyncio.get_running_loop().time() - started < 1.0  # the poll would take 2 s


async def test_only_one_of_two_relays_speaks(desk: Desk) -> None:
    await desk.hello(hello_of())
    one, two = Tape(), Tape()
    async with running(Relay(database=desk.database, streams=one)):
        await desk.queue()
        await one.holds(1)
        async with running(Relay(database=desk.database, streams=two)):
            for _ in range(20):
                await life(desk)
            await empty(desk)
            assert not two.ids
    assert dict(one.stored) == await versions(desk)


async def test_what_the_stream_does_not_take_is_said_later_in_order(desk: Desk) -> None:
    await desk.hello(hello_of())
    tape = Tape()
    async with running(Relay(database=desk.database, streams=tape)):
        await life(desk)
        await tape.holds(5)
        tape.failing = True
        await life(desk)
        assert len(tape.ids) == 5
        tape.failing = False
        await tape.holds(10)
    assert dict(tape.stored) == await versions(desk)


async def test_relays_that_die_lose_and_reorder_nothing(desk: Desk) -> None:
    """Two relays, killed at random moments, between saying and deleting too."""
    await desk.hello(hello_of())
    tape = Tape()
    chance = random.Random(7)
    stop = asyncio.Event()

    async def mortal() -> None:
        while not stop.is_set():
            async with running(Relay(database=desk.database, streams=tape)):
                await asyncio.sleep(chance.uniform(0.01, 0.1))

    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(mortal())
        for _ in range(30):
            await asyncio.gather(*(life(desk) for _ in range(4)))
        await empty(desk)
        stop.set()
    assert dict(tape.stored) == await versions(desk)


async def test_the_death_of_its_database_session_is_survived(desk: Desk) -> None:
    await desk.hello(hello_of())
    tape = Tape()
    async with running(Relay(database=desk.database, streams=tape)):
        await life(desk)
        await tape.holds(5)
        await desk.fetch(
            "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted"
        )
        await life(desk)
        await tape.holds(10)
        await empty(desk)
    assert dict(tape.stored) == await versions(desk)


async def test_a_killed_bus_loses_and_reorders_nothing(desk: Desk, own_nats: Nats) -> None:
    await desk.hello(hello_of())
    async with NatsBus.connect(
        own_nats.url, name="test", user=own_nats.user, password=own_nats.password
    ) as bus:
        streams = Streams(bus.client)
        await streams.ensure(max_bytes=1 << 30)
        async with running(Relay(database=desk.database, streams=streams)):
            for _ in range(3):
                await asyncio.gather(*(life(desk) for _ in range(10)))
                await asyncio.to_thread(own_nats.kill)
                await asyncio.gather(*(life(desk) for _ in range(10)))
                await asyncio.to_thread(own_nats.start)
            await empty(desk)
        seen: dict[str, list[int]] = defaultdict(list)
        jetstream = bus.client.jetstream()
        info = await jetstream.stream_info(EV)
        for sequence in range(1, info.state.last_seq + 1):
            stored = await jetstream.get_msg(EV, sequence)
            event = msgspec.json.decode(stored.data or b"", type=JobChanged)
            seen[event.job_id].append(event.job.version)
    assert dict(seen) == await versions(desk)
