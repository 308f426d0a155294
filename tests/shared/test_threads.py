"""A thread that still works when its asker is cancelled."""

import asyncio
import threading

import pytest

from chisel_shared.runtime.threads import on_thread


async def test_what_it_returns_and_raises() -> None:
    assert await on_thread(lambda a, b: a + b, 1, b=2) == 3
    with pytest.raises(ZeroDivisionError):
        await on_thread(lambda: 1 // 0)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("cancels", [1, 3])
async def test_a_cancel_waits_until_it_is_done(fails: bool, cancels: int) -> None:
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait()
        done.set()
        if fails:
            raise OSError("after nobody listened")

    asker = asyncio.create_task(on_thread(work))
    await asyncio.to_thread(begun.wait)
    for _ in range(cancels):
        asker.cancel()
        await asyncio.sleep(0)
    assert not asker.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await asker
    assert done.is_set()
