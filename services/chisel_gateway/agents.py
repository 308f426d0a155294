"""Agents over HTTP, for those who operate them."""

import msgspec
from aiohttp import web

from chisel_gateway.api import PRINCIPAL, read
from chisel_gateway.calls import ask
from chisel_gateway.routes import Route
from chisel_shared.contract.messages import (
    AgentView,
    CordonAgent,
    DrainAgent,
    Principal,
    UncordonAgent,
)
from chisel_shared.runtime.bus import Bus
from chisel_shared.runtime.http import as_json

_ACTION = "agents:admin"


class CordonWish(msgspec.Struct, frozen=True):
    """Why an agent is to be given nothing new; it may be left out, and then an earlier reason stays."""

    reason: str = ""


class DrainWish(msgspec.Struct, frozen=True):
    """The same, and when what still runs is ended, in seconds from now; without it nothing is."""

    reason: str = ""
    deadline_seconds: float | None = None


class AgentDoor:
    """The handlers. `agent` in an address is a name, an id or the beginning of an id."""

    def __init__(self, *, bus: Bus) -> None:
        self._bus = bus

    def routes(self) -> tuple[Route, ...]:
        agent = "/api/v1/agents/{agent}"
        return (
            Route(
                "POST",
                f"{agent}/cordon",
                _ACTION,
                self.cordon_agent,
                "Give an agent no new jobs; what runs on it goes on.",
                body=CordonWish,
                body_required=False,
                reply=AgentView,
            ),
            Route(
                "POST",
                f"{agent}/drain",
                _ACTION,
                self.drain_agent,
                "Give an agent no new jobs, and end what still runs on it at a deadline, if there is one.",
                body=DrainWish,
                body_required=False,
                reply=AgentView,
            ),
            Route(
                "POST",
                f"{agent}/uncordon",
                _ACTION,
                self.uncordon_agent,
                "Give an agent jobs again.",
                reply=AgentView,
            ),
        )

    async def cordon_agent(self, request: web.Request) -> web.Response:
        wish = await read(request, CordonWish) if request.can_read_body else CordonWish()
        asked = CordonAgent(agent=_named(request), requested_by=_who(request[PRINCIPAL]), reason=wish.reason)
        return as_json(await ask(self._bus, asked))

    async def drain_agent(self, request: web.Request) -> web.Response:
        wish = await read(request, DrainWish) if request.can_read_body else DrainWish()
        asked = DrainAgent(
            agent=_named(request),
            requested_by=_who(request[PRINCIPAL]),
            reason=wish.reason,
            deadline_seconds=wish.deadline_seconds,
        )
        return as_json(await ask(self._bus, asked))

    async def uncordon_agent(self, request: web.Request) -> web.Response:
        asked = UncordonAgent(agent=_named(request), requested_by=_who(request[PRINCIPAL]))
        return as_json(await ask(self._bus, asked))


def _named(request: web.Request) -> str:
    return request.match_info["agent"]


def _who(caller: Principal) -> str:
    return caller.name or caller.id
