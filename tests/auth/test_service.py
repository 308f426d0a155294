"""Auth as its peers meet it: a real bus, a real database."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from chisel_auth import tokens
from chisel_auth.policy import USER_ACTIONS
from chisel_auth.service import build
from chisel_auth.settings import AuthSettings
from chisel_auth.tokens import Kind
from chisel_shared.contract.errors import BadRequest, Forbidden, Unauthenticated
from chisel_shared.contract.messages import AgentCredentials, Authorize, JoinAgent, Principal
from chisel_shared.runtime.bus import NatsBus
from chisel_shared.runtime.service import supervise
from tests.support.backends import Nats


@pytest.fixture
def settings(nats_server: Nats, database_url: str, tmp_path: Path) -> AuthSettings:
    return AuthSettings(
        nats_url=nats_server.url,
        nats_user=nats_server.user,
        nats_password=nats_server.password,
        database_url=database_url,
        bootstrap_key_file=tmp_path / "key",
        join_token_file=tmp_path / "join",
        agent_nats_url="nats://agents.example:4222",
        agent_nats_password="agent-secret",
    )


@asynccontextmanager
async def running(settings: AuthSettings) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        service = await build(settings, stack)
        ready = asyncio.Event()
        task = asyncio.create_task(service.run(ready), name="auth")
        started = asyncio.create_task(ready.wait(), name="ready")
        await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
        try:
            if task.done():
                task.result()
            yield
            await service.drain()
        finally:
            for one in (task, started):
                one.cancel()
            await asyncio.gather(task, started, return_exceptions=True)


@pytest.fixture
async def auth(settings: AuthSettings) -> AsyncIterator[AuthSettings]:
    async with running(settings):
        yield settings


def secret(path: Path | None) -> str:
    assert path is not None
    return path.read_text().strip()


async def execute(settings: AuthSettings, sentence: str, *values: Any) -> list[Any]:
    connection = await asyncpg.connect(settings.database_url, server_settings={"search_path": "auth"})
    try:
        return list(await connection.fetch(sentence, *values))
    finally:
        await connection.close()


async def ask(bus: NatsBus, token: str, action: str = "jobs:read") -> Principal:
    return await bus.request(Authorize(token=token, action=action))


async def join(bus: NatsBus, settings: AuthSettings, name: str = "box") -> AgentCredentials:
    return await bus.request(JoinAgent(token=secret(settings.join_token_file), name=name))


async def test_the_local_user_may_what_users_may(auth: AuthSettings, bus: NatsBus) -> None:
    key = secret(auth.bootstrap_key_file)
    caller = await ask(bus, key)
    assert (caller.kind, caller.name, caller.scopes) == ("user", "local", USER_ACTIONS)
    assert caller.project_id
    for action in USER_ACTIONS:
        assert await ask(bus, key, action) == caller
    for action in ("agent:work", "admin:all", ""):
        with pytest.raises(Forbidden):
            await ask(bus, key, action)


async def test_an_agent_joins_and_may_work(auth: AuthSettings, bus: NatsBus) -> None:
    credentials = await join(bus, auth)
    assert (credentials.nats_url, credentials.nats_user) == ("nats://agents.example:4222", "agent")
    assert (credentials.nats_password, credentials.pool) == ("agent-secret", "default")
    caller = await ask(bus, credentials.key, "agent:work")
    assert (caller.kind, caller.id, caller.name) == ("agent", credentials.agent_id, "box")
    assert caller.project_id is None
    for action in USER_ACTIONS:
        with pytest.raises(Forbidden):
            await ask(bus, credentials.key, action)


async def test_joining_again_makes_another_agent(auth: AuthSettings, bus: NatsBus) -> None:
    one, other = await join(bus, auth), await join(bus, auth)
    assert one.agent_id != other.agent_id
    assert one.key != other.key
    assert (await ask(bus, one.key, "agent:work")).id == one.agent_id


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb", "\x1b[31m"])
async def test_an_agent_needs_a_plain_name(auth: AuthSettings, bus: NatsBus, name: str) -> None:
    with pytest.raises(BadRequest):
        await join(bus, auth, name)


async def test_whatever_is_wrong_with_a_token_is_told_alike(auth: AuthSettings, bus: NatsBus) -> None:
    key, join_token = secret(auth.bootstrap_key_file), secret(auth.join_token_file)
    agent_key = (await join(bus, auth)).key
    body = key[:-38] + "A" * 32
    same_id = body + tokens.checksum(body)
    bad = [
        "",
        "nonsense",
        key[:-1],
        tokens.make(Kind.USER).text,
        tokens.make(Kind.AGENT).text,
        join_token,
        same_id,
    ]
    said = set()
    for token in bad:
        with pytest.raises(Unauthenticated) as raised:
            await ask(bus, token)
        said.add(str(raised.value))
    for token in ["", "nonsense", tokens.make(Kind.JOIN).text, key, agent_key]:
        with pytest.raises(Unauthenticated) as raised:
            await bus.request(JoinAgent(token=token, name="box"))
        said.add(str(raised.value))
    assert said == {str(Unauthenticated())}


@pytest.mark.parametrize(
    "sentence",
    [
        "update api_keys set expires_at = now() - interval '1 second'",
        "update api_keys set revoked_at = now()",
        "update users set disabled_at = now()",
        "delete from api_keys",
    ],
    ids=["expired", "revoked", "disabled", "deleted"],
)
async def test_a_key_that_was_good_once(auth: AuthSettings, bus: NatsBus, sentence: str) -> None:
    key = secret(auth.bootstrap_key_file)
    await ask(bus, key)
    await execute(auth, sentence)
    with pytest.raises(Unauthenticated):
        await ask(bus, key)


@pytest.mark.parametrize(
    "sentence",
    [
        "update join_tokens set expires_at = now() - interval '1 second'",
        "update join_tokens set revoked_at = now()",
    ],
)
async def test_a_join_token_that_was_good_once(auth: AuthSettings, bus: NatsBus, sentence: str) -> None:
    credentials = await join(bus, auth)
    await execute(auth, sentence)
    with pytest.raises(Unauthenticated):
        await join(bus, auth)
    assert (await ask(bus, credentials.key, "agent:work")).id == credentials.agent_id
    await execute(auth, "update agents set revoked_at = now()")
    with pytest.raises(Unauthenticated):
        await ask(bus, credentials.key, "agent:work")


async def test_a_restart_keeps_keys_and_what_was_revoked(settings: AuthSettings, bus: NatsBus) -> None:
    async with running(settings):
        key = secret(settings.bootstrap_key_file)
        before = await ask(bus, key)
    async with running(settings):
        assert await ask(bus, key) == before
        await execute(settings, "update api_keys set revoked_at = now()")
    async with running(settings):
        with pytest.raises(Unauthenticated):
            await ask(bus, key)


async def test_files_are_adopted_by_a_new_database(settings: AuthSettings, bus: NatsBus) -> None:
    async with running(settings):
        key = secret(settings.bootstrap_key_file)
    await execute(settings, "drop schema auth cascade")
    async with running(settings):
        assert secret(settings.bootstrap_key_file) == key
        assert (await ask(bus, key)).name == "local"
        await join(bus, settings)


async def test_two_that_start_at_once_agree(settings: AuthSettings, bus: NatsBus) -> None:
    async with running(settings), running(settings):
        assert (await ask(bus, secret(settings.bootstrap_key_file))).name == "local"
        assert len(await execute(settings, "select * from users")) == 1
        assert len(await execute(settings, "select * from api_keys")) == 1


async def test_without_files_there_is_no_way_in(settings: AuthSettings, bus: NatsBus) -> None:
    bare = settings.model_copy(update={"bootstrap_key_file": None, "join_token_file": None})
    async with running(bare):
        for table in ("users", "api_keys", "join_tokens"):
            assert await execute(bare, f"select * from {table}") == []
        with pytest.raises(Unauthenticated):
            await ask(bus, tokens.make(Kind.USER).text)


async def test_secrets_are_neither_stored_nor_logged(
    settings: AuthSettings, bus: NatsBus, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with running(settings):
        credentials = await join(bus, settings)
        await ask(bus, secret(settings.bootstrap_key_file))
    secrets = [secret(settings.bootstrap_key_file), secret(settings.join_token_file), credentials.key]
    logged = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    stored = ""
    for table in ("users", "projects", "api_keys", "join_tokens", "agents"):
        stored += repr(await execute(settings, f"select * from {table}"))
    for one in secrets:
        assert one[-38:] not in logged
        assert one[-38:] not in stored
    assert "agent-secret" not in repr(settings)


async def test_it_starts_and_stops_many_times(settings: AuthSettings) -> None:
    async def once() -> None:
        async with AsyncExitStack() as stack:
            service = await build(settings, stack)
            stop = asyncio.Event()
            stop.set()
            await supervise(service, stop, drain_seconds=5)

    for _ in range(3):
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(once())
