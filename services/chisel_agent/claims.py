"""Asks the scheduler for work while GPUs are free: at once when something changed, else now and then."""

import asyncio
import random
from collections.abc import Awaitable, Callable

from chisel_agent.fence import lease_end
from chisel_agent.launch import boottime
from chisel_agent.scheduler import Scheduler
from chisel_agent.slots import Slots
from chisel_shared.contract.errors import ChiselError, Stale, StorageFull, Unavailable
from chisel_shared.contract.ids import new_id
from chisel_shared.contract.messages import Assignment, Claimed
from chisel_shared.runtime.failpoints import failpoint
from chisel_shared.runtime.logs import Log

log = Log("chisel.agent.claims")

_JITTER_SECONDS = 0.005
"""All agents of a pool hear the same wake; they need not all ask in the same millisecond."""
_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS = 0.1, 2.0
_LAST_ANSWER_SECONDS = 0.5
"""What a stop waits for the answer to a claim; what a later one grants is given back unseen."""


class Claims:
    """One claim at a time, so that each knows what the last one took."""

    def __init__(
        self,
        *,
        scheduler: Scheduler,
        slots: Slots,
        start: Callable[[Assignment, float], None],
        rejoin: Callable[[], Awaitable[None]],
        has_room: Callable[[], bool],
        poll_seconds: float,
    ) -> None:
        """Nothing is claimed while not `has_room`."""
        self._scheduler = scheduler
        self._slots = slots
        self._start = start
        self._rejoin = rejoin
        self._has_room = has_room
        self._poll_seconds = poll_seconds
        self._wake = asyncio.Event()
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.unaccepted = False
        """An assignment was given, or may have been, that will not be started: the scheduler has to be
        told."""

    def wake(self) -> None:
        """Something may be claimable now."""
        self._wake.set()

    async def close(self) -> None:
        """Claim nothing more; returns when no claim is under way, or its answer is long in coming."""
        self._closed = True
        self._wake.set()
        try:
            async with asyncio.timeout(_LAST_ANSWER_SECONDS):
                await self._idle.wait()
        except TimeoutError:
            self.unaccepted = True

    async def run(self) -> None:
        while True:
            self._wake.clear()
            free = len(self._slots.free)
            wait_seconds = self._poll_seconds
            if free and not self._closed and self._has_room():
                self._idle.clear()
                try:
                    answer = await self._claim(free)
                finally:
                    self._idle.set()
                if answer is not None and answer.assignment is not None:
                    continue  # several small jobs may fit beside each other: ask for the next at once
                if answer is not None and answer.ask_again_seconds is not None:
                    wait_seconds = min(wait_seconds, answer.ask_again_seconds)
            await self._wait(wait_seconds)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
        await asyncio.sleep(random.random() * _JITTER_SECONDS)

    async def _claim(self, free: int) -> Claimed | None:
        """Ask with one key until there is an answer: the last try's may have been an assignment."""
        key = new_id(16)
        first_sent_at = boottime()
        delay = _FIRST_DELAY_SECONDS
        while True:
            try:
                answer = await self._scheduler.claim(key=key, gpus_free=free)
            except Stale as error:
                if self._closed:
                    return None
                log.warning("session_superseded", error=str(error))
                await asyncio.sleep(_LONGEST_DELAY_SECONDS)
                await self._rejoin()
                return None
            except (Unavailable, StorageFull) as error:
                if delay == _LONGEST_DELAY_SECONDS:
                    log.warning("claim_unanswered", error=str(error))
                if self._closed:
                    self.unaccepted = True
                    return None
                await asyncio.sleep(delay)
                delay = min(_LONGEST_DELAY_SECONDS, delay * 2)
            except ChiselError as error:
                log.error("claim_refused", error=repr(error))
                await asyncio.sleep(_LONGEST_DELAY_SECONDS)
                return None
            else:
                if answer.assignment is not None:
                    failpoint("claim.received")
                    self._accept(answer.assignment, first_sent_at)
                return answer

    def _accept(self, assignment: Assignment, sent_at: float) -> None:
        late = boottime() >= lease_end(sent_at, assignment.lease_seconds)
        if assignment.spec.retries > 0 and late:
            # It may have been given to another agent by now, and two must never run it.
            log.warning("assignment_too_old", job_id=assignment.job_id, attempt=assignment.attempt)
        elif self._closed:
            self.unaccepted = True
        else:
            self._start(assignment, sent_at)
