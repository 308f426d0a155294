"""Sessions over real WebSockets: submit, follow, resume, cancel, and what a reader gets when."""

import asyncio
import random
from pathlib import Path

import aiohttp
import msgspec
import pytest

from chisel_gateway import follow
from chisel_gateway.service import Gateway
from chisel_shared.contract.errors import Unavailable
from chisel_shared.contract.frames import (
    PROTOCOL,
    Accepted,
    Cancel,
    Failure,
    Follow,
    Position,
    Submit,
    Update,
)
from chisel_shared.contract.job import EndReason, JobEnd, JobState
from chisel_shared.contract.messages import SubmitJob
from chisel_shared.runtime.bus import NatsBus
from chisel_shared.runtime.streams import Streams
from tests.gateway.backend import USER, Backend
from tests.gateway.client import SPEC, connected, digests, submitted, written
from tests.gateway.conftest import Http, running_gateway
from tests.support.output import Spool
from tests.support.storage import RunningStorage
from tests.support.waiting import until


async def test_a_job_from_submission_to_its_end(
    http: Http, streams: Streams, backend: Backend, tmp_path: Path
) -> None:
    spool = Spool(tmp_path)
    async with connected(http()) as socket:
        await submitted(socket, http(), spool)
        await backend.assign(spool)
        async with spool.shipping(streams) as tasks:
            for number in range(50):
                spool.write(f"line {number}\n".encode())
                await asyncio.sleep(0.001)
            spool.write(b"to stderr\n", "stderr")
            spool.finish()
            await asyncio.gather(*tasks)
        await backend.end(spool)
        end = await socket.end()
    assert end.job.state is JobState.SUCCEEDED
    assert digests(socket) == written(spool)
    states = [frame.job.state for frame in socket.frames if isinstance(frame, Update)]
    assert JobState.RUNNING in states


async def test_a_repeated_submission_is_the_same_job(http: Http, backend: Backend, tmp_path: Path) -> None:
    async with connected(http()) as socket:
        first = Spool(tmp_path)
        await submitted(socket, http(), first, follow=False)
        await socket.say(Submit(spec=SPEC, idempotency_key="k2", follow=False))
        one = await socket.until(Accepted)
        await socket.say(Submit(spec=SPEC, idempotency_key="k2", follow=False))
        assert (await socket.until(Accepted)).job.id == one.job.id
        other = msgspec.structs.replace(SPEC, app_name="other")
        await socket.say(Submit(spec=other, idempotency_key="k2"))
        assert (await socket.until(Failure)).code == "conflict"
    assert len(backend.jobs) == 2


