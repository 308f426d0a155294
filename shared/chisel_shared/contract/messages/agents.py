"""What agents and the scheduler say to each other."""

import hashlib

import msgspec

from chisel_shared.contract.ids import AgentId, JobId, ProjectId, SessionId
from chisel_shared.contract.job import JobEnd, JobSpec, JobState
from chisel_shared.contract.stops import Stop
from chisel_shared.contract.subjects import Done, Message, Request, said_on


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
    not in `adopt` are lost. `finished` names ended attempts whose spool is still kept. `Unavailable` while
    another process is alive whose session this would end."""

    agent_id: AgentId
    session: SessionId
    name: str
    pool: str
    gpu_model: str
    gpus_total: int
    adopt: tuple[AttemptRef, ...] = ()
    finished: tuple[AttemptRef, ...] = ()
    replaces: SessionId = SessionId("")
    """The session that the same process had before."""


def mark_of(session: SessionId) -> str:
    """What a session may be called where others hear it: itself, it is its agent's secret."""
    return hashlib.sha256(session.encode()).hexdigest()[:16]


@said_on("agent.{agent_id}.alive.{mark}")
class AreYouAlive(Request[Done], frozen=True):
    """Asked of the session called `mark` before another ends it: while its process answers, it is not
    replaced, by an agent with a copy of its credentials for instance."""

    agent_id: AgentId
    mark: str


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
    stop: Stop = Stop()
    """How, when a cancel is requested."""


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
    """Every attempt in the request is in exactly one list; `gone` must be ended at once. `stops` says how
    each of `cancel` is to end, in the same order."""

    renewed: tuple[AttemptRef, ...] = ()
    cancel: tuple[AttemptRef, ...] = ()
    gone: tuple[AttemptRef, ...] = ()
    archived: tuple[AttemptRef, ...] = ()
    stops: tuple[Stop, ...] = ()


@said_on("rpc.sched.{agent_id}.renew")
class Renew(Request[Renewed], frozen=True):
    """The heartbeat. `attempts` are held; attempts of `cancel` in the answer are renewed too.
    `finished` asks which ended attempts storage has taken over. `gpus_quarantined` of the agent's GPUs,
    besides those that `attempts` hold, are given to nobody for now, because of what `quarantine` says in a
    sentence. `draining`: the agent is about to stop and takes nothing new."""

    agent_id: AgentId
    session: SessionId
    attempts: tuple[AttemptRef, ...]
    finished: tuple[AttemptRef, ...] = ()
    draining: bool = False
    gpus_quarantined: int = 0
    quarantine: str = ""


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
    stop: Stop = Stop()


@said_on("wake.{pool}")
class Wake(Message, frozen=True):
    """Something may be claimable in this pool."""

    pool: str
