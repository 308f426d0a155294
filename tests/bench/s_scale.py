"""S: a scheduler with 1,000 agents and 100,000 queued jobs beside one with nothing to do.

The real scheduler process on a NATS and a durable Postgres of its own; agents are messages. In the large
system every agent renews every five seconds while the claims are timed, as agents do.
"""

import asyncio
import contextlib
import itertools
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg

from chisel_shared.contract.errors import Unavailable
from chisel_shared.contract.ids import AgentId, Digest, ProjectId, SessionId, UserId, new_id
from chisel_shared.contract.job import EndReason, JobEnd, JobSpec
from chisel_shared.contract.messages import (
    Assignment,
    AttemptDone,
    AttemptRef,
    Claim,
    Hello,
    ListAgents,
    Renew,
    SubmitJob,
)
from chisel_shared.runtime.bus import NatsBus
from tests.bench.figures import Figure, percentile
from tests.bench.stack import Stack
from tests.support.backends import running_nats, running_postgres, short_folder, wait_for_postgres
from tests.support.processes import Server

AGENTS, QUEUED, USERS, GPUS = 1_000, 100_000, 50, 8
CLAIMS = 400
RENEW_SECONDS = 5.0
MODEL = "A100-80GB"
_SIZES = (1,) * 86 + (2,) * 6 + (4,) * 5 + (8,) * 3

_FILL = """
insert into scheduler.jobs (id, project_id, user_id, user_name, idempotency_key, spec, pool, gpu_model,
    gpu_count, priority, retries, state, submitted_at, queued_at)
select 'q' || lpad(n::text, 9, '0'), 'p' || n % 10, 'u' || n % $2::int, 'user ' || n % $2::int, 'fill' || n,
    json_build_object('app_name', 'fill', 'argv', array['python', 'x.py'], 'bundle', repeat('a', 64),
        'gpu', 'A100-80GB:' || size.gpus),
    'default', 'A100-80GB', size.gpus, 0, 0, 'queued', now() - interval '1 hour', now() - interval '1 hour'
from generate_series(1, $1::int) n,
    lateral (select ($3::int[])[1 + n % array_length($3::int[], 1)] as gpus) size
"""


class Agents:
    """Agents as the scheduler knows them."""

    def __init__(self, bus: NatsBus) -> None:
        self._bus = bus
        self._keys = itertools.count()
        self.held: dict[AgentId, dict[AttemptRef, int]] = {}

    async def join(self, number: int) -> None:
        agent = AgentId(f"agent-{number}")
        await self._bus.request(
            Hello(agent_id=agent, session=SessionId("s1"), name=agent, pool="default", gpu_model=MODEL,
                  gpus_total=GPUS)
        )  # fmt: skip
        self.held[agent] = {}

    async def claim(self, agent: AgentId) -> tuple[float, Assignment | None]:
        """Seconds until the answer, and the answer."""
        free = GPUS - sum(self.held[agent].values())
        ask = Claim(agent_id=agent, session=SessionId("s1"), key=f"k{next(self._keys)}", gpus_free=free)
        began = time.perf_counter()
        answer = await self._bus.request(ask)
        took = time.perf_counter() - began
        if (given := answer.assignment) is not None:
            self.held[agent][AttemptRef(job_id=given.job_id, attempt=given.attempt)] = given.gpu_count
        return took, given

    async def finish(self, agent: AgentId) -> None:
        """End what the agent holds."""
        end = JobEnd(reason=EndReason.EXIT, exit_code=0)
        for ref in list(self.held[agent]):
            await self._bus.request(
                AttemptDone(agent_id=agent, session=SessionId("s1"), job_id=ref.job_id,
                            attempt=ref.attempt, end=end)
            )  # fmt: skip
            del self.held[agent][ref]

    async def renew_for_ever(self) -> None:
        for agent in itertools.cycle(list(self.held)):
            ask = Renew(agent_id=agent, session=SessionId("s1"), attempts=tuple(self.held[agent]))
            with contextlib.suppress(Unavailable):
                await self._bus.request(ask)
            await asyncio.sleep(RENEW_SECONDS / len(self.held))


def measure(stack: Stack, repeats: int) -> list[Figure]:
    return asyncio.run(_measure())


