"""The application: the table of routes behind two middlewares, errors outermost, then the one check of
who is calling, which every address passes that the table does not open, known or not."""

from aiohttp import web

from chisel_gateway.api import PRINCIPAL, TOKEN
from chisel_gateway.calls import ask
from chisel_gateway.routes import Route
from chisel_shared.contract.errors import Unauthenticated
from chisel_shared.contract.frames import MAX_TEXT_BYTES
from chisel_shared.contract.messages import Authorize
from chisel_shared.runtime.bus import Bus
from chisel_shared.runtime.http import Handler, guarded

_UNKNOWN_ADDRESS = "jobs:read"
"""What it takes to be told that an address does not exist."""
_MAX_TOKEN_CHARS = 512


def application(*, routes: tuple[Route, ...], bus: Bus) -> web.Application:
    """The routes, guarded."""
    by_handler = {route.handler: route for route in routes}

    @web.middleware
    async def authorized(request: web.Request, handler: Handler) -> web.StreamResponse:
        route = by_handler.get(request.match_info.handler)
        action = route.action if route else _UNKNOWN_ADDRESS
        if action is not None:
            request[TOKEN] = token = bearer(request.headers.get("Authorization", ""))
            request[PRINCIPAL] = await ask(bus, Authorize(token=token, action=action))
        return await handler(request)

    app = web.Application(middlewares=[guarded, authorized], client_max_size=MAX_TEXT_BYTES)
    for route in routes:
        app.router.add_route(route.method, route.path, route.handler)
    return app


def bearer(header: str) -> str:
    """The token of an `Authorization` header; `Unauthenticated` when it has none."""
    scheme, _, token = header.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("an API key is needed: send it as `Authorization: Bearer <key>`")
    if len(token) > _MAX_TOKEN_CHARS or not token.isascii() or not token.isprintable():
        raise Unauthenticated
    return token
