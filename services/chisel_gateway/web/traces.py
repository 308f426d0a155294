"""The page of a trace: what was read off it, and its timeline in this server's own copy of Perfetto.

The pages are clients of the same handlers that answer the command line; a browser's session may read, and
nothing else. The summary needs no JavaScript. The timeline is a page of its own, framed by the first.
"""

from collections.abc import Awaitable, Callable
from html import escape
from urllib.parse import quote

import msgspec
from aiohttp import web

from chisel_gateway.api import PRINCIPAL
from chisel_gateway.calls import ask
from chisel_gateway.routes import Route
from chisel_gateway.traces import TraceDoor
from chisel_gateway.web import trace_view
from chisel_gateway.web.forms import Forms
from chisel_gateway.web.html import wide_page
from chisel_gateway.web.pages import alert
from chisel_shared import perfetto, perfetto_page
from chisel_shared.contract.errors import ChiselError, Conflict, NotFound, Unauthenticated
from chisel_shared.contract.messages import Authorize, Traces
from chisel_shared.runtime.bus import Bus
from chisel_shared.runtime.http import Handler, failure
from chisel_shared.traces.report import Summary

_ACTION = "traces:read"
_MOST_SESSION_CHARS = 512


class TracePages:
    """`copy` is None where an operator has no copy of the UI: then there is no timeline."""

    def __init__(self, *, bus: Bus, forms: Forms, traces: TraceDoor, copy: perfetto.Copy | None) -> None:
        self._bus = bus
        self._forms = forms
        self._traces = traces
        self._copy = copy

    def routes(self) -> tuple[Route, ...]:
        """Open to all as far as the table is concerned; each handler asks auth for the browser's session."""
        trace = "/jobs/{job}/traces/{name}"
        return (
            Route("GET", trace, None, self._known(self.trace), "What a trace says.", page=True),
            Route("GET", f"{trace}/timeline", None, self._known(self.timeline), "A trace.", page=True),
            Route("GET", f"{trace}/file", None, self._known(self.file), "A trace's file.", page=True),
            Route("GET", "/perfetto/{path:.*}", None, self.perfetto, "The Perfetto UI.", page=True),
        )

    async def trace(self, request: web.Request) -> web.StreamResponse:
        job, name = request.match_info["job"], request.match_info["name"]
        told = await self._traces.list_traces(request)
        assert isinstance(told.body, bytes)
        others = [one for one in msgspec.json.decode(told.body, type=Traces).traces if one.name != name]
        try:
            answer = await self._traces.get_trace_summary(request)
            assert isinstance(answer.body, bytes)
            found = msgspec.json.decode(answer.body, type=Summary)
            content = trace_view.summary(found, job=job, name=name, timeline=self._copy is not None)
        except Conflict as error:  # nothing is stored, or it cannot be read; a file that is can be seen
            content = f"<h1>{escape(name)}</h1>{alert(str(error))}"
        shown = content + trace_view.others(others)
        return wide_page(name, shown, style=trace_view.STYLE)

    async def timeline(self, request: web.Request) -> web.StreamResponse:
        if self._copy is None:
            raise NotFound("this server has no copy of the Perfetto UI; chisel trace open shows the trace")
        # Relative, because a proxy may serve us below a path.
        text, headers = perfetto_page.page(
            ui=f"../../../..{perfetto.PATH}{perfetto.ROUTE}",
            trace="file",
            name=request.match_info["name"],
            ancestors="'self'",
        )
        return web.Response(text=text, headers=headers)

    async def file(self, request: web.Request) -> web.StreamResponse:
        return await self._traces.get_trace(request)

    async def perfetto(self, request: web.Request) -> web.StreamResponse:
        """A file of the copy; anybody may have it."""
        asset = self._copy.asset(request.match_info["path"]) if self._copy is not None else None
        if asset is None:
            return failure(NotFound("there is nothing at this address"))
        return web.FileResponse(asset.path, headers=asset.headers)

    def _known(self, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Handler:
        """`handler` for whoever is signed in; who is not may sign in first and comes back."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            session = self._forms.session(request)
            try:
                if not session or len(session) > _MOST_SESSION_CHARS:
                    raise Unauthenticated
                request[PRINCIPAL] = await ask(self._bus, Authorize(token=session, action=_ACTION))
                return await handler(request)
            except Unauthenticated:
                up = "../" * (request.path.count("/") - 1)
                where = f"{up}login?next={quote(request.path.lstrip('/'))}"
                return web.Response(status=303, headers={"Location": where, "Cache-Control": "no-store"})
            except ChiselError as error:
                content = f"<h1>That did not work</h1>{alert(str(error))}"
                return wide_page("Problem", content, style=trace_view.STYLE, status=error.http_status)

        return guarded
