"""Short ways to say what users and agents say, straight to the store."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

from chisel_scheduler.store.agents import Agents
from chisel_scheduler.store.archive import Archive
from chisel_scheduler.store.attempts import Attempts, HelloOutcome
from chisel_scheduler.store.claims import Answer, ClaimRules, Claims
from chisel_scheduler.store.cordons import Cordons
from chisel_scheduler.store.jobs import Jobs
from chisel_scheduler.validation import check
from chisel_shared.contract.ids import AgentId, Digest, JobId, ProjectId, SessionId, UserId
from chisel_shared.contract.job import EndReason, JobEnd, JobSpec, JobState, JobView
from chisel_shared.contract.messages import (
    AgentView,
    Assignment,
    AttemptDone,
    AttemptRef,
    CancelJob,
    Claim,
    CordonAgent,
    DrainAgent,
    GetJob,
    Hello,
    Progress,
    Progressed,
    Renew,
    Renewed,
    SubmitJob,
    Submitted,
    UncordonAgent,
)
from chisel_shared.runtime.db import Connection, Database

PROJECT, USER = ProjectId("p1"), UserId("u1")
START = datetime(2030, 1, 1, tzinfo=UTC)
LEASE_SECONDS = 600.0
EXIT_0 = JobEnd(reason=EndReason.EXIT, exit_code=0)
EMPTY = "truncate agents, sessions, jobs, attempts, job_events, outbox, usage, shares"
_keys = itertools.count()


def spec(gpus: int = 1, **changes: Any) -> JobSpec:
    fields: dict[str, Any] = {
        "app_name": "train",
        "argv": ("python", "train.py"),
        "gpu": f"A100-80GB:{gpus}",
        "bundle": Digest("a" * 64),
    }
    return JobSpec(**{**fields, **changes})


def submit_of(wanted: JobSpec, *, key: str = "", user: str = USER, project: str = PROJECT) -> SubmitJob:
    return SubmitJob(
        project_id=ProjectId(project),
        user_id=UserId(user),
        idempotency_key=key or f"key-{next(_keys)}",
        spec=wanted,
    )


def hello_of(
    agent: str = "a1",
    gpus: int = 8,
    *,
    session: str = "s1",
    adopt: tuple[AttemptRef, ...] = (),
    finished: tuple[AttemptRef, ...] = (),
    model: str = "A100-80GB",
) -> Hello:
    return Hello(
        agent_id=AgentId(agent),
        session=SessionId(session),
        name=f"box-{agent}",
        pool="default",
        gpu_model=model,
        gpus_total=gpus,
        adopt=adopt,
        finished=finished,
    )


def ref(assignment: Assignment) -> AttemptRef:
    return AttemptRef(job_id=assignment.job_id, attempt=assignment.attempt)


class Desk:
    """The scheduler's store with everything else left out; `now` stands still until moved."""

    def __init__(self, *, database: Database) -> None:
        self.database = database
        self.now = START
        self.jobs = Jobs(database=database, pool="default")
        self.agents = Agents(database=database)
        self.attempts = Attempts(database=database)
        self.archive = Archive(database=database)
        self.cordons = Cordons(database=database)
        rules = ClaimRules(lease=LEASE_SECONDS, attentive=7.0, patience=1.0)
        self.claims = Claims(database=database, rules=rules)

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    async def hello(self, hello: Hello) -> HelloOutcome:
        return await self.attempts.hello(hello, now=self.now)

    async def submit(self, ask: SubmitJob) -> Submitted:
        return await self.jobs.submit(ask, check(ask.spec), now=self.now)

    async def queue(self, gpus: int = 1, **changes: Any) -> JobView:
        return (await self.submit(submit_of(spec(gpus, **changes)))).job

    async def claim(
        self, agent: str = "a1", *, session: str = "s1", key: str = "", gpus_free: int = 8
    ) -> Answer:
        ask = Claim(
            agent_id=AgentId(agent),
            session=SessionId(session),
            key=key or f"claim-{next(_keys)}",
            gpus_free=gpus_free,
        )
        return await self.claims.claim(ask, now=self.now)

    async def take(self, agent: str = "a1", *, session: str = "s1") -> Assignment:
        """Claim, and expect a job."""
        given = (await self.claim(agent, session=session)).claimed.assignment
        assert given is not None
        return given

    async def progress(
        self, attempt: AttemptRef, state: JobState, agent: str = "a1", session: str = "s1"
    ) -> tuple[Progressed, JobView | None]:
        ask = Progress(
            agent_id=AgentId(agent),
            session=SessionId(session),
            job_id=attempt.job_id,
            attempt=attempt.attempt,
            state=state,
        )
        return await self.attempts.progress(ask, now=self.now)

    async def done(
        self, attempt: AttemptRef, end: JobEnd = EXIT_0, agent: str = "a1", session: str = "s1"
    ) -> JobView | None:
        ask = AttemptDone(
            agent_id=AgentId(agent),
            session=SessionId(session),
            job_id=attempt.job_id,
            attempt=attempt.attempt,
            end=end,
        )
        return await self.attempts.done(ask, now=self.now)

    async def renew(
        self,
        *attempts: AttemptRef,
        agent: str = "a1",
        session: str = "s1",
        finished: tuple[AttemptRef, ...] = (),
        draining: bool = False,
        gpus_quarantined: int = 0,
        quarantine: str = "",
    ) -> Renewed:
        ask = Renew(
            agent_id=AgentId(agent),
            session=SessionId(session),
            attempts=attempts,
            finished=finished,
            draining=draining,
            gpus_quarantined=gpus_quarantined,
            quarantine=quarantine,
        )
        return (await self.attempts.renew(ask, now=self.now)).renewed

    async def cordon(self, agent: str = "a1", reason: str = "", *, by: str = "Ada") -> AgentView:
        ask = CordonAgent(agent=agent, requested_by=by, reason=reason)
        return await self.cordons.cordon(ask, now=self.now)

    async def drain(
        self, agent: str = "a1", reason: str = "", *, seconds: float | None = None, by: str = "Ada"
    ) -> AgentView:
        ask = DrainAgent(agent=agent, requested_by=by, reason=reason, deadline_seconds=seconds)
        return await self.cordons.drain(ask, now=self.now)

    async def uncordon(self, agent: str = "a1") -> AgentView:
        return await self.cordons.uncordon(UncordonAgent(agent=agent, requested_by="Ada"), now=self.now)

    async def evict(self, agent: str = "a1") -> list[JobView]:
        """What the reaper does to an agent whose drain is over its deadline."""
        return await self.cordons.evict(AgentId(agent), now=self.now)

    async def agent(self, agent: str = "a1") -> AgentView:
        return next(one for one in await self.agents.listing() if one.id == agent)

    async def lose(self, attempt: AttemptRef, agent: str = "a1") -> JobView | None:
        """What the reaper does to an attempt whose agent is declared gone."""
        return await self.attempts.lose(attempt, AgentId(agent), EndReason.AGENT_LOST, now=self.now)

    async def bring_to(self, state: JobState, *, gpus: int = 1, **changes: Any) -> AttemptRef:
        """A job of agent a1 in a held state."""
        await self.queue(gpus, **changes)
        attempt = ref(await self.take())
        for reported in (JobState.PREPARING, JobState.RUNNING):
            if state is JobState.ASSIGNED:
                break
            await self.progress(attempt, reported)
            if state is reported:
                break
        return attempt

    async def get(self, job_id: JobId | str) -> JobView:
        return await self.jobs.get(GetJob(project_id=PROJECT, job_id=job_id, asked_by=USER), now=self.now)

    async def cancel(self, job_id: JobId | str) -> JobView:
        ask = CancelJob(project_id=PROJECT, job_id=job_id, requested_by="Ada", asked_by=USER)
        return (await self.jobs.cancel(ask, now=self.now)).job

    async def fetch(self, sentence: str, *values: Any) -> list[Any]:
        async def work(c: Connection) -> list[Any]:
            return list(await c.fetch(sentence, *values))

        return await self.database.run(work)

    async def check_laws(self) -> None:
        """What must hold after anything: the ledger, one open attempt a job, versions without a gap."""
        assert not await self.fetch(
            "select * from agents where gpus_held > gpus_total or gpus_held <> coalesce((select"
            " sum(gpu_count) from attempts where agent_id = agents.id and ended_at is null), 0)"
        )
        assert not await self.fetch(
            "select * from usage where gpus_held <> coalesce((select sum(attempts.gpu_count) from attempts"
            " join jobs on jobs.id = attempts.job_id where attempts.ended_at is null and usage.id ="
            " case usage.kind when 'user' then jobs.user_id else jobs.project_id end), 0)"
        )
        assert not await self.fetch(
            "select * from jobs where (state in ('assigned', 'preparing', 'running')) <> exists (select"
            " from attempts where job_id = jobs.id and attempt = jobs.attempt and ended_at is null)"
        )
        assert not await self.fetch(
            "select * from jobs where version <> (select count(*) from job_events where job_id = jobs.id)"
            " or version <> (select max(version) from job_events where job_id = jobs.id)"
        )
        assert not await self.fetch("select * from jobs where (ended_at is null) <> (ending is null)")
