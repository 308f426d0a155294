"""A scenario for each defect of the test build: the least that has to happen for the defect to matter."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from chisel.local import jobs as processes
from chisel_shared.contract.errors import Stale
from chisel_shared.contract.ids import AgentId, JobId, SessionId
from chisel_shared.contract.job import EndReason, JobEnd
from chisel_shared.contract.messages import AttemptDone
from chisel_shared.runtime.bus import NatsBus
from tests.chaos.campaign import NOT_AT_REST, Campaign
from tests.chaos.checker import examine
from tests.chaos.faults import Faults, shims_of
from tests.chaos.invariants import Violation, check
from tests.chaos.plan import Client, Job, Plan, Script, Times, Upload
from tests.chaos.system import System, signal_all
from tests.support.waiting import until

AGENTS = {"one": 2, "two": 2}
TIMES = Times(lease=2.0, grace=0.5, renew=0.4, reap=0.3)
_LEDGER = """
update scheduler.agents set gpus_held = coalesce((
    select sum(gpu_count) from scheduler.attempts
    where attempts.agent_id = agents.id and attempts.ended_at is null
), 0)
"""

Scenario = Callable[["Stage", Job], Awaitable[None]]


class Stage:
    """A system of the test build, and one plan with two jobs for every scenario: one that meets its defect,
    and one that does not."""

    def __init__(self, system: System, folder: Path) -> None:
        self.system = system
        plan = Plan(
            seed=0,
            profile="defects",
            times=TIMES,
            agents=AGENTS,
            jobs=tuple(job_of(name, defect=defect) for name in SCENARIOS for defect in (False, True)),
        )
        self.campaign = Campaign(system, plan, folder)
        self.folder = folder
        self.campaign.history.note("at rest")  # scenarios leave things undone; that is not their matter

    @property
    def faults(self) -> Faults:
        return self.campaign.faults

    async def begin(self) -> None:
        """Bring the script of all jobs, while the service is sound."""
        await self.campaign.clients.open()
        await self.campaign.clients.close()
        await self.at_rest()

    async def play(self, name: str, *, defect: bool) -> list[Violation]:
        """What contradicts the invariants in the scenario `name`, of its job and of what all share."""
        job, (_, scenario) = job_of(name, defect=defect), SCENARIOS[name]
        clients = self.campaign.clients
        await clients.open()
        watching = asyncio.create_task(self.campaign.pulse.run())
        try:
            await scenario(self, job)
            if not defect:
                await self.at_rest()
            facts, _ = await asyncio.to_thread(examine, self.folder)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await clients.close()
        mine = tuple(found for found in facts.jobs if found.plan.name == job.name)
        return check(msgspec.structs.replace(facts, jobs=mine))

    async def settle(self) -> None:
        """Undo what a defect did to what all scenarios share."""
        for agent in AGENTS:
            signal_all([self.system.server(agent).pid], signal.SIGCONT)
            if not self.system.server(agent).running():
                self.system.server(agent).start()
        await self.sql(_LEDGER)
        await self.at_rest()
        for agent in AGENTS:
            await asyncio.to_thread(processes.kill_leftovers, self.system.data_of(agent))

    async def sql(self, sentence: str, *arguments: object) -> Any:
        """The first row of a sentence's answer."""
        connection = await asyncpg.connect(self.system.cluster.postgres.url())
        try:
            return await connection.fetchrow(sentence, *arguments)
        finally:
            await connection.close()

    async def at_rest(self, *but: str) -> None:
        """Return when nothing is left to do, but for these."""

        async def rested() -> bool:
            row = await self.sql(NOT_AT_REST)
            return not any(count for name, count in row.items() if name not in but)

        await until(rested, seconds=30)

    async def state_of(self, job: Job) -> Any:
        """The newest attempt of a job: `id`, `state`, `attempt`, `agent_id`, `session`, `agent_name`."""
        return await self.sql(
            "select jobs.id, jobs.state, jobs.attempt, attempts.agent_id, attempts.session, jobs.agent_name"
            " from scheduler.jobs left join scheduler.attempts"
            " on attempts.job_id = jobs.id and attempts.attempt = jobs.attempt"
            " where spec->>'app_name' = $1",
            job.name,
        )

    async def in_state(self, job: Job, state: str, *, attempt: int = 1) -> Any:
        async def there() -> bool:
            row = await self.state_of(job)
            return row is not None and (row["state"], row["attempt"]) == (state, attempt)

        await until(there, seconds=20)
        return await self.state_of(job)

    async def report_end(self, row: Any, *, session: str) -> None:
        """Say, as an agent would, that the attempt of `row` exited with 1."""
        nats = self.system.cluster.nats
        ask = AttemptDone(
            agent_id=AgentId(row["agent_id"]),
            session=SessionId(session),
            job_id=JobId(row["id"]),
            attempt=row["attempt"],
            end=JobEnd(reason=EndReason.EXIT, exit_code=1),
        )
        async with NatsBus.connect(nats.url, name="scenario", user=nats.user, password=nats.password) as bus:
            with contextlib.suppress(Stale):
                await bus.request(ask)


