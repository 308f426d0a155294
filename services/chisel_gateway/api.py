"""The HTTP handlers: read the request, ask the service that knows, answer."""

import re
import sys
from collections.abc import Callable
from typing import TypeVar

import msgspec
from aiohttp import web

from chisel_gateway.calls import ask
from chisel_gateway.files import FileDoor
from chisel_gateway.follow import Following
from chisel_gateway.health import Readiness
from chisel_gateway.jobs import JobDesk, checked_digest, project_of
from chisel_gateway.secrets import SecretDoor, SecretsWanted
from chisel_gateway.session import Session
from chisel_gateway.storage import StorageClient
from chisel_shared.contract.errors import BadRequest, NotFound, TooLarge
from chisel_shared.contract.frames import MAX_TEXT_BYTES, PROTOCOL
from chisel_shared.contract.ids import Digest, JobId, ProjectId, is_digest, is_id
from chisel_shared.contract.job import JobSpec
from chisel_shared.contract.messages import (
    JoinAgent,
    ListAgents,
    ListGpus,
    Principal,
)
from chisel_shared.contract.stops import Stop
from chisel_shared.runtime.bus import Bus
from chisel_shared.runtime.http import as_json
from chisel_shared.runtime.logs import Log
from chisel_shared.runtime.output import STREAMS

log = Log("chisel.gateway.api")

PRINCIPAL = web.RequestKey("principal", Principal)
TOKEN = web.RequestKey("token", str)

_HEARTBEAT_SECONDS = 20.0
_CLOSE_SECONDS = 2.0
_NUMBER = re.compile(r"[0-9]{1,18}")

T = TypeVar("T")


class Health(msgspec.Struct, frozen=True):
    """`away` names what does not answer; the bus also when its server (NATS) has stopped storing, storage
    also when it has no room for uploads."""

    ok: bool
    away: tuple[str, ...] = ()


class CancelWish(msgspec.Struct, frozen=True):
    """How a job is to end; all of it may be left out. `reason` is shown with the job's end."""

    signal: str = "INT"
    grace_seconds: float | None = None
    reason: str = ""


class BundleStored(msgspec.Struct, frozen=True):
    """`missing` are the packs that are still to be stored before the bundle can be used."""

    digest: Digest
    size_bytes: int
    missing: tuple[Digest, ...] = ()


class PackStored(msgspec.Struct, frozen=True):
    digest: Digest
    size_bytes: int


