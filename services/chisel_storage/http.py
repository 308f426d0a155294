"""The inner door: bundles, packs, files of jobs and archived output over HTTP, for the gateway alone.

Bodies stream both ways at the pace of the slower side; the sender of an upload learns the sha256 the
server measured. Errors are the one tree's, as JSON.
"""

import hmac
import re

import aiofiles
from aiohttp import web

from chisel_shared.contract.errors import BadRequest, NotFound, StorageFull, Unauthenticated
from chisel_shared.contract.ids import Digest, ProjectId
from chisel_shared.runtime.http import Handler, as_json, body, guarded
from chisel_shared.runtime.logs import Log
from chisel_shared.runtime.output import STREAMS
from chisel_storage.blobs import BLOCK_BYTES, Blobs
from chisel_storage.bundles import Bundles
from chisel_storage.files import SHA256, FilesHttp, attempt_of
from chisel_storage.marks_http import MarksHttp
from chisel_storage.outputs import DiskOutputs
from chisel_storage.parts import DiskParts
from chisel_storage.parts_http import PartsHttp
from chisel_storage.store import Store
from chisel_storage.traces import TraceDesk

log = Log("chisel.storage.http")

_NUMBER = re.compile(r"[0-9]{1,18}")


class StorageHttp:
    """The routes."""

    def __init__(
        self, *, blobs: Blobs, parts: DiskParts, bundles: Bundles, traces: TraceDesk,
        outputs: DiskOutputs, store: Store, token: str,
    ) -> None:  # fmt: skip
        self._blobs = blobs
        self._parts = parts
        self._traces = traces
        self._bundles = bundles
        self._outputs = outputs
        self._store = store
        self._token = f"Bearer {token}".encode()

    def app(self) -> web.Application:
        app = web.Application(middlewares=[guarded, self._authenticated])
        bundle, pack = "/bundles/{project}/{digest}", "/packs/{project}/{digest}"
        app.router.add_route("GET", "/ready", self.ready)
        app.router.add_route("PUT", bundle, self.put_bundle)
        app.router.add_route("GET", bundle, self.get_bundle)
        app.router.add_route("PUT", pack, self.put_pack)
        app.router.add_route("GET", pack, self.get_pack)
        FilesHttp(blobs=self._blobs, store=self._store, traces=self._traces).add_to(app)
        PartsHttp(parts=self._parts, traces=self._traces).add_to(app)
        app.router.add_route("GET", "/outputs/{job}/{attempt}/{stream}", self.get_output)
        MarksHttp(outputs=self._outputs, store=self._store).add_to(app)
        return app

    @web.middleware
    async def _authenticated(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        said = request.headers.get("Authorization", "").encode(errors="replace")
        if not hmac.compare_digest(said, self._token):
            raise Unauthenticated("this door is the gateway's")
        return await handler(request)

    async def ready(self, request: web.Request) -> web.Response:
        """Whether uploads and downloads would work: the database answers, the disk has room."""
        await self._store.ping()
        if not self._blobs.has_room():
            raise StorageFull
        return as_json({})

    async def put_bundle(self, request: web.Request) -> web.Response:
        blob, missing = await self._bundles.put_manifest(*_content(request), body(request))
        stored = {"digest": blob.sha256, "size_bytes": blob.size_bytes, "missing": missing}
        return as_json(stored, status=202 if missing else 201)

    async def get_bundle(self, request: web.Request) -> web.StreamResponse:
        project, digest = _content(request)
        path = await self._bundles.find_manifest(project, digest)
        return web.FileResponse(path, headers={SHA256: digest, "Content-Type": "application/json"})

    async def put_pack(self, request: web.Request) -> web.Response:
        blob = await self._bundles.put_pack(*_content(request), body(request))
        return as_json({"digest": blob.sha256, "size_bytes": blob.size_bytes}, status=201)

    async def get_pack(self, request: web.Request) -> web.StreamResponse:
        project, digest = _content(request)
        path = await self._bundles.find_pack(project, digest)
        return web.FileResponse(path, headers={SHA256: digest, "Content-Type": "application/gzip"})

    async def get_output(self, request: web.Request) -> web.StreamResponse:
        job, attempt = attempt_of(request)
        stream, start = request.match_info["stream"], request.query.get("offset", "0")
        if stream not in STREAMS or not _NUMBER.fullmatch(start):
            raise BadRequest("output is stdout or stderr, from a number of bytes on")
        offset = int(start)
        end = (await self._store.archived(job, attempt)).offsets()[stream]
        if not end:
            raise NotFound(f"nothing of the {stream} of attempt {attempt} of job {job} is archived")
        left = max(0, end - offset)
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        response.content_length = left
        await response.prepare(request)
        if left:
            async with aiofiles.open(self._outputs.path(job, attempt, stream), "rb") as file:
                await file.seek(offset)
                while left:
                    data = await file.read(min(left, BLOCK_BYTES))
                    if not data:
                        log.error("archive_too_short", job_id=job, attempt=attempt, stream=stream)
                        raise ConnectionResetError("the reader must not take this for the end")
                    await response.write(data)
                    left -= len(data)
        await response.write_eof()
        return response


def _content(request: web.Request) -> tuple[ProjectId, Digest]:
    return ProjectId(request.match_info["project"]), Digest(request.match_info["digest"])
