"""What users ask of the scheduler about the queue and the GPUs."""

import msgspec

from chisel_shared.contract.ids import ProjectId, UserId
from chisel_shared.contract.job import JobSpec, JobView
from chisel_shared.contract.subjects import Request, said_on


class Neighbour(msgspec.Struct, frozen=True):
    """Another job, as whoever waits behind it may know it. Of another project only who runs it, what it
    takes and since when: its `id` and `app_name` are empty."""

    id: str
    app_name: str
    user: str
    gpu: str
    since: float
    where: str = ""
    ends_by: float | None = None
    """When its time limit ends it at the latest; None without one."""


class Why(msgspec.Struct, frozen=True):
    """Why a job is where it is. `position` counts from 1 among the jobs that wait for the same GPUs; None
    when the job does not wait, when a quota holds it back, or when so many are ahead that nobody counts
    them. `waiting` is what it waits for, empty when an agent is about to take it."""

    job: JobView
    position: int | None = None
    waiting: str = ""
    ahead: tuple[Neighbour, ...] = ()
    """Those that go first, in their order; the first of them when there are many."""
    holding: tuple[Neighbour, ...] = ()
    """Those that hold GPUs of the kind it waits for, longest first."""


@said_on("rpc.jobs.why")
class WhyJob(Request[Why], frozen=True):
    """Where a job stands in the queue and what it waits for. `NotFound` as for `GetJob`."""

    project_id: ProjectId
    job_id: str
    asked_by: UserId = UserId("")


@said_on("rpc.jobs.spec")
class GetSpec(Request[JobSpec], frozen=True):
    """What a job was submitted with, to submit it again. `NotFound` as for `GetJob`."""

    project_id: ProjectId
    job_id: str
    asked_by: UserId = UserId("")


class GpuKind(msgspec.Struct, frozen=True):
    """All GPUs of one model. `total` and `free` count those of agents that take jobs; of `total`,
    `quarantined` are given to nobody for now. `away` are those of agents that are cordoned, stopping or out
    of contact. `largest_free` is the largest number that one machine has free: the largest job that would
    start now. `queued` jobs wait for this model."""

    model: str
    total: int
    free: int
    largest_free: int
    largest: int
    agents: int
    away: int = 0
    queued: int = 0
    quarantined: int = 0


class Gpus(msgspec.Struct, frozen=True):
    kinds: tuple[GpuKind, ...]


@said_on("rpc.jobs.gpus")
class ListGpus(Request[Gpus], frozen=True):
    """What GPUs there are and how many are free, by model."""
