"""Clients that ask for what is not theirs, that send what is no frame, that stop reading or vanish."""

import json
import random
from io import BytesIO
from pathlib import Path

import aiohttp
import aiohttp.web
import msgspec
import pytest

from chisel_gateway.service import Gateway
from chisel_shared.contract.frames import (
    MAX_TEXT_BYTES,
    Cancel,
    End,
    Failure,
    Follow,
    List,
    Listing,
    Submit,
)
from chisel_shared.contract.ids import JobId
from chisel_shared.contract.job import EndReason, JobEnd, JobState
from chisel_shared.runtime.streams import Streams
from tests.gateway.backend import AGENT, READER, STRANGER, Backend
from tests.gateway.client import BUNDLE, SHA256, SPEC, Socket, connected, digests, submitted, written
from tests.gateway.conftest import Http
from tests.support.output import Spool
from tests.support.waiting import until


async def test_listing_and_foreign_jobs(http: Http, backend: Backend, tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    async with connected(http()) as socket:
        await submitted(socket, http(), spool, follow=False)
        await socket.say(List(unfinished=True, limit=10))
        assert [job.id for job in (await socket.until(Listing)).jobs] == [spool.job_id]
    async with connected(http(STRANGER)) as socket:
        await socket.say(List())
        assert (await socket.until(Listing)).jobs == ()
        for frame in (Follow(job_id=spool.job_id), Cancel(job_id=spool.job_id)):
            await socket.say(frame)
            assert (await socket.until(Failure)).code == "not_found"
    async with connected(http(READER)) as socket:
        for forbidden in (Cancel(job_id=spool.job_id), Submit(spec=SPEC, idempotency_key="k")):
            await socket.say(forbidden)
            assert (await socket.until(Failure)).code == "forbidden"
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with connected(http(AGENT)):
            pass
    assert refused.value.status == 403


HOSTILE = [
    "",
    "{}",
    "null",
    "[" * 20_000,
    '{"type":"submit"}',
    '{"type":"nothing"}',
    '{"type":"end","job":{}}',
    '{"type":"follow","job_id":"\\u0000"}',
    '{"type":"follow","job_id":"../../x"}',
    '{"type":"follow","job_id":"' + "x" * 60_000 + '"}',
    '{"type":"follow","job_id":"*"}',
    '{"type":"follow","job_id":"x","position":{"attempt":-1}}',
    '{"type":"follow","job_id":"x","position":{"attempt":99999999999999}}',
    '{"type":"follow","job_id":"x","position":{"stdout":1e400}}',
    '{"type":"list","limit":-5}',
    '{"type":"list","limit":99999999999999999999999}',
    '{"type":"cancel","job_id":">"}',
    '{"type":"cancel","job_id":"\\ud800"}',
    json.dumps({"type": "submit", "idempotency_key": "", "spec": msgspec.to_builtins(SPEC)}),
    json.dumps({"type": "submit", "idempotency_key": "\0", "spec": msgspec.to_builtins(SPEC)}),
    json.dumps(
        {"type": "submit", "idempotency_key": "k", "spec": {**msgspec.to_builtins(SPEC), "bundle": "../x"}}
    ),
]


async def test_a_frame_that_is_none_is_refused_and_the_session_goes_on(http: Http) -> None:
    async with http().put(f"/api/v1/bundles/{SHA256}", data=BytesIO(BUNDLE)) as put:
        assert put.status == 201
    async with connected(http()) as socket:
        for text in HOSTILE:
            await socket.socket.send_str(text)
            failure = await socket.until(Failure)
            assert failure.code in ("bad_request", "not_found"), text
        await socket.say(List())
        await socket.until(Listing)


async def test_two_follows_at_once_are_refused(http: Http, backend: Backend, tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    async with connected(http()) as socket:
        await submitted(socket, http(), spool)
        await socket.say(Follow(job_id=spool.job_id))
        assert (await socket.until(Failure)).code == "conflict"
        await backend.change(spool.job_id, state=JobState.CANCELLED, end=JobEnd(reason=EndReason.USER))
        assert isinstance(await socket.end(), End)


@pytest.mark.parametrize(
    ("send", "code"),
    [
        (lambda socket: socket.send_bytes(b"\x00" * 100), 1003),
        (lambda socket: socket.send_str("x" * (MAX_TEXT_BYTES + 1)), 1009),
    ],
    ids=["binary", "too large"],
)
async def test_what_no_client_of_ours_sends_closes_the_socket(http: Http, send, code: int) -> None:  # type: ignore[no-untyped-def]
    async with connected(http()) as socket:
        await send(socket.socket)
        message = await socket.socket.receive(timeout=5)
        assert message.type is aiohttp.WSMsgType.CLOSE
        assert message.data == code


async def test_a_flood_of_questions_closes_the_socket(http: Http) -> None:
    async with connected(http()) as socket:
        for _ in range(500):
            await socket.socket.send_str('{"type":"list"}')
        while (message := await socket.socket.receive(timeout=5)).type is aiohttp.WSMsgType.TEXT:
            pass
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1008)


async def test_a_stranger_on_the_port_is_noticed(http: Http) -> None:
    for protocols in ((), ("chat",)):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http().ws_connect("/api/v1/session", protocols=protocols)
        assert refused.value.status == 400
    async with http().get("/api/v1/session") as plain:
        assert plain.status == 400


def abort(socket: Socket) -> None:
    """Vanish, as a killed process does."""
    connection = socket.socket._response.connection
    assert connection is not None
    assert connection.transport is not None
    connection.transport.abort()


async def test_a_client_that_vanishes_leaves_nothing(
    http: Http, backend: Backend, tmp_path: Path, gateway: Gateway
) -> None:
    spool = Spool(tmp_path)
    async with connected(http()) as socket:
        await submitted(socket, http(), spool)
        await backend.assign(spool)
        await until(lambda: bool(gateway._feed._tails))
        abort(socket)
        await until(lambda: not gateway._feed._tails and not gateway._api.sockets())
    assert JobId(spool.job_id) in backend.jobs


@pytest.mark.parametrize("leave", ["vanish", "close frame", "noticed by the writer"])
async def test_leaving_under_full_flow_is_no_error(
    http: Http, streams: Streams, backend: Backend, tmp_path: Path, gateway: Gateway, leave: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    async def refuse(*_: object, **__: object) -> None:
        raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")

    spool = Spool(tmp_path)
    async with connected(http()) as socket:
        await submitted(socket, http(), spool)
        await backend.assign(spool)
        async with spool.shipping(streams):
            spool.write(random.randbytes(8 << 20))
            while not socket.received:
                await socket.next()
            match leave:
                case "vanish":
                    abort(socket)
                case "close frame":
                    await socket.socket.close()
                case _:
                    monkeypatch.setattr(aiohttp.web.WebSocketResponse, "send_bytes", refuse)
                    while (await socket.socket.receive()).type is aiohttp.WSMsgType.BINARY:
                        pass
            await until(lambda: not gateway._feed._tails and not gateway._api.sockets())


async def test_a_reader_that_stops_costs_no_memory_and_loses_nothing(
    http: Http, streams: Streams, backend: Backend, tmp_path: Path, gateway: Gateway
) -> None:
    spool = Spool(tmp_path)
    async with connected(http()) as socket, connected(http()) as quick:
        await submitted(socket, http(), spool)
        await backend.assign(spool)
        await quick.say(Follow(job_id=spool.job_id))
        for _ in range(100):
            spool.write(random.randbytes(300_000))
        await spool.ship_all(streams)
        await backend.end(spool)
        await quick.end()
        queued = [
            transport.get_write_buffer_size()
            for server in gateway._api.sockets()
            if (transport := server._req.transport if server._req else None) is not None
        ]
        assert max(queued) < 1_500_000
        await socket.end()
        assert digests(socket) == digests(quick) == written(spool)
