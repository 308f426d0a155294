"""The gateway as a process: refusals at start, and the end on SIGTERM."""

import asyncio
import json
import os
import signal
import sys

from tests.gateway.backend import Backend
from tests.gateway.client import connected
from tests.gateway.conftest import Http
from tests.support.backends import Nats
from tests.support.storage import TOKEN, RunningStorage


def environment(nats: Nats, **more: str) -> dict[str, str]:
    settings = {
        "NATS_URL": nats.url,
        "NATS_USER": nats.user,
        "NATS_PASSWORD": nats.password,
        "STORAGE_TOKEN": TOKEN,
        "STORAGE_URL": "http://127.0.0.1:1",
        "PORT": "0",
        **more,
    }
    return {**os.environ, **{f"CHISEL_GATEWAY_{name}": value for name, value in settings.items()}}


async def started(env: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "chisel_gateway", env=env, stderr=asyncio.subprocess.PIPE
    )


async def test_an_open_port_without_tls_is_refused_at_start(nats_server: Nats) -> None:
    process = await started(environment(nats_server, HOST="0.0.0.0"))
    _, told = await process.communicate()
    assert process.returncode == 2
    assert b"CHISEL_GATEWAY_HOST" in told
    assert b"CHISEL_GATEWAY_ALLOW_PLAIN_HTTP=1" in told


async def test_a_stop_closes_open_sessions_and_ends_in_time(
    nats_server: Nats, backend: Backend, storage: RunningStorage, http: Http
) -> None:
    process = await started(environment(nats_server, STORAGE_URL=storage.url))
    assert process.stderr is not None
    url, lines = "", []
    while True:
        lines.append(json.loads(await process.stderr.readline()))
        if lines[-1]["event"] == "listening":
            url = lines[-1]["url"]
        if lines[-1]["event"] == "ready":
            break
    session = http()
    session._base_url = None
    async with session.get(f"{url}/ready") as ready:
        assert ready.status == 200
    async with connected(session, url) as socket:
        process.send_signal(signal.SIGTERM)
        await socket.socket.receive(timeout=3)
        assert socket.socket.close_code == 1001
    _, told = await asyncio.wait_for(process.communicate(), 5)
    assert process.returncode == 0
    assert all(json.loads(line)["level"] == "info" for line in told.splitlines())
