"""Two thousand writers at once on five hundred jobs: each job is given once and ended once."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Iterable
from typing import TypeVar

from chisel_scheduler.store.claims import ClaimRules, Claims
from chisel_shared.contract.errors import Stale
from chisel_shared.contract.job import FINAL, EndReason, JobEnd, JobState, JobView
from chisel_shared.contract.messages import AttemptRef
from tests.scheduler.actors import EXIT_0, LEASE_SECONDS, Desk, hello_of, ref

T = TypeVar("T")

JOBS, AGENTS, GPUS = 500, 25, 20
WRITERS = 2_000
AT_ONCE = 16
"""Twice the connections there are; behind them the others wait for their turn."""


async def racing(works: Iterable[Awaitable[T]]) -> list[T]:
    """The results of `works`, of which many run at once."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(work: Awaitable[T]) -> T:
        async with places:
            return await work

    return await asyncio.gather(*(one(work) for work in works))


async def test_every_job_is_given_once_and_ended_once(desk: Desk) -> None:
    # Time stands still here, so nobody may be waited for.
    rules = ClaimRules(lease=LEASE_SECONDS, attentive=7.0, patience=0.0)
    desk.claims = Claims(database=desk.database, rules=rules)
    agents = [f"a{number}" for number in range(AGENTS)]
    for agent in agents:
        await desk.hello(hello_of(agent, GPUS))
    for _ in range(JOBS):
        await desk.queue()

    answers = await racing(desk.claim(agents[number % AGENTS], gpus_free=GPUS) for number in range(WRITERS))
    given = [(answer.claimed.assignment, agents[n % AGENTS]) for n, answer in enumerate(answers)]
    held = {ref(assignment): agent for assignment, agent in given if assignment is not None}
    assert len([assignment for assignment, _ in given if assignment is not None]) == JOBS
    assert len(held) == len({attempt.job_id for attempt in held}) == JOBS
    await desk.check_laws()

    async def end(attempt: AttemptRef, agent: str, number: int) -> JobView | None:
        try:
            match number % 4:
                case 0:
                    return await desk.done(attempt, EXIT_0, agent)
                case 1:
                    return await desk.done(attempt, JobEnd(reason=EndReason.EXIT, exit_code=1), agent)
                case 2:
                    return await desk.done(attempt, JobEnd(reason=EndReason.USER), agent)
                case _:
                    return await desk.lose(attempt, agent)
        except Stale:
            return None

    writers = [end(attempt, agent, n) for attempt, agent in held.items() for n in range(WRITERS // JOBS)]
    random.Random(1).shuffle(writers)
    won = [job for job in await racing(writers) if job is not None]
    assert len(won) == len({job.id for job in won}) == JOBS
    assert all(job.state in FINAL for job in won)
    # All kinds of writers have won somewhere, or it was no race.
    assert len(Counter(job.state for job in won)) == 4, Counter(job.state for job in won)
    stored = await desk.fetch("select id, state from jobs")
    assert {row["id"]: JobState(row["state"]) for row in stored} == {job.id: job.state for job in won}
    await desk.check_laws()
