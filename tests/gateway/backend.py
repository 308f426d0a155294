"""Auth and scheduler as the gateway sees them, small and in memory, served on the real bus."""

import itertools
import time
from collections.abc import Iterable
from typing import Any

import msgspec

from chisel_shared.contract.errors import Conflict, Forbidden, NotFound, Unauthenticated, Unavailable
from chisel_shared.contract.ids import AgentId, JobId, ProjectId, new_id
from chisel_shared.contract.job import FINAL, EndReason, JobEnd, JobSpec, JobState, JobView
from chisel_shared.contract.messages import (
    AgentCredentials,
    Agents,
    AgentView,
    Authorize,
    CancelJob,
    Cordon,
    CordonAgent,
    Done,
    DrainAgent,
    GetIdentity,
    GetJob,
    GetSpec,
    GpuKind,
    Gpus,
    Identity,
    JobChanged,
    Jobs,
    JoinAgent,
    KeyView,
    ListAgents,
    ListGpus,
    ListJobs,
    Principal,
    RevokeOwnKey,
    SubmitJob,
    Submitted,
    UncordonAgent,
    Why,
    WhyJob,
)
from chisel_shared.runtime.bus import Bus
from tests.support.output import Spool
from tests.support.storage import PROJECT, FakeAttempts

USER_ACTIONS = ("jobs:submit", "jobs:read", "jobs:cancel", "traces:read", "agents:read")
USER, STRANGER, AGENT, OTHER_AGENT, READER = "user-key", "other-key", "agent-key", "agent-2-key", "reader-key"
ADMIN = "admin-key"
PRINCIPALS = {
    ADMIN: Principal(
        kind="user", id="user-9", name="Zoe", project_id=PROJECT, scopes=(*USER_ACTIONS, "agents:admin")
    ),
    USER: Principal(kind="user", id="user-1", name="Ada", project_id=PROJECT, scopes=USER_ACTIONS),
    READER: Principal(kind="user", id="user-3", name="Eve", project_id=PROJECT, scopes=("jobs:read",)),
    STRANGER: Principal(
        kind="user", id="user-2", name="Bob", project_id=ProjectId("project-2"), scopes=USER_ACTIONS
    ),
    AGENT: Principal(kind="agent", id="agent-1", name="a1", scopes=("agent:work",)),
    OTHER_AGENT: Principal(kind="agent", id="agent-2", name="a2", scopes=("agent:work",)),
}


