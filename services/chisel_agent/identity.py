"""Who this agent is: one agent per data directory, and credentials that survive it."""

import asyncio
import fcntl
import os
from pathlib import Path

import msgspec

from chisel_agent.gateway import Gateway
from chisel_agent.records import write_aside
from chisel_agent.settings import AgentSettings
from chisel_shared.contract.errors import BadRequest, Unavailable
from chisel_shared.contract.messages import AgentCredentials
from chisel_shared.runtime.logs import Log

log = Log("chisel.agent.identity")

_AGAIN_SECONDS = 0.1
_LOCK_TRIES = 15
_LONGEST_DELAY_SECONDS = 2.0


class AlreadyRunning(Exception):
    """Another agent works with this data directory."""


async def lock_data_dir(folder: Path) -> int:
    """Make `folder` ours, and only ours, as long as the returned descriptor is open.

    Tried for a moment: a shim that an agent killed just now was starting holds the lock too, until
    the kernel has closed what it does not inherit.
    """
    os.makedirs(folder, mode=0o700, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            await asyncio.sleep(_AGAIN_SECONDS)
    os.close(descriptor)
    raise AlreadyRunning(f"another agent works with {folder}: give each agent its own")


async def credentials(settings: AgentSettings, gateway: Gateway) -> AgentCredentials:
    """The kept ones, or new ones from joining, however long the gateway is away."""
    path = settings.data_dir / "credentials.json"
    kept = _read(path)
    if kept is not None:
        return kept
    joined = await _join(settings, gateway)
    write_aside(path, msgspec.json.encode(joined), durable=True)
    log.info("joined", agent_id=joined.agent_id, pool=joined.pool)
    return joined


def _read(path: Path) -> AgentCredentials | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=AgentCredentials)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        log.warning("credentials_unreadable", error=str(error))
        return None


async def _join(settings: AgentSettings, gateway: Gateway) -> AgentCredentials:
    delay = _AGAIN_SECONDS
    while True:
        token = settings.token or await _token_of(settings.token_file)
        try:
            return await gateway.join(token=token, name=settings.name)
        except Unavailable as error:
            if delay == _LONGEST_DELAY_SECONDS:
                log.warning("cannot_join_yet", error=str(error))
        await asyncio.sleep(delay)
        delay = min(_LONGEST_DELAY_SECONDS, delay * 2)


async def _token_of(file: Path | None) -> str:
    """What `file` holds, waiting for whoever is about to write it."""
    if file is None:
        raise BadRequest("joining takes a token: set CHISEL_AGENT_TOKEN or CHISEL_AGENT_TOKEN_FILE")
    waited = 0
    while True:
        try:
            token = await asyncio.to_thread(file.read_text)
            if token.strip():
                return token.strip()
        except FileNotFoundError:
            pass
        waited += 1
        if waited % 50 == 0:
            log.warning("no_token_yet", file=str(file))
        await asyncio.sleep(_AGAIN_SECONDS)
