"""What the gateway asks of the scheduler for a user, what storage asks of it, and what it says of jobs."""

import msgspec

from chisel_shared.contract.ids import AgentId, JobId, ProjectId, SessionId, UserId
from chisel_shared.contract.job import JobEnd, JobSpec, JobView
from chisel_shared.contract.stops import Stop
from chisel_shared.contract.subjects import Done, Message, Request, said_on


class Submitted(msgspec.Struct, frozen=True):
    job: JobView
    created: bool
    """False when the idempotency key had been used for this very job before."""


@said_on("rpc.jobs.submit")
class SubmitJob(Request[Submitted], frozen=True):
    """Queue a job. The answer means committed. `Conflict` when the key was used for another spec,
    `NoSuchGpus` when no known agent could ever run it, `OverQuota` when it is larger than its user or its
    project may ever have."""

    project_id: ProjectId
    user_id: UserId
    idempotency_key: str
    spec: JobSpec
    user_name: str = ""


@said_on("rpc.jobs.get")
class GetJob(Request[JobView], frozen=True):
    """One job of a project. Here and wherever a user names a job, `job_id` may be any unambiguous
    beginning of an id, or `@last`: the newest job of `asked_by`. `NotFound` when there is none,
    `BadRequest` names the candidates when it is the beginning of several."""

    project_id: ProjectId
    job_id: str
    asked_by: UserId = UserId("")


class Jobs(msgspec.Struct, frozen=True):
    jobs: tuple[JobView, ...]


@said_on("rpc.jobs.list")
class ListJobs(Request[Jobs], frozen=True):
    """The newest `limit` jobs of a project, newest first; with `unfinished`, only those not ended."""

    project_id: ProjectId
    unfinished: bool = False
    limit: int = 50
    asked_by: UserId = UserId("")


@said_on("rpc.jobs.cancel")
class CancelJob(Request[JobView], frozen=True):
    """Ask for the end of a job. A finished job stays as it is, and of two wishes the first counts, but
    KILL hastens any other. `requested_by` and `reason` are for people."""

    project_id: ProjectId
    job_id: str
    requested_by: str
    asked_by: UserId = UserId("")
    stop: Stop = Stop()
    reason: str = ""


class Cordon(msgspec.Struct, frozen=True):
    """What an operator said about an agent: it is given nothing new. With `drain` it is also to become
    empty; what still runs at `deadline` is ended then, without one nothing is."""

    by: str
    since: float
    reason: str = ""
    drain: bool = False
    deadline: float | None = None


class AgentView(msgspec.Struct, frozen=True):
    """An agent as users see it. Only one that is `online` is given jobs; the other values of `state` are
    `cordoned`, `draining` and `drained` (by an operator: see `cordon`), `stopping` (by itself),
    `unreachable` and `offline`. `jobs` run on it. `gpus_quarantined` of its GPUs are given to nobody, for
    what `quarantine` says."""

    id: AgentId
    name: str
    pool: str
    gpu_model: str
    gpus_total: int
    gpus_free: int
    state: str
    last_seen: float
    jobs: int = 0
    gpus_quarantined: int = 0
    quarantine: str = ""
    cordon: Cordon | None = None


class Agents(msgspec.Struct, frozen=True):
    agents: tuple[AgentView, ...]


@said_on("rpc.jobs.agents")
class ListAgents(Request[Agents], frozen=True):
    """Every agent the scheduler knows."""


class AttemptView(msgspec.Struct, frozen=True):
    """One attempt as storage needs it: where its output lies on the bus, and its totals once ended."""

    job_id: JobId
    attempt: int
    agent_id: AgentId
    project_id: ProjectId
    end: JobEnd | None
    archived: bool


@said_on("rpc.jobs.attempt")
class GetAttempt(Request[AttemptView], frozen=True):
    """One attempt of any project: asked by services, never for a user."""

    job_id: JobId
    attempt: int


class SecretsOfAttempt(msgspec.Struct, frozen=True):
    """Which secrets of its project a job finds in which variables: names, no values."""

    project_id: ProjectId
    secrets: dict[str, str]


@said_on("rpc.jobs.secrets")
class GetSecretsOfAttempt(Request[SecretsOfAttempt], frozen=True):
    """Asked by the gateway before it hands values to an agent. `Stale` unless the attempt is open and
    held by this session of this agent."""

    agent_id: AgentId
    session: SessionId
    job_id: JobId
    attempt: int


class Attempts(msgspec.Struct, frozen=True):
    attempts: tuple[AttemptView, ...]


@said_on("rpc.jobs.unarchived")
class ListUnarchived(Request[Attempts], frozen=True):
    """The oldest ended attempts whose output storage has not yet taken over."""

    limit: int = 100


@said_on("rpc.jobs.archived")
class MarkArchived(Request[Done], frozen=True):
    """Storage holds the whole output of an attempt; its agent may drop the spool."""

    job_id: JobId
    attempt: int


@said_on("ev.job.{job_id}")
class JobChanged(Message, frozen=True):
    """A job's state changed; carries the whole view, so that a follower need not ask."""

    job_id: JobId
    job: JobView
