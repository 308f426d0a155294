"""Storage as an agent sees it, in memory: it takes traces in parts and hears of captures."""

import gzip
import hashlib
from collections.abc import Callable

from aiohttp import web

from chisel_shared.contract.errors import Unavailable
from chisel_shared.contract.messages import AttemptRef, Capture, Done, ReportCaptures
from chisel_shared.contract.traces import TraceState
from chisel_shared.runtime.bus import Bus


class FakeTraces:
    """`kept` are traces as they were before they were packed, `parts` what came of others. A number in
    `cuts` makes the next upload break after so many bytes."""

    def __init__(self, check: Callable[[web.Request], None]) -> None:
        self._check = check
        self.kept: dict[tuple[str, int, str], bytes] = {}
        self.parts: dict[str, bytes] = {}
        self.cuts: list[int] = []
        self.offsets: list[int] = []
        """Where each upload began."""
        self.packed: list[bool] = []

    def add_to(self, app: web.Application) -> None:
        address = "/api/v1/agent/traces/{job}/{attempt}/{digest}"
        app.router.add_head(address, self._have)
        app.router.add_put(address, self._put)

    async def _have(self, request: web.Request) -> web.Response:
        self._check(request)
        return web.Response(
            headers={"X-Chisel-Have": str(len(self.parts.get(request.match_info["digest"], b"")))}
        )

    async def _put(self, request: web.Request) -> web.Response:
        self._check(request)
        where, query = request.match_info, request.query
        digest, offset = where["digest"], int(query["offset"])
        self.offsets.append(offset)
        data = self.parts.get(digest, b"")
        assert offset <= len(data)
        data = data[:offset]
        most = self.cuts.pop(0) if self.cuts else None
        async for piece in request.content.iter_any():
            data += piece
            if most is not None and len(data) - offset >= most:
                self.parts[digest] = data[: offset + most]
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
        self.parts[digest] = data
        assert len(data) == int(query["size"])
        if hashlib.sha256(data).hexdigest() != digest:
            del self.parts[digest]
            return web.json_response(
                {"error": {"code": "bad_request", "message": "another file"}}, status=400
            )
        raw = data
        if "raw_sha256" in query:
            raw = gzip.decompress(data)
            assert (len(raw), hashlib.sha256(raw).hexdigest()) == (
                int(query["raw_size"]),
                query["raw_sha256"],
            )
        self.packed.append("raw_sha256" in query)
        self.kept[where["job"], int(where["attempt"]), query["name"]] = raw
        return web.Response(status=201)


class FakeStorage:
    """Every report it heard, and what it makes of them: the newest of each capture."""

    def __init__(self) -> None:
        self.away = False
        self.reports: list[ReportCaptures] = []
        self.captures: dict[tuple[AttemptRef, str], Capture] = {}
        self.sidecars: dict[str, bytes] = {}

    async def serve(self, bus: Bus) -> None:
        await bus.serve(ReportCaptures, self._report)

    def state(self, ref: AttemptRef, name: str) -> TraceState | None:
        found = self.captures.get((ref, name))
        return found.state if found else None

    async def _report(self, told: ReportCaptures) -> Done:
        if self.away:
            raise Unavailable
        assert all(told.number > before.number for before in self.reports)
        self.reports.append(told)
        for one in told.captures:
            self.captures[AttemptRef(told.job_id, told.attempt), one.name] = one
            if one.sidecar:
                self.sidecars[one.name] = one.sidecar
        return Done()
