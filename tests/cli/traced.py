"""The traces of the tests' own gateway: what the job saved, and what storage read off it."""

import gzip
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from chisel_shared.contract.ids import Digest, JobId
from chisel_shared.contract.messages import Traces, TraceView
from chisel_shared.contract.traces import Reading
from chisel_shared.traces.report import Summary
from chisel_shared.traces.sidecar import Sidecar
from tests.cli.script import Script
from tests.cli.stored import refusal

Refused = Callable[[web.Request], web.Response | None]
Send = Callable[[web.Request, bytes, dict[str, str]], Awaitable[web.StreamResponse]]


class TraceShelf:
    """Files are in `script.traces`. `changes` says what is odd about the view of one, `summaries` and
    `sidecars` what there is besides it, `views` which traces have no file, `perfetto` the copy of the UI."""

    def __init__(self, script: Callable[[], Script], refused: Refused, send: Send, job_id: JobId) -> None:
        self._script = script
        self._send = send
        self._refused = refused
        self._job_id = job_id
        self.changes: dict[str, dict[str, Any]] = {}
        self.next: list[dict[str, dict[str, Any]]] = []
        self.summaries: dict[str, Summary] = {}
        self.sidecars: dict[str, Sidecar] = {}
        self.views: list[TraceView] = []
        self.perfetto: dict[str, bytes] = {}

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/api/v1/jobs/{id}/traces", self.list_traces)
        app.router.add_get("/api/v1/jobs/{id}/traces/{name}", self.get_trace)
        app.router.add_get("/api/v1/jobs/{id}/traces/{name}/summary", self.get_summary)
        app.router.add_get("/api/v1/jobs/{id}/traces/{name}/meta", self.get_meta)
        app.router.add_get("/perfetto/{name:.*}", self.get_perfetto)

    async def list_traces(self, request: web.Request) -> web.Response:
        views = self._script().trace_views
        traces = views[0] if views else (*map(self._trace, self._script().traces), *self.views)
        del views[: len(views) > 1]
        if self.next:
            self.changes = self.next.pop(0)
        return self._refused(request) or _json(Traces(traces))

    def _trace(self, name: str) -> TraceView:
        data = self._script().traces[name]
        packed = gzip.compress(data, mtime=0) if self._script().packs_traces else b""
        view = TraceView(
            self._job_id, 1, name, len(data), Digest(hashlib.sha256(data).hexdigest()),
            stored_bytes=len(packed), stored_sha256=hashlib.sha256(packed).hexdigest() if packed else "",
            reading=Reading.DONE if name in self.summaries else Reading.NONE,
        )  # fmt: skip
        return msgspec.structs.replace(view, **self.changes.get(name, {}))

    async def get_trace(self, request: web.Request) -> web.StreamResponse:
        if refused := self._refused(request):
            return refused
        script = self._script()
        headers: dict[str, str] = {}
        data = script.traces[request.match_info["name"]]
        if script.packs_traces and request.headers["Accept-Encoding"] == "gzip":
            data, headers = gzip.compress(data, mtime=0), {"Content-Encoding": "gzip"}
        if script.damage_traces:
            return web.Response(body=data[:-1], headers=headers)
        return await self._send(request, data, headers)

    async def get_summary(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.summaries:
            return self._refused(request) or refusal(
                409, "conflict", f"{name} cannot be read: it is no trace"
            )
        return self._refused(request) or _json(self.summaries[name])

    async def get_meta(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.sidecars:
            return self._refused(request) or refusal(404, "not_found", "nothing was noted")
        return self._refused(request) or _json(self.sidecars[name])

    async def get_perfetto(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.perfetto:
            return refusal(404, "not_found", "there is nothing at this address")
        return web.Response(body=self.perfetto[name], content_type="text/html")


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")
