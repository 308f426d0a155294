"""What admins ask of the scheduler about users' and projects' quotas and weights."""

import msgspec

from chisel_shared.contract.subjects import Done, Request, said_on


class QuotaView(msgspec.Struct, frozen=True):
    """What a user or a project may have, holds and has had. `kind`: `user` or `project`. `gpus`: the most
    it may hold at once; None for any number. `gpu_hours` are those of the past, of which older ones count
    less and less."""

    kind: str
    name: str
    gpus: int | None
    weight: float
    gpus_held: int = 0
    gpu_hours: float = 0.0


class Quotas(msgspec.Struct, frozen=True):
    quotas: tuple[QuotaView, ...]


@said_on("rpc.quotas.list")
class ListQuotas(Request[Quotas], frozen=True):
    """Everybody for whom an admin has set something, and every user who has had GPUs, by kind and name."""


@said_on("rpc.quotas.set")
class SetQuota(Request[QuotaView], frozen=True):
    """Set how many GPUs a user or project may hold, None for any number, or what it weighs in fair share,
    or both; what is left out stays. What runs goes on. `BadRequest` says which value is impossible."""

    kind: str
    id: str
    name: str
    set_by: str
    gpus: int | msgspec.UnsetType | None = msgspec.UNSET
    weight: float | msgspec.UnsetType = msgspec.UNSET


@said_on("rpc.quotas.remove")
class RemoveQuota(Request[Done], frozen=True):
    """Forget what was set: any number of GPUs, weight 1. `NotFound` when nothing was."""

    kind: str
    id: str
    name: str
    removed_by: str
