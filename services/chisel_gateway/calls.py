"""Ways to wait: for another service that is away, and for two things at once.

Whatever is asked through here may be asked twice: it reads, or it carries an idempotency key.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from chisel_shared.contract.errors import Unavailable
from chisel_shared.contract.messages import Request
from chisel_shared.runtime.bus import Bus

R = TypeVar("R")

PATIENCE_SECONDS = 3.0
"""How long an HTTP caller is kept waiting for a service that restarts."""
SUBMIT_PATIENCE_SECONDS = 30.0
"""Somebody watches a submission and would only type it again."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.02, 0.5


async def ask(bus: Bus, request: Request[R], *, patience_seconds: float = PATIENCE_SECONDS) -> R:
    """The answer to `request`; `Unavailable` when there was none for that long."""
    loop = asyncio.get_running_loop()
    end = loop.time() + patience_seconds
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            return await bus.request(request, timeout=min(5.0, max(0.5, end - loop.time())))
        except Unavailable:
            if loop.time() + pause >= end:
                raise
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


async def forever(bus: Bus, request: Request[R]) -> R:
    """The answer to `request`, however long it takes: for a viewer who has nothing else to wait for."""
    while True:
        try:
            return await ask(bus, request, patience_seconds=60.0)
        except Unavailable:
            continue


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, None], *, name: str) -> AsyncIterator[None]:
    """Run `work` while the body runs and cancel it afterwards. Of the two, whichever fails first ends
    the other, and its error comes out as itself, out of however many groups of tasks."""
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(work, name=name)
            yield
            task.cancel()
    except BaseExceptionGroup as failures:
        first: BaseException = failures
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None
