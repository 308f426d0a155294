"""The inner door for traces that come packed, and go on where they broke: asked for what is here of one,
given the rest."""

import re

from aiohttp import web

from chisel_shared.contract.errors import BadRequest
from chisel_shared.contract.files import MAX_BYTES, FileKind, FileMode
from chisel_shared.contract.ids import Digest, ProjectId, is_digest, is_file_name, is_id
from chisel_shared.contract.messages import FileView
from chisel_shared.runtime.failpoints import failpoint
from chisel_shared.runtime.http import as_json, body
from chisel_shared.runtime.logs import Log
from chisel_storage.blobs import file_key
from chisel_storage.files import attempt_of
from chisel_storage.parts import DiskParts, Promised
from chisel_storage.trace_store import StoredTrace
from chisel_storage.traces import TraceDesk

log = Log("chisel.storage.parts")

HAVE = "X-Chisel-Have"

_NUMBER = re.compile(r"[0-9]{1,18}")


class PartsHttp:
    """The routes."""

    def __init__(self, *, parts: DiskParts, traces: TraceDesk) -> None:
        self._parts = parts
        self._traces = traces

    def add_to(self, app: web.Application) -> None:
        address = "/traces/{job}/{attempt}/{digest}"
        app.router.add_route("HEAD", address, self.have)
        app.router.add_route("PUT", address, self.put)

    async def have(self, request: web.Request) -> web.Response:
        """How many bytes of it are here, all of them once it is whole."""
        return web.Response(headers={HAVE: str(self._parts.size(_key(request)))})

    async def put(self, request: web.Request) -> web.Response:
        """Put the body behind the first `offset` bytes. Once that is all `size` bytes of it, it is the trace
        `name`: as it is, or as the gzip file of the trace that has `raw_size` and `raw_sha256`."""
        job, attempt = attempt_of(request)
        key, query = _key(request), request.query
        name, project = query.get("name", ""), ProjectId(query.get("project", ""))
        if not is_file_name(name) or not is_id(project):
            raise BadRequest(f"{name[:80]!r} needs a plain file name and a project")
        offset, size = _number(request, "offset"), _number(request, "size")
        raw_sha256 = query.get("raw_sha256", "")
        if raw_sha256 and not is_digest(raw_sha256):
            raise BadRequest("raw_sha256 must be a sha256 in lower-case hexadecimal digits")
        raw = (_number(request, "raw_size"), Digest(raw_sha256)) if raw_sha256 else None
        digest = Digest(request.match_info["digest"])
        trace = StoredTrace(job_id=job, attempt=attempt, name=name, size_bytes=size, sha256=digest, raw=raw)
        if not await self._traces.has(trace):
            promised = Promised(size=size, sha256=digest, raw=raw)
            await self._parts.take(
                key, body(request), offset=offset, promised=promised, limit_bytes=MAX_BYTES[FileKind.TRACE]
            )
            failpoint("upload.published")
            await self._traces.put(trace, project)
            failpoint("upload.recorded")
            log.info("trace_stored", job_id=job, attempt=attempt, size_bytes=size, packed=bool(raw))
        stored = FileView(
            job_id=job, attempt=attempt, path=name, mode=FileMode.PLAIN, size_bytes=size, sha256=digest
        )
        return as_json(stored, status=201)


def _key(request: web.Request) -> str:
    job, attempt = attempt_of(request)
    return file_key(FileKind.TRACE, job, attempt, Digest(request.match_info["digest"]))


def _number(request: web.Request, name: str) -> int:
    text = request.query.get(name, "")
    if not _NUMBER.fullmatch(text):
        raise BadRequest(f"{name} must be a number of bytes")
    return int(text)