async def _run(stage: Stage, job: Job) -> None:
    await stage.campaign.clients.run(job)
    await stage.at_rest("unsaid", "held")


async def _submitted(stage: Stage, job: Job) -> None:
    await stage.campaign.clients.run(job)


async def _ended_again(stage: Stage, job: Job) -> None:
    await _run(stage, job)
    row = await stage.state_of(job)
    await stage.report_end(row, session=row["session"])


async def _spoken_for_by_a_stranger(stage: Stage, job: Job) -> None:
    await _submitted(stage, job)
    row = await stage.in_state(job, "running")
    await stage.report_end(row, session="another")
    await stage.at_rest("unarchived")


async def _agent_stopped(stage: Stage, job: Job) -> None:
    """For longer than its leases: the job runs elsewhere by then, and has ended here."""
    await _submitted(stage, job)
    row = await stage.in_state(job, "running")
    pids = [stage.system.server(row["agent_name"]).pid]
    signal_all(pids, signal.SIGSTOP)
    try:
        await stage.in_state(job, "running", attempt=2)
        witness = stage.folder / "witness" / job.name
        await until(lambda: witness.read_text().count("beat 2 ") >= 3, seconds=20)
    finally:
        signal_all(pids, signal.SIGCONT)
    await stage.at_rest()


async def _host_dead(stage: Stage, job: Job) -> None:
    """The agent with all that it watched over: its lease runs out, and nobody comes back."""
    await _submitted(stage, job)
    agent = (await stage.in_state(job, "running"))["agent_name"]
    data = stage.system.data_of(agent)
    stage.system.server(agent).kill()
    for _, pid in shims_of(data):
        signal_all([pid], signal.SIGKILL)
    await asyncio.to_thread(processes.kill_leftovers, data)
    open_attempt = "select count(*) as open from scheduler.attempts where ended_at is null and agent_id = $1"
    agent_id = (await stage.state_of(job))["agent_id"]

    async def over() -> bool:
        late = [seen for seen in stage.campaign.history.of("overdue") if seen["overdue"] > 6.0]
        return bool(late) or not (await stage.sql(open_attempt, agent_id))["open"]

    await until(over, seconds=30)


async def _uploaded(stage: Stage, job: Job) -> None:
    await stage.campaign.clients.upload(Upload(at=0, key=job.name, size=100_000))


def job_of(name: str, *, defect: bool) -> Job:
    """The job of a scenario: another one where the defect is there."""
    script, _ = SCENARIOS[name]
    called = f"{name.replace(' ', '-')}-{'defect' if defect else 'sound'}"
    told = msgspec.structs.replace(script, name=called, key=called)
    retries = 2 if name in RETRIED else 0
    return Job(at=0, shape="scenario", script=told, retries=retries, client=Client.POST)


def _script(**told: Any) -> Script:
    return Script(name="", key="", **told)


SCENARIOS: dict[str, tuple[Script, Scenario]] = {
    "accepted and forgotten": (_script(), _run),
    "ended twice": (_script(exit_code=1), _ended_again),
    "no fence": (_script(seconds=1.5, pieces=10), _spoken_for_by_a_stranger),
    "no self-kill": (_script(seconds=5.0, pieces=50), _agent_stopped),
    "purged before archived": (_script(stdout=50_000), _run),
    "leftovers spared": (_script(children=True), _run),
    "half stored": (_script(), _uploaded),
    "gpus kept": (_script(), _run),
    "leases for ever": (_script(seconds=2.0, pieces=10), _host_dead),
    "word lost": (_script(), _run),
    "relay asleep": (_script(), _run),
    "secret logged": (_script(secret=True), _run),
}
RETRIED = ("no self-kill", "leases for ever")
"""Scenarios whose job may run again."""
