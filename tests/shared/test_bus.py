"""The bus: the same cases on a real NATS and on its twin for tests."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from nats.aio.msg import Msg

from chisel_shared.contract.errors import InternalError, NotFound, Unavailable
from chisel_shared.contract.ids import AgentId, JobId, ProjectId
from chisel_shared.contract.messages import (
    Authorize,
    CancelAttempt,
    Done,
    ListAgents,
    ListJobs,
    ListQuotas,
    Principal,
    Wake,
)
from chisel_shared.contract.subjects import Request
from chisel_shared.runtime.bus import Bus, NatsBus
from chisel_shared.runtime.memory_bus import MemoryBus
from tests.support.backends import Nats
from tests.support.waiting import until


@pytest.fixture(params=["nats", "memory"])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
    if request.param == "memory":
        yield MemoryBus()
        return
    server: Nats = request.getfixturevalue("nats_server")
    async with NatsBus.connect(
        server.url, name="test", user=server.user, password=server.password
    ) as connected:
        yield connected


async def test_request_is_answered_with_the_declared_type(bus: Bus) -> None:
    async def authorize(ask: Authorize) -> Principal:
        return Principal(kind="user", id="u1", name=ask.token)

    await bus.serve(Authorize, authorize)
    answer = await bus.request(Authorize(token="t", action="jobs:read"))
    assert answer == Principal(kind="user", id="u1", name="t")


async def test_an_error_of_the_tree_crosses_as_itself(bus: Bus) -> None:
    async def refuse(ask: Authorize) -> Principal:
        raise NotFound("no such thing here")

    await bus.serve(Authorize, refuse)
    with pytest.raises(NotFound, match="no such thing here"):
        await bus.request(Authorize(token="t", action="jobs:read"))


async def test_a_defect_is_told_without_its_details(bus: Bus) -> None:
    async def fail(ask: Authorize) -> Principal:
        raise ZeroDivisionError("secret")

    await bus.serve(Authorize, fail)
    with pytest.raises(InternalError) as raised:
        await bus.request(Authorize(token="t", action="jobs:read"))
    assert "secret" not in str(raised.value)


async def test_nobody_there_is_unavailable_at_once(bus: Bus) -> None:
    with pytest.raises(Unavailable, match="nobody answers"):
        await bus.request(Authorize(token="t", action="jobs:read"))


@pytest.mark.parametrize(
    ("ask", "service"),
    [
        (Authorize(token="t", action="jobs:read"), "auth"),
        (ListAgents(), "scheduler"),
        (ListQuotas(), "scheduler"),
        (ListJobs(project_id=ProjectId("p1")), "scheduler"),
    ],
)
async def test_who_is_not_there_is_named_as_operators_know_it(
    ask: Request[Any], service: str, nats_server: Nats
) -> None:
    access = {"user": nats_server.user, "password": nats_server.password}
    async with NatsBus.connect(nats_server.url, name="test", **access) as bus:
        with pytest.raises(Unavailable, match=f"the server's {service} service"):
            await bus.request(ask)


async def test_requests_to_one_handler_run_side_by_side(bus: Bus) -> None:
    together = asyncio.Barrier(5)

    async def meet(ask: Authorize) -> Principal:
        await together.wait()
        return Principal(kind="user", id=ask.token, name="")

    await bus.serve(Authorize, meet)
    asks = [bus.request(Authorize(token=str(n), action="jobs:read")) for n in range(5)]
    assert [answer.id for answer in await asyncio.gather(*asks)] == ["0", "1", "2", "3", "4"]


async def test_bound_tokens_narrow_what_is_heard(bus: Bus) -> None:
    heard: list[str] = []

    async def cancel(ask: CancelAttempt) -> Done:
        heard.append(ask.job_id)
        return Done()

    await bus.serve(CancelAttempt, cancel, agent_id="a1")
    await bus.request(CancelAttempt(agent_id=AgentId("a1"), job_id=JobId("j1"), attempt=1))
    with pytest.raises(Unavailable):
        await bus.request(CancelAttempt(agent_id=AgentId("a2"), job_id=JobId("j2"), attempt=1))
    assert heard == ["j1"]


async def test_a_hint_reaches_every_listener(bus: Bus) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def hear(wake: Wake) -> None:
        await heard.put(wake.pool)

    await bus.subscribe(Wake, hear)
    await bus.subscribe(Wake, hear)
    await bus.flush()
    await bus.publish(Wake(pool="p"))
    assert [await heard.get(), await heard.get()] == ["p", "p"]


async def test_nonsense_on_the_wire_ends_nobody(nats_server: Nats) -> None:
    async with NatsBus.connect(
        nats_server.url, name="test", user=nats_server.user, password=nats_server.password
    ) as bus:

        async def babble(msg: Msg) -> None:
            await msg.respond(b'{"kind": "\xff')

        await bus.client.subscribe(Authorize.SUBJECT, cb=babble)
        with pytest.raises(Unavailable, match="nonsense"):
            await bus.request(Authorize(token="t", action="jobs:read"))


async def test_a_try_that_no_server_answers_leaves_no_socket() -> None:
    """As behind a proxy, which takes connections whether there is a server or not."""
    turns = iter(("server", "nonsense", "server"))
    served, hung_up = asyncio.Queue[asyncio.StreamWriter](), asyncio.Event()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if next(turns) == "nonsense":
            writer.write(b"INFO nonsense\r\n")
            await reader.read()
            hung_up.set()
        else:
            writer.write(b'INFO {"max_payload": 1048576, "headers": true}\r\n')
            served.put_nowait(writer)
            while line := await reader.readline():
                if line == b"PING\r\n":
                    writer.write(b"PONG\r\n")
        writer.close()

    async with await asyncio.start_server(take, "127.0.0.1", 0) as server, asyncio.timeout(20):
        port = server.sockets[0].getsockname()[1]
        async with NatsBus.connect(f"nats://127.0.0.1:{port}", name="test") as bus:
            (await served.get()).close()
            await hung_up.wait()
            await served.get()
            await until(lambda: bus.connected)


async def test_the_twin_remembers_what_was_said() -> None:
    bus = MemoryBus()
    await bus.publish(Wake(pool="p"))
    assert (await bus.said(Wake)).pool == "p"
    bus.assert_silent()
    await bus.publish(Wake(pool="q"))
    with pytest.raises(AssertionError, match="also said"):
        bus.assert_silent()
