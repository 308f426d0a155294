"""Everything services and agents say to each other: one class is subject, payload and reply type.

A `Request` expects one answer from one member of a group; a `Message` is said to whoever listens and
may be lost, so it is only ever a hint about something Postgres knows. A `{token}` of a subject is a
field of the class, checked at import: nobody types a subject string, and a payload that contradicts
its subject is refused. NATS permissions keep agents to agents' subjects but do not tell one agent from
another, for all share one user: an agent is known by its id and the secret session of its last hello.
Unknown fields are ignored, so an old reader survives a new writer; fields are added, never given
another meaning.
"""

import msgspec

from chisel_shared.contract.ids import AgentId, Digest, JobId, ProjectId, SessionId, UserId
from chisel_shared.contract.job import JobEnd, JobSpec, JobState, JobView
from chisel_shared.contract.subjects import (  # passed on: whoever says messages imports one module
    MESSAGES as MESSAGES,
)
from chisel_shared.contract.subjects import Message as Message
from chisel_shared.contract.subjects import Request as Request
from chisel_shared.contract.subjects import pattern as pattern
from chisel_shared.contract.subjects import reply_type as reply_type
from chisel_shared.contract.subjects import said_on
from chisel_shared.contract.subjects import tokens as tokens


class Done(msgspec.Struct, frozen=True):
    """The answer of a request that has nothing to tell but that it is committed."""


# Auth


class Principal(msgspec.Struct, frozen=True):
    """Who is calling: a user in a project, or an agent."""

    kind: str
    """`"user"` or `"agent"`."""
    id: str
    name: str
    project_id: ProjectId | None = None
    scopes: tuple[str, ...] = ()


@said_on("rpc.auth.authorize")
class Authorize(Request[Principal], frozen=True):
    """May the bearer of `token` do `action`? `Unauthenticated` or `Forbidden` when not.

    Actions: `jobs:submit`, `jobs:read`, `jobs:cancel`, `traces:read`, `agents:read`, `agent:work`.
    """

    token: str
    action: str


class AgentCredentials(msgspec.Struct, frozen=True):
    """What an agent keeps after joining: its identity, its key for HTTP and its way to the bus."""

    agent_id: AgentId
    key: str
    nats_url: str
    nats_user: str
    nats_password: str
    pool: str


@said_on("rpc.auth.join")
class JoinAgent(Request[AgentCredentials], frozen=True):
    """An agent introduces itself with a join token."""

    token: str
    name: str


# Jobs, asked by the gateway on behalf of a user


class Submitted(msgspec.Struct, frozen=True):
    job: JobView
    created: bool
    """False when the idempotency key had been used for this very job before."""


@said_on("rpc.jobs.submit")
class SubmitJob(Request[Submitted], frozen=True):
    """Queue a job. The answer means committed. `Conflict` when the key was used for another spec,
    `NoSuchGpus` when no known agent could ever run it."""

    project_id: ProjectId
    user_id: UserId
    idempotency_key: str
    spec: JobSpec


@said_on("rpc.jobs.get")
class GetJob(Request[JobView], frozen=True):
    """One job of a project. `job_id` may be any unambiguous beginning of an id."""

    project_id: ProjectId
    job_id: str


class Jobs(msgspec.Struct, frozen=True):
    jobs: tuple[JobView, ...]


@said_on("rpc.jobs.list")
class ListJobs(Request[Jobs], frozen=True):
    """The newest `limit` jobs of a project, newest first; with `unfinished`, only those not ended."""

    project_id: ProjectId
    unfinished: bool = False
    limit: int = 50


@said_on("rpc.jobs.cancel")
class CancelJob(Request[JobView], frozen=True):
    """Ask for the end of a job. A finished job stays as it is."""

    project_id: ProjectId
    job_id: str
    requested_by: str


class AgentView(msgspec.Struct, frozen=True):
    """An agent as users see it. `state`: `online`, `unreachable`, `draining`, `offline`."""

    id: AgentId
    name: str
    pool: str
    gpu_model: str
    gpus_total: int
    gpus_free: int
    state: str
    last_seen: float


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


# Agents


class AttemptRef(msgspec.Struct, frozen=True):
    """An attempt as its agent names it."""

    job_id: JobId
    attempt: int


class Welcome(msgspec.Struct, frozen=True):
    """`keep`: adopted attempts to carry on with. Everything else the agent holds it must end."""

    keep: tuple[AttemptRef, ...] = ()
    archived: tuple[AttemptRef, ...] = ()


