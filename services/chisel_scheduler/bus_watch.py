"""Keeps the bus's streams in their form, and raises the alarm when its server has stopped writing one."""

import asyncio
import os
from collections.abc import Awaitable
from pathlib import Path
from typing import Protocol

from chisel_shared.runtime.logs import Log

log = Log("chisel.scheduler.bus")

ROUND_SECONDS = 3.0
"""A bus that lost its store gets its streams back within this; one that cannot store is noticed."""
_LONGEST_SECONDS = 5.0
ALARM = b"nats\n"
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC


class StreamsToWatch(Protocol):
    def ensure(self, *, max_bytes: int) -> Awaitable[None]: ...

    def failed(self) -> Awaitable[dict[str, str]]: ...


class BusWatch:
    """One round at a time. Only a restart of NATS helps a stream it has stopped writing: whoever can
    restart it learns that by a line in the `alarm` file, in every round until it is well."""

    def __init__(self, *, streams: StreamsToWatch, max_bytes: int, alarm: Path | None) -> None:
        self._streams, self._max_bytes, self._alarm = streams, max_bytes, alarm
        self._failed: dict[str, str] = {}

    async def run_once(self) -> None:
        async with asyncio.timeout(_LONGEST_SECONDS):
            await self._streams.ensure(max_bytes=self._max_bytes)
            failed = await self._streams.failed()
        if failed != self._failed:
            self._failed = failed
            if failed:
                hint = "make room where NATS stores, then restart NATS"
                log.warning("bus_cannot_store", streams=failed, hint=hint)
            else:
                log.info("bus_stores_again")
        if failed and self._alarm is not None:
            _append(self._alarm, ALARM)


def _append(path: Path, line: bytes) -> None:
    """To a file, or to a named pipe that somebody reads; nobody to read it is no error of ours."""
    try:
        descriptor = os.open(path, _APPEND, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
    except OSError as error:
        log.debug("alarm_not_raised", path=str(path), error=repr(error))
