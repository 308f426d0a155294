"""Asking for work, with a scheduler that grants and is not heard."""

import asyncio
from typing import cast

from chisel_agent.claims import Claims
from chisel_agent.scheduler import Scheduler
from chisel_agent.slots import Slots
from chisel_shared.contract.errors import Unavailable
from chisel_shared.contract.messages import Claimed


class Unheard:
    """Its answers to claims are lost, or, with `silent`, do not come."""

    def __init__(self, *, silent: bool) -> None:
        self.asked = asyncio.Event()
        self._silent = silent

    async def claim(self, *, key: str, gpus_free: int) -> Claimed:
        self.asked.set()
        if self._silent:
            await asyncio.Event().wait()
        raise Unavailable


async def test_nothing_is_claimed_without_room_and_at_the_next_look_with_some() -> None:
    scheduler, looked = Unheard(silent=True), asyncio.Event()
    room = False

    def has_room() -> bool:
        looked.set()
        return room

    async def rejoin() -> None:
        raise AssertionError("nothing was superseded")

    claims = Claims(
        has_room=has_room,
        scheduler=cast("Scheduler", scheduler),
        slots=Slots((0,)),
        start=lambda assignment, _: None,
        rejoin=rejoin,
        poll_seconds=0.01,
    )
    running = asyncio.create_task(claims.run())
    for _ in range(3):
        looked.clear()
        await looked.wait()
    assert not scheduler.asked.is_set()
    room = True
    await scheduler.asked.wait()
    running.cancel()


async def closed(scheduler: Unheard) -> Claims:
    """Claims that were closed while one was under way."""

    async def rejoin() -> None:
        raise AssertionError("nothing was superseded")

    claims = Claims(
        has_room=lambda: True,
        scheduler=cast("Scheduler", scheduler),
        slots=Slots((0,)),
        start=lambda assignment, _: None,
        rejoin=rejoin,
        poll_seconds=600,
    )
    running = asyncio.create_task(claims.run())
    await scheduler.asked.wait()
    assert not claims.unaccepted
    await claims.close()
    running.cancel()
    return claims


async def test_a_claim_whose_answer_was_lost_may_have_been_granted() -> None:
    assert (await closed(Unheard(silent=False))).unaccepted


async def test_so_may_one_that_is_answered_too_late() -> None:
    assert (await closed(Unheard(silent=True))).unaccepted
