"""Wait for a fact that nobody announces."""

import asyncio
from collections.abc import Awaitable, Callable


async def until(fact: Callable[[], bool | Awaitable[bool]], *, seconds: float = 10.0) -> None:
    """Return when `fact()` holds; fail when it does not for so long."""
    async with asyncio.timeout(seconds):
        while True:
            held = fact()
            if held if isinstance(held, bool) else await held:
                return
            await asyncio.sleep(0.005)
