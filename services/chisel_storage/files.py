"""The inner door for files of jobs, traces and outputs alike: each stored whole, found by its sha256.

A file's own path stands in the query and in the database, never in an address or on the disk.
"""

import re

from aiohttp import web

from chisel_shared.contract.errors import BadRequest, NotFound
from chisel_shared.contract.files import MAX_BYTES, FileKind, FileMode, path_fault
from chisel_shared.contract.ids import Digest, JobId, ProjectId, is_digest, is_file_name, is_id
from chisel_shared.contract.messages import Files, FileView
from chisel_shared.runtime.http import as_json, body
from chisel_shared.runtime.logs import Log
from chisel_storage.blobs import Blobs, file_key
from chisel_storage.store import Store
from chisel_storage.trace_store import StoredTrace
from chisel_storage.traces import TraceDesk

log = Log("chisel.storage.files")

SHA256 = "X-Chisel-Sha256"

_NUMBER = re.compile(r"[0-9]{1,18}")


class FilesHttp:
    """The routes."""

    def __init__(self, *, blobs: Blobs, store: Store, traces: TraceDesk) -> None:
        self._blobs = blobs
        self._store = store
        self._traces = traces

    def add_to(self, app: web.Application) -> None:
        folder = "/files/{job}/{attempt}/{kind}"
        app.router.add_route("PUT", folder, self.put)
        app.router.add_route("GET", folder, self.list)
        app.router.add_route("GET", folder + "/{digest}", self.get)

    async def put(self, request: web.Request) -> web.Response:
        """Store the body as the file `path`. Of two uploads the later counts: an agent repeats what it
        is not sure of."""
        job, attempt = attempt_of(request)
        kind, query = kind_of(request), request.query
        path, project = query.get("path", ""), ProjectId(query.get("project", ""))
        digest = Digest(request.headers.get(SHA256, ""))
        try:
            mode = FileMode(query.get("mode", FileMode.PLAIN))
        except ValueError:
            raise BadRequest("a file is plain, executable or a link") from None
        fault = path_fault(path)
        if fault or (kind is FileKind.TRACE and not is_file_name(path)) or not is_id(project):
            raise BadRequest(f"{path[:80]!r} {fault or 'needs a plain file name and a project'}")
        if not is_digest(digest):
            raise BadRequest(f"{SHA256} must be the file's sha256 in lower-case hexadecimal digits")
        key = file_key(kind, job, attempt, digest)
        blob = await self._blobs.put(key, body(request), limit_bytes=MAX_BYTES[kind], sha256=digest)
        file = FileView(
            job_id=job, attempt=attempt, path=path, mode=mode, size_bytes=blob.size_bytes, sha256=blob.sha256
        )
        if kind is FileKind.TRACE:
            stored = StoredTrace(
                job_id=job, attempt=attempt, name=path, size_bytes=blob.size_bytes, sha256=blob.sha256
            )
            await self._traces.put(stored, project)
        else:
            await self._store.put_file(file, kind, project)
        log.info("file_stored", job_id=job, attempt=attempt, kind=kind, size_bytes=blob.size_bytes)
        return as_json(file, status=201)

    async def list(self, request: web.Request) -> web.Response:
        return as_json(Files(files=await self._store.files(*attempt_of(request), kind_of(request))))

    async def get(self, request: web.Request) -> web.StreamResponse:
        job, attempt = attempt_of(request)
        digest = Digest(request.match_info["digest"])
        found = self._blobs.find(file_key(kind_of(request), job, attempt, digest))
        if found is None:
            raise NotFound(f"attempt {attempt} of job {job} has no such file")
        return web.FileResponse(found, headers={SHA256: digest, "Content-Type": "application/octet-stream"})


def kind_of(request: web.Request) -> FileKind:
    try:
        return FileKind(request.match_info["kind"])
    except ValueError:
        raise NotFound("files of a job are traces and outputs") from None


def attempt_of(request: web.Request) -> tuple[JobId, int]:
    """The attempt an address names; `NotFound` when it cannot be one's."""
    job, attempt = request.match_info["job"], request.match_info["attempt"]
    if not is_id(job) or not _NUMBER.fullmatch(attempt) or not 1 <= int(attempt) < 1 << 31:
        raise NotFound("there is no such attempt")
    return JobId(job), int(attempt)