class Api:
    """Every handler; `routes.py` says which address leads to which."""

    join_body = JoinAgent

    def __init__(
        self, *, bus: Bus, desk: JobDesk, following: Following, storage: StorageClient,
        readiness: Readiness, describe: Callable[[], bytes],
    ) -> None:  # fmt: skip
        self._bus = bus
        self._desk = desk
        self._following = following
        self._storage = storage
        self._readiness = readiness
        self._describe = describe
        self._files = FileDoor(bus=bus, desk=desk, storage=storage)
        self._secrets = SecretDoor(bus=bus)
        self._sockets: set[web.WebSocketResponse] = set()

    async def health(self, request: web.Request) -> web.Response:
        return as_json(Health(ok=True))

    async def ready(self, request: web.Request) -> web.Response:
        away = await self._readiness.away()
        return as_json(Health(ok=not away, away=away), status=503 if away else 200)

    async def openapi(self, request: web.Request) -> web.Response:
        return web.Response(body=self._describe(), content_type="application/json")

    async def session(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(
            protocols=(PROTOCOL,),
            heartbeat=_HEARTBEAT_SECONDS,
            timeout=_CLOSE_SECONDS,
            max_msg_size=MAX_TEXT_BYTES,
            compress=False,
        )
        offered = request.headers.get("Sec-WebSocket-Protocol", "")
        if PROTOCOL not in [name.strip() for name in offered.split(",")] or not socket.can_prepare(request):
            raise BadRequest(f"this address takes WebSockets that offer the subprotocol {PROTOCOL}")
        await socket.prepare(request)
        self._sockets.add(socket)
        try:
            await Session(
                socket=socket,
                token=request[TOKEN],
                bus=self._bus,
                desk=self._desk,
                following=self._following,
                secrets=self._secrets,
            ).run()
        finally:
            self._sockets.discard(socket)
        return socket

    def sockets(self) -> tuple[web.WebSocketResponse, ...]:
        """Those open now."""
        return tuple(self._sockets)

    async def has_bundle(self, request: web.Request) -> web.Response:
        digest = request.match_info["digest"]
        if not (await self._desk.has_bundle(request[PRINCIPAL], digest)).present:
            raise NotFound(f"there is no bundle {digest} in this project")
        return web.Response()

    async def put_bundle(self, request: web.Request) -> web.Response:
        digest = checked_digest(request.match_info["digest"])
        answer = await self._storage.put_bundle(request, project_of(request[PRINCIPAL]), digest)
        stored = msgspec.json.decode(answer, type=BundleStored)
        return as_json(stored, status=202 if stored.missing else 201)

    async def put_pack(self, request: web.Request) -> web.Response:
        digest = checked_digest(request.match_info["digest"])
        stored = await self._storage.put_pack(request, project_of(request[PRINCIPAL]), digest)
        return as_json(msgspec.json.decode(stored, type=PackStored), status=201)

    async def submit(self, request: web.Request) -> web.Response:
        spec = await read(request, JobSpec)
        caller = request[PRINCIPAL]
        if not (await self._desk.has_bundle(caller, spec.bundle)).present:
            raise NotFound(
                f"bundle {spec.bundle} is not stored yet: PUT its manifest to /api/v1/bundles/ and the packs"
                " that are missing to /api/v1/packs/ first"
            )
        await self._secrets.require(caller, spec.secrets)
        submitted = await self._desk.submit(caller, spec, request.headers.get("Idempotency-Key", ""))
        log.info("accepted", job_id=submitted.job.id, created=submitted.created)
        return as_json(submitted, status=201 if submitted.created else 200)

    async def list_jobs(self, request: web.Request) -> web.Response:
        unfinished = request.query.get("unfinished", "").lower() in ("1", "true", "yes")
        limit = number(request, "limit", 50)
        return as_json(await self._desk.list(request[PRINCIPAL], unfinished=unfinished, limit=limit))

    async def get_job(self, request: web.Request) -> web.Response:
        return as_json(await self._desk.get(request[PRINCIPAL], request.match_info["job"]))

    async def cancel(self, request: web.Request) -> web.Response:
        wish = CancelWish()
        if request.can_read_body:
            wish = await read(request, CancelWish)
        stop = Stop(signal=wish.signal, grace_seconds=wish.grace_seconds)
        job = request.match_info["job"]
        return as_json(await self._desk.cancel(request[PRINCIPAL], job, stop=stop, reason=wish.reason))

    async def rerun(self, request: web.Request) -> web.Response:
        key = request.headers.get("Idempotency-Key", "")
        submitted = await self._desk.rerun(request[PRINCIPAL], request.match_info["job"], key)
        log.info("accepted", job_id=submitted.job.id, created=submitted.created)
        return as_json(submitted, status=201 if submitted.created else 200)

    async def why(self, request: web.Request) -> web.Response:
        return as_json(await self._desk.why(request[PRINCIPAL], request.match_info["job"]))

    async def list_gpus(self, request: web.Request) -> web.Response:
        return as_json(await ask(self._bus, ListGpus()))

    async def output(self, request: web.Request) -> web.StreamResponse:
        stream = request.match_info["stream"]
        if stream not in STREAMS:
            raise NotFound("a job's output is stdout and stderr")
        offset = number(request, "offset", 0)
        job = await self._desk.get(request[PRINCIPAL], request.match_info["job"])
        attempt = number(request, "attempt", job.attempt)
        if attempt > job.attempt:
            raise NotFound(f"job {job.id} has no attempt {attempt}")
        response = web.StreamResponse(
            headers={"Content-Type": "application/octet-stream", "X-Chisel-Attempt": str(attempt)}
        )
        end = await self._following.certain_end(job, attempt) if attempt else None
        if end is not None:
            # An announced length tells the reader when bytes of an ended job are not stored yet.
            total = end.stdout_bytes if stream == "stdout" else end.stderr_bytes
            response.content_length = left = max(0, total - offset)
        await response.prepare(request)
        if attempt:
            offsets = {name: offset if name == stream else sys.maxsize for name in STREAMS}
            copied = await self._following.copy_stored(job, attempt, offsets, response.write)
            if end is not None and copied < left:
                raise ConnectionResetError("not all of the output is stored yet")
        await response.write_eof()
        return response

    async def list_files(self, request: web.Request) -> web.Response:
        job, attempt = request.match_info["job"], number(request, "attempt", 0)
        return as_json(await self._files.outputs(request[PRINCIPAL], job, attempt))

    async def get_file(self, request: web.Request) -> web.StreamResponse:
        return await self._files.output(request, request[PRINCIPAL], number(request, "attempt", 0))

    async def list_agents(self, request: web.Request) -> web.Response:
        return as_json(await ask(self._bus, ListAgents()))

    async def put_secret(self, request: web.Request) -> web.Response:
        name, value = request.match_info["name"], await request.read()
        return as_json(await self._secrets.put(request[PRINCIPAL], name, value))

    async def list_secrets(self, request: web.Request) -> web.Response:
        return as_json(await self._secrets.list(request[PRINCIPAL]))

    async def remove_secret(self, request: web.Request) -> web.Response:
        return as_json(await self._secrets.remove(request[PRINCIPAL], request.match_info["name"]))

    async def join(self, request: web.Request) -> web.Response:
        # Asked once: a repeated question would make a second agent.
        return as_json(await self._bus.request(await read(request, JoinAgent)))

    async def agent_bundle(self, request: web.Request) -> web.StreamResponse:
        return await self._storage.get_bundle(request, *_content(request))

    async def agent_pack(self, request: web.Request) -> web.StreamResponse:
        return await self._storage.get_pack(request, *_content(request))

    async def agent_file(self, request: web.Request) -> web.Response:
        number = request.match_info["attempt"]
        attempt = int(number) if _NUMBER.fullmatch(number) else 0
        return as_json(await self._files.put(request, request[PRINCIPAL], attempt), status=201)

    async def agent_secrets(self, request: web.Request) -> web.Response:
        job, number = request.match_info["job"], request.match_info["attempt"]
        if not is_id(job) or not _NUMBER.fullmatch(number):
            raise NotFound("there is no such attempt")
        wanted = await read(request, SecretsWanted)
        found = await self._secrets.of_attempt(
            request[PRINCIPAL], wanted.session, JobId(job), min(int(number), (1 << 31) - 1)
        )
        return as_json(found, headers={"Cache-Control": "no-store"})


def _content(request: web.Request) -> tuple[ProjectId, Digest]:
    project, digest = request.match_info["project"], request.match_info["digest"]
    if not is_id(project) or not is_digest(digest):
        raise NotFound("there is no such bundle or pack")
    return ProjectId(project), Digest(digest)


async def read(request: web.Request, kind: type[T]) -> T:
    """The body as a `kind`; `BadRequest` says what is wrong with it."""
    if (request.content_length or 0) > MAX_TEXT_BYTES:
        raise TooLarge(f"the body may have at most {MAX_TEXT_BYTES} bytes")
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise BadRequest(f"the body is not what this address takes: {error}") from error
    except web.RequestPayloadError as error:
        raise BadRequest("the body was cut off") from error


def number(request: web.Request, name: str, default: int) -> int:
    """A number of the query; `BadRequest` when it is none."""
    text = request.query.get(name)
    if text is None:
        return default
    if not _NUMBER.fullmatch(text):
        raise BadRequest(f"{name} must be a number")
    return int(text)