async def test_a_scheduler_that_restarts_is_waited_for(
    http: Http, bus: NatsBus, backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = bus.request
    failures = 3

    async def away(message: object, *, timeout: float = 5.0) -> object:
        nonlocal failures
        if isinstance(message, SubmitJob) and failures:
            failures -= 1
            await real(message, timeout=timeout)  # committed, but its answer is lost
            raise Unavailable
        return await real(message, timeout=timeout)  # type: ignore[arg-type]

    async with connected(http()) as socket:
        monkeypatch.setattr(bus, "request", away)
        await submitted(socket, http(), Spool(tmp_path), follow=False)
    assert failures == 0
    assert len(backend.jobs) == 1


@pytest.mark.parametrize("live", [True, False])
async def test_resuming_anywhere_gives_the_rest(
    http: Http, streams: Streams, backend: Backend, tmp_path: Path, live: bool
) -> None:
    spool = Spool(tmp_path)
    async with connected(http()) as socket:
        await submitted(socket, http(), spool, follow=False)
    await backend.assign(spool)
    spool.write(random.randbytes(700_000))
    spool.write(b"e" * 1000, "stderr")
    await spool.ship_all(streams)
    await backend.end(spool)
    data = spool.path("stdout").read_bytes()
    for offset in (0, 1, 262_144, 699_999, 700_000):
        async with connected(http()) as socket:
            position = Position(attempt=1, stdout=offset, stderr=500)
            await socket.say(Follow(job_id=spool.job_id[:6], position=position, live=live))
            got = {"stdout": b"", "stderr": b""}
            while True:
                message = await socket.socket.receive(timeout=5)
                if message.type is aiohttp.WSMsgType.TEXT:
                    if '"type":"end"' in message.data:
                        break
                    continue
                name = "stdout" if message.data[0] == 1 else "stderr"
                got[name] += message.data[13:]
            assert got == {"stdout": data[offset:], "stderr": b"e" * 500}


async def test_a_late_reader_after_the_archive(
    http: Http, streams: Streams, backend: Backend, storage: RunningStorage, tmp_path: Path
) -> None:
    spool = Spool(tmp_path)
    async with connected(http()) as socket:
        await submitted(socket, http(), spool, follow=False)
    await backend.assign(spool)
    spool.write(random.randbytes(3_000_000))
    await spool.ship_all(streams)
    await backend.end(spool)
    assert await storage.archiver.take_over(backend.views[spool.job_id, 1])
    assert (await streams.usage(f"{spool.prefix}.*")).messages == {}
    for archived in (False, True):
        await backend.change(spool.job_id, archived=archived)
        for live in (False, True):
            async with connected(http()) as socket:
                await socket.say(Follow(job_id=spool.job_id, live=live))
                await socket.end()
                assert digests(socket) == written(spool)
    output = await http().get(f"/api/v1/jobs/{spool.job_id}/output/stdout?offset=1000000")
    assert await output.read() == spool.path("stdout").read_bytes()[1_000_000:]


async def test_archived_and_purged_while_it_is_followed(
    http: Http, streams: Streams, backend: Backend, storage: RunningStorage, tmp_path: Path
) -> None:
    spool = Spool(tmp_path)
    async with connected(http()) as socket:
        await submitted(socket, http(), spool)
        await backend.assign(spool)
        spool.write(random.randbytes(4_000_000))
        await spool.ship_all(streams)
        await backend.end(spool)
        assert await storage.archiver.take_over(backend.views[spool.job_id, 1])
        await backend.change(spool.job_id, archived=True)
        await socket.end()
        assert digests(socket) == written(spool)


async def test_every_attempt_is_shown_in_order(
    http: Http, streams: Streams, backend: Backend, tmp_path: Path
) -> None:
    first, second = Spool(tmp_path / "1"), Spool(tmp_path / "2", attempt=2)
    async with connected(http()) as socket:
        await submitted(socket, http(), first)
        second.job_id = first.job_id
        await backend.assign(first)
        first.write(b"half of it")
        async with first.shipping(streams):
            while not socket.received:
                await socket.next()
        await backend.requeue(first)
        await backend.assign(second)
        second.write(b"all of it")
        await second.ship_all(streams)
        await backend.end(second, exit_code=3)
        end = await socket.end()
    assert end.job.end is not None
    assert end.job.end.exit_code == 3
    assert [digests(socket, 1), digests(socket, 2)] == [written(first), written(second)]
    async with connected(http()) as late:
        await late.say(Follow(job_id=first.job_id))
        await late.end()
        assert [digests(late, 1), digests(late, 2)] == [written(first), written(second)]
    async with connected(http()) as resumed:
        await resumed.say(Follow(job_id=first.job_id, position=Position(attempt=2, stdout=4)))
        message = await resumed.socket.receive(timeout=5)
        while message.type is not aiohttp.WSMsgType.BINARY:
            message = await resumed.socket.receive(timeout=5)
        assert message.data[13:] == b"of it"


async def test_a_job_that_never_ran_just_ends(http: Http, backend: Backend, tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    async with connected(http()) as socket:
        await submitted(socket, http(), spool)
        await socket.say(Cancel(job_id=spool.job_id))
        assert (await socket.until(Update)).job.cancel_requested
        end = JobEnd(reason=EndReason.USER)
        await backend.change(spool.job_id, state=JobState.CANCELLED, end=end)
        assert (await socket.end()).job.state is JobState.CANCELLED
        assert socket.received == {}


async def test_a_change_nobody_heard_is_found(
    http: Http, backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gateway: Gateway
) -> None:
    spool = Spool(tmp_path)
    async with connected(http()) as socket:
        await submitted(socket, http(), spool)
        view = backend.jobs[spool.job_id]
        end = JobEnd(reason=EndReason.USER)
        backend.put(msgspec.structs.replace(view, version=99, state=JobState.CANCELLED, end=end))
        await gateway._feed._refresh()
        assert (await socket.end()).job.end == end


async def test_a_new_reason_to_wait_is_told_once(
    http: Http, backend: Backend, tmp_path: Path, gateway: Gateway
) -> None:
    spool = Spool(tmp_path)
    async with connected(http()) as socket:
        await submitted(socket, http(), spool)
        for reason in ("2 jobs are ahead", "1 job is ahead"):
            backend.put(msgspec.structs.replace(backend.jobs[spool.job_id], waiting=reason))
            await gateway._feed._refresh()
            await gateway._feed._refresh()
            assert (await socket.until(Update)).job.waiting == reason
        await backend.change(spool.job_id, state=JobState.CANCELLED, end=JobEnd(reason=EndReason.USER))
        await socket.end()
        told = [frame.job.waiting for frame in socket.frames if isinstance(frame, Update)]
        assert told[:2] == ["2 jobs are ahead", "1 job is ahead"]
        assert len(told) <= 3


async def test_without_live_what_there_is_by_now(
    http: Http, streams: Streams, backend: Backend, tmp_path: Path
) -> None:
    spool = Spool(tmp_path)
    async with connected(http()) as socket:
        await submitted(socket, http(), spool, follow=False)
        await backend.assign(spool)
        spool.write(b"so far")
        async with spool.shipping(streams):
            while (last := await streams.last(f"{spool.prefix}.stdout")) is None or last.end < 6:
                pass
            await socket.say(Follow(job_id=spool.job_id, live=False))
            assert (await socket.end()).job.state is JobState.RUNNING
            assert digests(socket) == written(spool)
            output = await http().get(f"/api/v1/jobs/{spool.job_id}/output/stdout")
            assert await output.read() == b"so far"
            assert output.headers["X-Chisel-Attempt"] == "1"


async def test_a_part_of_an_ended_job_is_never_shown_as_the_whole(
    http: Http, streams: Streams, backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when NATS lost the output before it was archived: it comes again, or the reader is told."""
    monkeypatch.setattr(follow, "_MISSING_SECONDS", 0.3)
    spool = Spool(tmp_path)
    spool.write(b"precious")
    async with connected(http()) as socket:
        await submitted(socket, http(), spool, follow=False)
        await backend.assign(spool)
        await backend.end(spool)
        await socket.say(Follow(job_id=spool.job_id, live=False))
        assert (await socket.until(Failure)).code == "unavailable"
        output = await http().get(f"/api/v1/jobs/{spool.job_id}/output/stdout")
        with pytest.raises(aiohttp.ClientPayloadError):
            await output.read()
        monkeypatch.undo()
        await socket.say(Follow(job_id=spool.job_id, live=False))
        await spool.ship_all(streams)
        await socket.end()
        assert digests(socket) == written(spool)


async def test_followers_of_one_attempt_share_its_tail(
    http: Http, streams: Streams, backend: Backend, tmp_path: Path, gateway: Gateway
) -> None:
    spool = Spool(tmp_path)
    async with connected(http()) as one, connected(http()) as two:
        await submitted(one, http(), spool)
        await backend.assign(spool)
        await two.say(Follow(job_id=spool.job_id))
        tails = gateway._feed._tails
        await until(lambda: [shared.followers for shared in tails.values()] == [2])
        spool.write(random.randbytes(600_000))
        await spool.ship_all(streams)
        await backend.end(spool)
        await asyncio.gather(one.end(), two.end())
        assert digests(one) == digests(two) == written(spool)
    await until(lambda: not tails and not gateway._feed._watches)


async def test_a_stop_says_going_away(
    bus: NatsBus, streams: Streams, storage: RunningStorage, backend: Backend, tmp_path: Path
) -> None:
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {USER}"}) as session,
        running_gateway(bus, streams, storage.url) as service,
    ):
        socket = await session.ws_connect(f"{service.url}/api/v1/session", protocols=(PROTOCOL,))
        await socket.send_str('{"type":"list"}')
        await socket.receive()
        draining = asyncio.create_task(service.drain())
        message = await socket.receive(timeout=2)
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1001)
        await asyncio.wait_for(draining, 2)


async def test_who_follows_hears_where_output_stops_for_now_and_who_comes_later_does_not(
    http: Http, streams: Streams, backend: Backend, tmp_path: Path
) -> None:
    spool = Spool(tmp_path)
    spool.write(b"head\n")
    async with connected(http()) as socket:
        await submitted(socket, http(), spool)
        await backend.assign(spool)
        async with spool.shipping(streams) as tasks:
            while socket.data.get((1, "stdout")) != [b"head\n"]:
                await socket.next()
            spool.capped = True
            spool.nudge()
            while socket.data[(1, "stdout")] != [b"head\n", b""]:
                await socket.next()
            spool.write(b"[some bytes were left out]\ntail\n")
            spool.finish()
            await asyncio.gather(*tasks)
        await backend.end(spool)
        await socket.end()
        assert digests(socket) == written(spool)
    async with connected(http()) as late:
        await late.say(Follow(job_id=spool.job_id))
        await late.end()
        assert digests(late) == written(spool)
        assert b"" not in late.data[(1, "stdout")]
