"""What the agent says to the scheduler, always as the newest session of this agent.

What must be heard is repeated until it is answered; the scheduler makes repeating harmless.
"""

import asyncio
from collections.abc import Sequence
from typing import TypeVar

from chisel_shared.contract.errors import NotFound, ServiceError, Stale, UserError
from chisel_shared.contract.ids import AgentId, SessionId, new_id
from chisel_shared.contract.job import JobEnd, JobState
from chisel_shared.contract.messages import (
    AreYouAlive,
    AttemptDone,
    AttemptRef,
    Claim,
    Claimed,
    Done,
    Hello,
    Progress,
    Progressed,
    Renew,
    Renewed,
    Request,
    Welcome,
    mark_of,
)
from chisel_shared.runtime.bus import Bus, Subscription
from chisel_shared.runtime.logs import Log

R = TypeVar("R")

log = Log("chisel.agent.scheduler")

_TIMEOUT_SECONDS = 3.0
_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS = 0.1, 2.0


class Scheduler:
    def __init__(
        self, *, bus: Bus, agent_id: AgentId, name: str, pool: str, gpu_model: str, gpus_total: int
    ) -> None:
        self._bus = bus
        self._agent_id = agent_id
        self._name, self._pool = name, pool
        self._gpu_model, self._gpus_total = gpu_model, gpus_total
        self._session = SessionId(new_id(16))
        self._replaced = SessionId("")
        self._alive: Subscription | None = None
        self._welcomed = asyncio.Event()

    async def hello(self, *, adopt: Sequence[AttemptRef], finished: Sequence[AttemptRef]) -> Welcome:
        """Begin a new session; until the answer, what belongs to a session waits."""
        self._welcomed.clear()
        replaces, self._session = self._replaced, SessionId(new_id(16))
        if self._alive is not None:
            await self._alive.unsubscribe()
        self._alive = await self._bus.serve(
            AreYouAlive, _answer, agent_id=self._agent_id, mark=mark_of(self._session)
        )
        welcome = await self._insist(
            Hello(
                agent_id=self._agent_id,
                session=self._session,
                name=self._name,
                pool=self._pool,
                gpu_model=self._gpu_model,
                gpus_total=self._gpus_total,
                adopt=tuple(adopt),
                finished=tuple(finished),
                replaces=replaces,
            )
        )
        self._replaced = self._session
        self._welcomed.set()
        return welcome

    async def session(self) -> SessionId:
        """The session that the scheduler knows us by; waits for one that is just beginning."""
        await self._welcomed.wait()
        return self._session

    async def claim(self, *, key: str, gpus_free: int) -> Claimed:
        """One try; the same `key` gets the same answer."""
        await self._welcomed.wait()
        return await self._bus.request(
            Claim(agent_id=self._agent_id, session=self._session, key=key, gpus_free=gpus_free),
            timeout=_TIMEOUT_SECONDS,
        )

    async def renew(
        self,
        *,
        attempts: Sequence[AttemptRef],
        finished: Sequence[AttemptRef],
        draining: bool,
        withheld: tuple[int, str] = (0, ""),
    ) -> Renewed:
        """One try: the next renewal is the repetition. `withheld`: how many GPUs are, and why."""
        await self._welcomed.wait()
        return await self._bus.request(
            Renew(
                agent_id=self._agent_id,
                session=self._session,
                attempts=tuple(attempts),
                finished=tuple(finished),
                draining=draining,
                gpus_quarantined=withheld[0],
                quarantine=withheld[1],
            ),
            timeout=_TIMEOUT_SECONDS,
        )

    async def progress(self, ref: AttemptRef, state: JobState) -> Progressed:
        """Repeated until answered. `Stale` when the attempt is not ours any more."""
        await self._welcomed.wait()
        return await self._insist(
            Progress(
                agent_id=self._agent_id,
                session=self._session,
                job_id=ref.job_id,
                attempt=ref.attempt,
                state=state,
            )
        )

    async def done(self, ref: AttemptRef, end: JobEnd) -> None:
        """Repeated until answered. `Stale` when the end was decided without us."""
        await self._welcomed.wait()
        await self._insist(
            AttemptDone(
                agent_id=self._agent_id,
                session=self._session,
                job_id=ref.job_id,
                attempt=ref.attempt,
                end=end,
            )
        )

    async def _insist(self, message: Request[R]) -> R:
        delay = _FIRST_DELAY_SECONDS
        while True:
            try:
                return await self._bus.request(message, timeout=_TIMEOUT_SECONDS)
            except Stale:
                raise
            except NotFound as error:
                raise Stale(str(error)) from error
            except UserError as error:
                # Nobody but us wrote the message: a defect on one side, and repeating cannot mend it.
                log.error("scheduler_refuses", message=type(message).__name__, error=str(error))
                raise Stale(str(error)) from error
            except ServiceError as error:
                if delay == _LONGEST_DELAY_SECONDS:
                    log.warning("scheduler_away", message=type(message).__name__, error=str(error))
            await asyncio.sleep(delay)
            delay = min(_LONGEST_DELAY_SECONDS, delay * 2)


async def _answer(_: AreYouAlive) -> Done:
    return Done()