class Backend(FakeAttempts):
    """Everything the gateway asks that is not storage."""

    def __init__(self, bus: Bus) -> None:
        super().__init__()
        self._bus = bus
        self.jobs: dict[JobId, JobView] = {}
        self.projects: dict[JobId, ProjectId] = {}
        self.asked: list[str] = []
        self.cancels: list[CancelJob] = []
        self.agents = [
            AgentView(
                id=AgentId("agent-1"), name="a/1 ü", pool="default", gpu_model="A100-80GB",
                gpus_total=8, gpus_free=4, state="online", last_seen=1.0, jobs=2,
            )
        ]  # fmt: skip
        self.wishes: list[CordonAgent | DrainAgent | UncordonAgent] = []
        self._keys: dict[str, tuple[JobId, JobSpec]] = {}
        self._versions = itertools.count(2)

    async def serve(self, bus: Bus) -> None:
        await super().serve(bus)
        await bus.serve(Authorize, self._authorize)
        await bus.serve(GetIdentity, self._identity)
        await bus.serve(RevokeOwnKey, self._revoke)
        await bus.serve(JoinAgent, self._join)
        await bus.serve(SubmitJob, self._submit)
        await bus.serve(GetJob, self._get_job)
        await bus.serve(ListJobs, self._list)
        await bus.serve(CancelJob, self._cancel)
        await bus.serve(WhyJob, self._why)
        await bus.serve(GetSpec, self._spec)
        await bus.serve(ListAgents, self._agents)
        await bus.serve(ListGpus, self._gpus)
        await bus.serve(CordonAgent, self._cordon)
        await bus.serve(DrainAgent, self._drain)
        await bus.serve(UncordonAgent, self._uncordon)

    async def change(self, job_id: JobId, **fields: Any) -> JobView:
        """What the scheduler does when a job changed: commit, then say so."""
        view = msgspec.structs.replace(self.jobs[job_id], version=next(self._versions), **fields)
        self.jobs[job_id] = view
        await self._bus.publish(JobChanged(job_id=job_id, job=view))
        return view

    async def assign(self, spool: Spool) -> None:
        """The job's next attempt goes to the spool's agent, and runs."""
        self.add(spool.job_id, spool.attempt, spool.agent_id)
        held = {"attempt": spool.attempt, "agent_id": spool.agent_id, "agent_name": "a1"}
        await self.change(spool.job_id, state=JobState.ASSIGNED, **held)
        await self.change(spool.job_id, state=JobState.RUNNING, started_at=time.time())

    async def end(self, spool: Spool, *, exit_code: int = 0) -> None:
        """The attempt ended by itself and all its output is shipped."""
        end = JobEnd(
            reason=EndReason.EXIT,
            exit_code=exit_code,
            stdout_bytes=spool.written["stdout"],
            stderr_bytes=spool.written["stderr"],
            stdout_sha256=spool.sha256("stdout"),
            stderr_sha256=spool.sha256("stderr"),
        )
        self.add(spool.job_id, spool.attempt, spool.agent_id, end)
        state = JobState.FAILED if exit_code else JobState.SUCCEEDED
        await self.change(spool.job_id, state=state, end=end, ended_at=time.time())

    async def requeue(self, spool: Spool) -> None:
        """The agent is gone with the attempt; the job may run again."""
        self.add(spool.job_id, spool.attempt, spool.agent_id, JobEnd(reason=EndReason.AGENT_LOST))
        await self.change(spool.job_id, state=JobState.QUEUED, agent_id=None, agent_name="")

    async def _authorize(self, ask: Authorize) -> Principal:
        self.asked.append(ask.action)
        if ask.token not in PRINCIPALS:
            raise Unauthenticated
        if ask.action not in PRINCIPALS[ask.token].scopes:
            raise Forbidden(f"this key may not do {ask.action}")
        return PRINCIPALS[ask.token]

    async def _identity(self, ask: GetIdentity) -> Identity:
        name = PRINCIPALS[ask.token].name
        key = KeyView(id="key-1", name="laptop", created_at=1.0)
        return Identity(user=name, project=PROJECT, is_admin=False, key=key)

    async def _revoke(self, ask: RevokeOwnKey) -> Done:
        return Done()

    async def _join(self, ask: JoinAgent) -> AgentCredentials:
        self.asked.append("join")
        if ask.token == "join-token-of-a-slow-day":
            raise Unavailable
        if ask.token != "join-token":
            raise Unauthenticated("this join token is not valid")
        return AgentCredentials(
            agent_id=AgentId("agent-9"),
            key="k",
            nats_url="nats://x",
            nats_user="agent",
            nats_password="p",
            pool="default",
        )

    async def _submit(self, ask: SubmitJob) -> Submitted:
        if known := self._keys.get(ask.idempotency_key):
            if known[1] != ask.spec:
                raise Conflict("this idempotency key was used for another job")
            return Submitted(job=self.jobs[known[0]], created=False)
        view = JobView(
            id=JobId(new_id()),
            app_name=ask.spec.app_name,
            state=JobState.QUEUED,
            version=1,
            gpu=ask.spec.gpu,
            argv=ask.spec.argv,
            attempt=0,
            submitted_at=time.time(),
        )
        self.put(view, ask.project_id)
        self._keys[ask.idempotency_key] = (view.id, ask.spec)
        return Submitted(job=view, created=True)

    def put(self, view: JobView, project_id: ProjectId = PROJECT) -> JobView:
        self.jobs[view.id] = view
        self.projects[view.id] = project_id
        return view

    def _found(self, project_id: ProjectId, prefix: str) -> JobView:
        for job_id, view in self.jobs.items():
            if job_id.startswith(prefix) and self.projects[job_id] == project_id:
                return view
        raise NotFound(f"there is no job {prefix}")

    async def _get_job(self, ask: GetJob) -> JobView:
        return self._found(ask.project_id, ask.job_id)

    async def _list(self, ask: ListJobs) -> Jobs:
        mine: Iterable[JobView] = (
            view
            for job_id, view in reversed(self.jobs.items())
            if self.projects[job_id] == ask.project_id and not (ask.unfinished and view.state in FINAL)
        )
        return Jobs(jobs=tuple(itertools.islice(mine, ask.limit)))

    async def _cancel(self, ask: CancelJob) -> JobView:
        view = self._found(ask.project_id, ask.job_id)
        self.cancels.append(ask)
        return await self.change(view.id, cancel_requested=True)

    async def _why(self, ask: WhyJob) -> Why:
        return Why(job=self._found(ask.project_id, ask.job_id), position=2, waiting="1 job ahead")

    async def _spec(self, ask: GetSpec) -> JobSpec:
        found = self._found(ask.project_id, ask.job_id).id
        return next(spec for job_id, spec in self._keys.values() if job_id == found)

    async def _gpus(self, ask: ListGpus) -> Gpus:
        kind = GpuKind(model="A100-80GB", total=8, free=4, largest_free=4, largest=8, agents=1)
        return Gpus(kinds=(kind,))

    async def _agents(self, ask: ListAgents) -> Agents:
        return Agents(agents=tuple(self.agents))

    async def _cordon(self, ask: CordonAgent) -> AgentView:
        return self._wished(ask, "cordoned", Cordon(by=ask.requested_by, since=2.0, reason=ask.reason))

    async def _drain(self, ask: DrainAgent) -> AgentView:
        deadline = None if ask.deadline_seconds is None else 2.0 + ask.deadline_seconds
        cordon = Cordon(by=ask.requested_by, since=2.0, reason=ask.reason, drain=True, deadline=deadline)
        return self._wished(ask, "draining", cordon)

    async def _uncordon(self, ask: UncordonAgent) -> AgentView:
        return self._wished(ask, "online", None)

    def _wished(
        self, ask: CordonAgent | DrainAgent | UncordonAgent, state: str, cordon: Cordon | None
    ) -> AgentView:
        for number, agent in enumerate(self.agents):
            if ask.agent in (agent.id, agent.name):
                self.wishes.append(ask)
                self.agents[number] = msgspec.structs.replace(agent, state=state, cordon=cordon)
                return self.agents[number]
        raise NotFound(f"there is no agent {ask.agent!r}")
