"""Files of jobs, traces and outputs: who may see and store them, and which one is meant."""

import msgspec
from aiohttp import web

from chisel_gateway.calls import ask
from chisel_gateway.jobs import JobDesk
from chisel_gateway.storage import StorageClient
from chisel_shared.contract.errors import BadRequest, Forbidden, NotFound
from chisel_shared.contract.files import FileKind, FileMode, path_fault
from chisel_shared.contract.ids import Digest, JobId, is_digest, is_file_name, is_id
from chisel_shared.contract.messages import (
    FileView,
    GetAttempt,
    Outputs,
    Principal,
)
from chisel_shared.runtime.bus import Bus

_MAX_ATTEMPT = (1 << 31) - 1


class FileDoor:
    """What the gateway does about files; `caller` is who asks."""

    def __init__(self, *, bus: Bus, desk: JobDesk, storage: StorageClient) -> None:
        self._bus = bus
        self._desk = desk
        self._storage = storage

    async def outputs(self, caller: Principal, job_id: str, attempt: int) -> Outputs:
        """What is stored by now, and what will be: after a job's end the rest may still be on its way."""
        job = await self._desk.get(caller, job_id)
        wanted = attempt or job.attempt
        end = job.end
        if end is None or wanted != job.attempt:
            end = None
        found = await self._storage.files(FileKind.OUTPUT, job.id, wanted) if wanted else ()
        return Outputs(
            job_id=job.id,
            attempt=wanted,
            ended=job.end is not None,
            count=end.outputs if end else len(found),
            left_out=end.outputs_left_out if end else "",
            files=found,
        )

    async def output(self, request: web.Request, caller: Principal, attempt: int) -> web.StreamResponse:
        job = await self._desk.get(caller, request.match_info["job"])
        digest, wanted = request.match_info["digest"], attempt or job.attempt
        if not is_digest(digest) or not wanted:
            raise NotFound(f"job {job.id} has no such file; its files are named by their sha256")
        return await self._storage.get_file(request, FileKind.OUTPUT, job.id, wanted, Digest(digest))

    async def put(self, request: web.Request, caller: Principal, attempt: int) -> FileView:
        """Store a file of an attempt that `caller`, an agent, holds or held."""
        job, query = request.match_info["job"], request.query
        try:
            kind, mode = FileKind(request.match_info["kind"]), FileMode(query.get("mode", FileMode.PLAIN))
        except ValueError:
            raise NotFound("a file is a trace or an output: plain, executable or a link") from None
        path = query.get("path", "")
        if not is_id(job) or not attempt:
            raise NotFound("there is no such attempt")
        fault = path_fault(path)
        if fault or (kind is FileKind.TRACE and not is_file_name(path)):
            raise BadRequest(f"{path[:80]!r} {fault or 'is not a plain file name'}")
        asked = GetAttempt(job_id=JobId(job), attempt=min(attempt, _MAX_ATTEMPT))
        found = await ask(self._bus, asked)
        if found.agent_id != caller.id:
            raise Forbidden("this attempt is another agent's")
        stored = await self._storage.put_file(
            request, kind, found.job_id, found.attempt, project_id=found.project_id, path=path, mode=mode
        )
        return msgspec.json.decode(stored, type=FileView)
