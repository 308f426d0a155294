"""Quotas and weights over HTTP, for admins. People give names, the scheduler knows ids: auth has both."""

import msgspec
from aiohttp import web

from chisel_gateway.api import PRINCIPAL, read
from chisel_gateway.calls import ask
from chisel_gateway.routes import Route
from chisel_shared.contract.errors import NotFound
from chisel_shared.contract.messages import (
    Done,
    FindOwner,
    ListQuotas,
    Owner,
    Quotas,
    QuotaView,
    RemoveQuota,
    SetQuota,
)
from chisel_shared.runtime.bus import Bus
from chisel_shared.runtime.http import as_json

_ACTION = "accounts:admin"
_KINDS = {"users": "user", "projects": "project"}


class QuotaWish(msgspec.Struct, frozen=True):
    """What is left out stays. `gpus`: the most that may be held at once, null for any number. `weight`: in
    fair share, twice the weight is twice the GPUs; of a project it multiplies that of its users."""

    gpus: int | msgspec.UnsetType | None = msgspec.UNSET
    weight: float | msgspec.UnsetType = msgspec.UNSET


class QuotaDoor:
    """The handlers. `kind` in an address is `users` or `projects`, `name` what auth calls it."""

    def __init__(self, *, bus: Bus) -> None:
        self._bus = bus

    def routes(self) -> tuple[Route, ...]:
        quotas = "/api/v1/quotas"
        return (
            Route(
                "GET",
                quotas,
                _ACTION,
                self.list_quotas,
                "What users and projects may have, hold and have had.",
                reply=Quotas,
            ),
            Route(
                "PUT",
                f"{quotas}/{{kind}}/{{name}}",
                _ACTION,
                self.set_quota,
                "Set the quota or the weight of a user (`users`) or a project (`projects`).",
                body=QuotaWish,
                reply=QuotaView,
            ),
            Route(
                "DELETE",
                f"{quotas}/{{kind}}/{{name}}",
                _ACTION,
                self.remove_quota,
                "Forget what was set for a user (`users`) or a project (`projects`).",
                reply=Done,
            ),
        )

    async def list_quotas(self, request: web.Request) -> web.Response:
        return as_json(await ask(self._bus, ListQuotas()))

    async def set_quota(self, request: web.Request) -> web.Response:
        wish = await read(request, QuotaWish)
        kind, owner = await self._owner(request)
        asked = SetQuota(
            kind=kind,
            id=owner.id,
            name=owner.name,
            set_by=request[PRINCIPAL].name,
            gpus=wish.gpus,
            weight=wish.weight,
        )
        return as_json(await ask(self._bus, asked))

    async def remove_quota(self, request: web.Request) -> web.Response:
        kind, owner = await self._owner(request)
        asked = RemoveQuota(kind=kind, id=owner.id, name=owner.name, removed_by=request[PRINCIPAL].name)
        return as_json(await ask(self._bus, asked))

    async def _owner(self, request: web.Request) -> tuple[str, Owner]:
        kind = _KINDS.get(request.match_info["kind"])
        if kind is None:
            raise NotFound("quotas are of users or of projects")
        name = request.match_info["name"]
        return kind, await ask(self._bus, FindOwner(name=name, is_project=kind == "project"))
