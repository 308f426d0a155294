"""Traces over HTTP: what became of each, the files, and what was read off them; and how agents store them."""

import re

import msgspec
from aiohttp import web

from chisel_gateway.api import PRINCIPAL, number
from chisel_gateway.calls import ask
from chisel_gateway.jobs import JobDesk
from chisel_gateway.routes import ATTEMPT, Parameter, Route
from chisel_gateway.storage import StorageClient
from chisel_shared.contract.errors import BadRequest, Conflict, Forbidden, NotFound
from chisel_shared.contract.ids import Digest, JobId, is_digest, is_file_name, is_id
from chisel_shared.contract.job import EndReason, JobEnd
from chisel_shared.contract.messages import (
    FileView,
    GetAttempt,
    GetTraceFacts,
    ListTraces,
    Principal,
    Traces,
    TraceView,
)
from chisel_shared.contract.traces import STORED, Reading, TraceState
from chisel_shared.runtime.bus import Bus
from chisel_shared.runtime.http import as_json
from chisel_shared.traces.report import Summary
from chisel_shared.traces.sidecar import Sidecar

HAVE = "X-Chisel-Have"

_MAX_ATTEMPT = (1 << 31) - 1
_NUMBER = re.compile(r"[0-9]{1,18}")
_BYTES = "application/octet-stream"
_UNFINISHED = (TraceState.RECORDING, TraceState.UPLOADING)
_GONE = (EndReason.AGENT_LOST, EndReason.LEASE_EXPIRED)
_ENCODING = Parameter(
    "Accept-Encoding",
    {"type": "string"},
    "With `gzip` the trace comes as it is stored, and parts of it by `Range`.",
    place="header",
)


def _bytes(name: str, description: str, *, required: bool = True) -> Parameter:
    return Parameter(name, {"type": "integer", "minimum": 0}, description, required=required)


_PUT = (
    Parameter("name", {"type": "string"}, "The trace's file name.", required=True),
    _bytes("offset", "Behind how many bytes the body goes."),
    _bytes("size", "How many bytes it has when it is whole."),
    _bytes("raw_size", "Of a gzip file, how many bytes are in it.", required=False),
    Parameter("raw_sha256", {"type": "string"}, "Of a gzip file, the sha256 of what is in it."),
)