@said_on("rpc.sched.{agent_id}.hello")
class Hello(Request[Welcome], frozen=True):
    """An agent's new session. It ends every older session of the same agent; open attempts that are
    not in `adopt` are lost. `finished` names ended attempts whose spool is still kept."""

    agent_id: AgentId
    session: SessionId
    name: str
    pool: str
    gpu_model: str
    gpus_total: int
    adopt: tuple[AttemptRef, ...] = ()
    finished: tuple[AttemptRef, ...] = ()


class Assignment(msgspec.Struct, frozen=True):
    """A job given to the agent that asked."""

    job_id: JobId
    attempt: int
    project_id: ProjectId
    spec: JobSpec
    gpu_count: int
    lease_seconds: float
    """How long the attempt may go unrenewed, counted from when the claim was sent; only a job with
    retries is ended for it."""


class Claimed(msgspec.Struct, frozen=True):
    assignment: Assignment | None
    ask_again_seconds: float | None = None
    """When something waits that this agent may get later although nothing changes."""


@said_on("rpc.sched.{agent_id}.claim")
class Claim(Request[Claimed], frozen=True):
    """An agent with free GPUs asks for work. The same `key` always gets the same answer, so a lost
    reply costs nothing. `Stale` when the session is not the agent's newest."""

    agent_id: AgentId
    session: SessionId
    key: str
    gpus_free: int


class Progressed(msgspec.Struct, frozen=True):
    cancel_requested: bool = False


@said_on("rpc.sched.{agent_id}.progress")
class Progress(Request[Progressed], frozen=True):
    """An attempt entered `state`: `preparing` or `running`. Saying it twice is harmless.
    `Stale` when the attempt is no longer this session's."""

    agent_id: AgentId
    session: SessionId
    job_id: JobId
    attempt: int
    state: JobState


class Renewed(msgspec.Struct, frozen=True):
    """Every attempt in the request is in exactly one list; `gone` must be ended at once."""

    renewed: tuple[AttemptRef, ...] = ()
    cancel: tuple[AttemptRef, ...] = ()
    gone: tuple[AttemptRef, ...] = ()
    archived: tuple[AttemptRef, ...] = ()


@said_on("rpc.sched.{agent_id}.renew")
class Renew(Request[Renewed], frozen=True):
    """The heartbeat. `attempts` are held; attempts of `cancel` in the answer are renewed too.
    `finished` asks which ended attempts storage has taken over."""

    agent_id: AgentId
    session: SessionId
    attempts: tuple[AttemptRef, ...]
    finished: tuple[AttemptRef, ...] = ()
    draining: bool = False


@said_on("rpc.sched.{agent_id}.done")
class AttemptDone(Request[Done], frozen=True):
    """An attempt ended and every byte of its output is stored. Repeated until answered.
    `Stale` when the attempt is no longer this agent's: the end was decided without it."""

    agent_id: AgentId
    session: SessionId
    job_id: JobId
    attempt: int
    end: JobEnd


@said_on("agent.{agent_id}.cancel")
class CancelAttempt(Request[Done], frozen=True):
    """Told to the agent at once; a lost one is repeated by the next renewal."""

    agent_id: AgentId
    job_id: JobId
    attempt: int


@said_on("wake.{pool}")
class Wake(Message, frozen=True):
    """Something may be claimable in this pool."""

    pool: str


# Storage


class TraceView(msgspec.Struct, frozen=True):
    """A saved trace file."""

    job_id: JobId
    attempt: int
    name: str
    """The file name, `{trace_name}.json`."""
    size_bytes: int
    sha256: Digest


class Traces(msgspec.Struct, frozen=True):
    traces: tuple[TraceView, ...]


@said_on("rpc.storage.traces")
class ListTraces(Request[Traces], frozen=True):
    """The traces of a job, by attempt and name. The asker has checked whose job it is."""

    job_id: JobId


class BundlePresence(msgspec.Struct, frozen=True):
    present: bool


@said_on("rpc.storage.has-bundle")
class HasBundle(Request[BundlePresence], frozen=True):
    """Whether this project has stored this bundle."""

    project_id: ProjectId
    digest: Digest


# Facts


@said_on("ev.job.{job_id}")
class JobChanged(Message, frozen=True):
    """A job's state changed; carries the whole view, so that a follower need not ask."""

    job_id: JobId
    job: JobView