async def _measure() -> list[Figure]:
    async with _scheduler() as (bus, database):
        agents = Agents(bus)
        await agents.join(0)
        alone = await _claims_of_an_empty_system(bus, agents)
        await database.execute(_FILL, QUEUED, USERS, list(_SIZES), timeout=120)
        await database.execute("analyze")
        for number in range(1, AGENTS):
            await agents.join(number)
        renewing = asyncio.create_task(agents.renew_for_ever(), name="renewals")
        try:
            crowded = await _claims_of_a_full_system(agents)
            submits = await _timed(lambda n: _submit(bus, 1 + n % 2), CLAIMS // 2)
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
    p50, p50_alone = percentile(crowded, 0.5), percentile(alone, 0.5)
    return [
        Figure(letter="S", what="claim, 1 agent and 1 job, p50", unit="ms", values=(p50_alone,)),
        Figure(letter="S", what=f"claim, {AGENTS:,} agents and {QUEUED:,} queued jobs, p50", unit="ms",
               values=(p50,)),
        Figure(letter="S", what="the same, p99", unit="ms", values=(percentile(crowded, 0.99),)),
        Figure(letter="S", what="p50 of the large system over that of the empty one", unit="",
               values=(p50 / p50_alone,), must=2.0),
        Figure(letter="S", what="submit in the large system, p50", unit="ms",
               values=(percentile(submits, 0.5),)),
    ]  # fmt: skip


async def _claims_of_an_empty_system(bus: NatsBus, agents: Agents) -> list[float]:
    (agent,) = agents.held
    found = []
    for number in range(CLAIMS):
        await _submit(bus, _SIZES[number % len(_SIZES)])
        took, given = await agents.claim(agent)
        assert given is not None, "a job waits and its only agent does not get it"
        found.append(took)
        await agents.finish(agent)
    return [1000 * seconds for seconds in found[CLAIMS // 4 :]]  # without what warms up


async def _claims_of_a_full_system(agents: Agents) -> list[float]:
    """Agents come by in any order and fill up; what is measured are claims that got a job."""
    chance = random.Random(1)
    found: list[float] = []
    while len(found) < CLAIMS + CLAIMS // 4:
        agent = chance.choice(list(agents.held))
        if sum(agents.held[agent].values()) == GPUS:
            await agents.finish(agent)
        took, given = await agents.claim(agent)
        if given is not None:
            found.append(took)
    return [1000 * seconds for seconds in found[CLAIMS // 4 :]]


async def _timed(work: Callable[[int], Awaitable[None]], count: int) -> list[float]:
    """Milliseconds of each of `count` calls."""
    found = []
    for number in range(count):
        began = time.perf_counter()
        await work(number)
        found.append(1000 * (time.perf_counter() - began))
    return found


async def _submit(bus: NatsBus, gpus: int) -> None:
    spec = JobSpec(app_name="bench", argv=("python", "x.py"), gpu=f"{MODEL}:{gpus}", bundle=Digest("a" * 64))
    await bus.request(
        SubmitJob(project_id=ProjectId("p1"), user_id=UserId("u1"), idempotency_key=new_id(), spec=spec)
    )


@asynccontextmanager
async def _scheduler() -> AsyncIterator[tuple[NatsBus, asyncpg.Connection]]:
    """A scheduler of its own that answers; a bus and the database to it."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(short_folder())
        for name in ("nats", "db"):
            (folder / name).mkdir()
        nats = stack.enter_context(running_nats(folder / "nats"))
        postgres = stack.enter_context(running_postgres(folder / "db", durable=True))
        await wait_for_postgres(postgres.url())
        server = _process(folder, nats.url, nats.user, nats.password, postgres.url())
        server.start()
        stack.callback(server.stop)
        access = {"user": nats.user, "password": nats.password}
        bus = await stack.enter_async_context(NatsBus.connect(nats.url, name="bench", **access))
        await _answering(bus)
        database = await asyncpg.connect(postgres.url())
        stack.push_async_callback(database.close)
        yield bus, database


def _process(folder: Path, nats: str, user: str, password: str, database: str) -> Server:
    settings = {"NATS_URL": nats, "NATS_USER": user, "NATS_PASSWORD": password, "DATABASE_URL": database}
    mine = {f"CHISEL_SCHEDULER_{name}": value for name, value in settings.items()}
    env = {name: value for name, value in os.environ.items() if not name.startswith("CHISEL_")} | mine
    return Server([sys.executable, "-m", "chisel_scheduler"], log=folder / "scheduler.log", env=env)


async def _answering(bus: NatsBus) -> None:
    while True:
        try:
            await bus.request(ListAgents())
            return
        except Unavailable:
            await asyncio.sleep(0.05)