class TraceDoor:
    """The handlers."""

    def __init__(self, *, bus: Bus, desk: JobDesk, storage: StorageClient) -> None:
        self._bus = bus
        self._desk = desk
        self._storage = storage

    def routes(self) -> tuple[Route, ...]:
        traces, action = "/api/v1/jobs/{job}/traces", "traces:read"
        trace, stored = f"{traces}/{{name}}", "/api/v1/agent/traces/{job}/{attempt}/{digest}"
        return (
            Route(
                "GET",
                traces,
                action,
                self.list_traces,
                "The traces of a job: recorded, on their way, stored or lost.",
                reply=Traces,
            ),
            Route(
                "GET",
                trace,
                action,
                self.get_trace,
                "One trace, in Chrome's trace format.",
                reply="application/json",
                parameters=(ATTEMPT, _ENCODING),
            ),
            Route(
                "GET",
                f"{trace}/summary",
                action,
                self.get_trace_summary,
                "What was read off a trace when it was stored.",
                reply=Summary,
                parameters=(ATTEMPT,),
            ),
            Route(
                "GET",
                f"{trace}/meta",
                action,
                self.get_trace_meta,
                "What the capture noted beside a trace.",
                reply=Sidecar,
                parameters=(ATTEMPT,),
            ),
            Route(
                "HEAD",
                stored,
                "agent:work",
                self.agent_trace_bytes,
                "For agents: how much is here (`X-Chisel-Have`) of a trace, by the sha256 of what is sent.",
            ),
            Route(
                "PUT",
                stored,
                "agent:work",
                self.agent_trace,
                "For agents: store a trace of an attempt of theirs, or the rest of one.",
                body=_BYTES,
                reply=FileView,
                status=201,
                parameters=_PUT,
            ),
        )

    async def list_traces(self, request: web.Request) -> web.Response:
        return as_json(Traces(traces=await self._traces(request)))

    async def get_trace(self, request: web.Request) -> web.StreamResponse:
        trace = await self._named(request)
        if trace.state not in STORED:
            raise Conflict(not_stored(trace))
        return await self._storage.get_trace(request, trace)

    async def get_trace_summary(self, request: web.Request) -> web.Response:
        trace = await self._named(request)
        if trace.state not in STORED:
            raise Conflict(not_stored(trace))
        asked = GetTraceFacts(job_id=trace.job_id, attempt=trace.attempt, name=trace.name)
        summary = (await ask(self._bus, asked)).summary
        if not summary:
            raise Conflict(not_read(trace))
        return web.Response(body=summary, content_type="application/json")

    async def get_trace_meta(self, request: web.Request) -> web.Response:
        trace = await self._named(request)
        asked = GetTraceFacts(job_id=trace.job_id, attempt=trace.attempt, name=trace.name)
        sidecar = (await ask(self._bus, asked)).sidecar
        if not sidecar:
            raise NotFound(f"nothing was noted beside {trace.name}")
        return web.Response(body=sidecar, content_type="application/json")

    async def agent_trace_bytes(self, request: web.Request) -> web.Response:
        job, attempt, digest, _ = await self._own(request)
        stored = await self._storage.trace_bytes(job, attempt, digest)
        return web.Response(headers={HAVE: str(stored)})

    async def agent_trace(self, request: web.Request) -> web.Response:
        job, attempt, digest, project = await self._own(request)
        query = {name: request.query[name] for name in request.query if name in _TOLD}
        if not is_file_name(query.get("name", "")):
            raise BadRequest(f"{query.get('name', '')[:80]!r} is not a plain file name")
        stored = await self._storage.put_trace(request, job, attempt, digest, {**query, "project": project})
        return as_json(msgspec.json.decode(stored, type=FileView), status=201)

    async def _own(self, request: web.Request) -> tuple[JobId, int, Digest, str]:
        """What an agent names, once it is known to be of an attempt that it holds or held."""
        where = request.match_info
        job, text, digest = where["job"], where["attempt"], where["digest"]
        if not is_id(job) or not _NUMBER.fullmatch(text) or not is_digest(digest):
            raise NotFound("there is no such attempt, or no such trace")
        asked = GetAttempt(job_id=JobId(job), attempt=min(int(text), _MAX_ATTEMPT))
        found = await ask(self._bus, asked)
        caller: Principal = request[PRINCIPAL]
        if found.agent_id != caller.id:
            raise Forbidden("this attempt is another agent's")
        return found.job_id, found.attempt, Digest(digest), found.project_id

    async def _traces(self, request: web.Request) -> tuple[TraceView, ...]:
        job = await self._desk.get(request[PRINCIPAL], request.match_info["job"])
        found = (await ask(self._bus, ListTraces(job_id=job.id))).traces
        # Whoever was to tell the end of these may be gone: the end of their attempt tells it too.
        ends: dict[int, JobEnd | None] = {}
        for trace in found:
            if trace.state in _UNFINISHED and trace.attempt not in ends:
                asked = GetAttempt(job_id=job.id, attempt=trace.attempt)
                ends[trace.attempt] = (await ask(self._bus, asked)).end
        return tuple(after(trace, ends.get(trace.attempt)) for trace in found)

    async def _named(self, request: web.Request) -> TraceView:
        """The newest of this name that is stored; else the newest."""
        name, attempt = request.match_info["name"], number(request, "attempt", 0)
        named = [
            trace
            for trace in await self._traces(request)
            if trace.name == name and attempt in (0, trace.attempt)
        ]
        if not named:
            raise NotFound(f"job {request.match_info['job']} has no trace {name[:80]!r}")
        return max(named, key=lambda trace: (trace.state in STORED, trace.attempt))


_TOLD = frozenset(parameter.name for parameter in _PUT)


def after(trace: TraceView, end: JobEnd | None) -> TraceView:
    """A trace, given how its attempt has ended: nothing is recorded any more, and an agent that is lost
    sends nothing."""
    if end is None or trace.state not in _UNFINISHED:
        return trace
    if trace.state is TraceState.RECORDING:
        return msgspec.structs.replace(
            trace, state=TraceState.LOST, reason="the job ended while it was recorded"
        )
    # An agent that tells of late ones lives: its job's shim alone was killed.
    if end.reason in _GONE and not end.traces_late:
        reason = "its agent was lost before it was uploaded"
        return msgspec.structs.replace(trace, state=TraceState.LOST, reason=reason)
    return trace


def not_stored(trace: TraceView) -> str:
    """Why a trace cannot be had, in a sentence."""
    match trace.state:
        case TraceState.LOST:
            return f"{trace.name} is lost: {trace.reason or 'nobody knows why'}"
        case TraceState.UPLOADING if trace.total_bytes:
            percent = 100 * trace.sent_bytes // trace.total_bytes
            return f"{trace.name} is uploading, {percent} % of it is here: ask again in a while"
        case state:
            return f"{trace.name} is {state}: ask again in a while"


def not_read(trace: TraceView) -> str:
    """Why a trace that is stored has no summary, in a sentence."""
    if trace.reading is Reading.FAILED:
        return f"{trace.name} has no summary: {trace.reason}"
    return f"{trace.name} is stored and will be read in a moment: ask again"
