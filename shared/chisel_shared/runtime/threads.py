"""Work on a thread that must not outlive who asked for it."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def on_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`work` on a thread, as `asyncio.to_thread` has it, but a cancel waits until it is done.

    A thread cannot be stopped. Whoever closes a descriptor that one still writes to hands its number to the
    next file, and the rest of the write goes into that.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    cancelled = False
    while not running.done():
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        running.exception()  # nobody else asks for it
        raise asyncio.CancelledError
    return running.result()
