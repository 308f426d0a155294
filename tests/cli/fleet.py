"""The agents of the tests' own gateway: they stand as the test says, and do what they are told."""

import json
from collections.abc import Callable

import msgspec
from aiohttp import web

from chisel_shared.contract.ids import AgentId
from chisel_shared.contract.messages import Agents, AgentView, Cordon
from tests.cli.stored import refusal

Denied = Callable[[web.Request], web.Response | None]


def agent(name: str, **changes: object) -> AgentView:
    """An agent of eight GPUs, of which all are free."""
    view = AgentView(
        id=AgentId(f"3k9x{name.replace('-', '')}"), name=name, pool="default", gpu_model="A100-80GB",
        gpus_total=8, gpus_free=8, state="online", last_seen=1000.0,
    )  # fmt: skip
    return msgspec.structs.replace(view, **changes)


class FleetDesk:
    """`next` are the views that follow, one for each time the list is asked for; then it stays."""

    def __init__(self, denied: Denied) -> None:
        self._denied = denied
        self.agents: list[AgentView] = []
        self.next: list[AgentView | None] = []
        self.wishes: list[tuple[str, str, object]] = []
        self.forbidden = False

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/api/v1/agents", self.list_agents)
        app.router.add_post("/api/v1/agents/{agent}/{verb}", self.wish)

    async def list_agents(self, request: web.Request) -> web.Response:
        if self.next:
            following = self.next.pop(0)
            self.agents = [] if following is None else [following]
        body = msgspec.json.encode(Agents(agents=tuple(self.agents)))
        return self._denied(request) or web.Response(body=body, content_type="application/json")

    async def wish(self, request: web.Request) -> web.Response:
        denied = self._denied(request)
        if denied is not None:
            return denied
        if self.forbidden:
            return refusal(403, "forbidden", "this key may not do 'agents:admin'")
        name, verb = request.match_info["agent"], request.match_info["verb"]
        body = await request.read()
        self.wishes.append((name, verb, json.loads(body) if body else None))
        for number, view in enumerate(self.agents):
            if name in (view.id, view.name):
                self.agents[number] = changed = _wished(view, verb)
                return web.Response(body=msgspec.json.encode(changed), content_type="application/json")
        return refusal(404, "not_found", f"there is no agent '{name}': chisel admin agents ls")


def _wished(view: AgentView, verb: str) -> AgentView:
    if verb == "uncordon":
        return msgspec.structs.replace(view, state="online", cordon=None)
    drain = verb == "drain"
    state = ("draining" if view.jobs else "drained") if drain else "cordoned"
    return msgspec.structs.replace(view, state=state, cordon=Cordon(by="ada", since=1000.0, drain=drain))
