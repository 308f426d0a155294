"""One WebSocket: what its client asks, one frame after the other, and the one job it follows.

Reading never waits for answering, so pongs and the client's close are noticed whatever goes on; a
client that does not read is waited for, with nothing queued up for it but what the socket holds.
"""

import asyncio

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from chisel_gateway.calls import SUBMIT_PATIENCE_SECONDS, ask, beside
from chisel_gateway.follow import Following
from chisel_gateway.jobs import JobDesk, checked_follow, project_of
from chisel_gateway.secrets import SecretDoor
from chisel_shared.contract.errors import BadRequest, ChiselError, Conflict, InternalError
from chisel_shared.contract.frames import (
    OUTPUT_HEADER,
    STREAM_NUMBERS,
    Accepted,
    BundleMissing,
    Cancel,
    ClientFrame,
    Failure,
    Follow,
    List,
    Listing,
    ServerFrame,
    Submit,
    Update,
    decode_client,
    encode,
)
from chisel_shared.contract.job import JobView
from chisel_shared.contract.messages import Authorize, Principal
from chisel_shared.runtime.bus import Bus
from chisel_shared.runtime.logs import Log
from chisel_shared.runtime.streams import Chunk

log = Log("chisel.gateway.session")

_FRAMES_WAITING = 16
"""A client waits for answers; one with more questions than this open is none of ours."""

_ACTIONS: dict[type[ClientFrame], str] = {
    Submit: "jobs:submit",
    Follow: "jobs:read",
    Cancel: "jobs:cancel",
    List: "jobs:read",
}


class Session:
    """Serves one open socket. Every frame is authorized anew: a key may have been revoked meanwhile."""

    def __init__(
        self,
        *,
        socket: web.WebSocketResponse,
        token: str,
        bus: Bus,
        desk: JobDesk,
        following: Following,
        secrets: SecretDoor,
    ) -> None:
        self._socket = socket
        self._token = token
        self._bus = bus
        self._desk = desk
        self._following = following
        self._secrets = secrets
        self._follows = False

    async def run(self) -> None:
        """Until the socket is closed by either side."""
        frames: asyncio.Queue[str] = asyncio.Queue(_FRAMES_WAITING)
        try:
            async with beside(self._serve(frames), name="session"):
                async for message in self._socket:
                    if message.type is not WSMsgType.TEXT:
                        await self._socket.close(code=WSCloseCode.UNSUPPORTED_DATA)
                    elif frames.full():
                        await self._socket.close(code=WSCloseCode.POLICY_VIOLATION)
                    else:
                        frames.put_nowait(message.data)
        except ConnectionError as error:
            log.debug("socket_lost", error=repr(error))

    async def send(self, frame: ServerFrame) -> None:
        await self._socket.send_str(encode(frame).decode())

    async def send_output(self, attempt: int, chunk: Chunk) -> None:
        header = OUTPUT_HEADER.pack(STREAM_NUMBERS[chunk.stream], attempt, chunk.offset)
        await self._socket.send_bytes(header + chunk.data)

    async def _serve(self, frames: asyncio.Queue[str]) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                payload = await frames.get()
                try:
                    await self._answer(payload, group)
                except ChiselError as error:
                    await self._refuse(error)

    async def _answer(self, payload: str, group: asyncio.TaskGroup) -> None:
        try:
            frame = decode_client(payload)
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise BadRequest(f"that is not a frame of this protocol: {error}") from error
        caller = await ask(self._bus, Authorize(token=self._token, action=_ACTIONS[type(frame)]))
        match frame:
            case Submit():
                await self._submit(frame, caller, group)
            case Follow():
                self._expect_no_follow()
                job = await self._desk.get(caller, checked_follow(frame).job_id)
                await self.send(Update(job=job))
                self._start_follow(job, caller, frame, group)
            case Cancel():
                await self.send(Update(job=await self._desk.cancel(caller, frame.job_id)))
            case List():
                found = await self._desk.list(caller, unfinished=frame.unfinished, limit=frame.limit)
                await self.send(Listing(jobs=found.jobs))

    async def _submit(self, frame: Submit, caller: Principal, group: asyncio.TaskGroup) -> None:
        if frame.follow:
            self._expect_no_follow()
        bundle, patience = frame.spec.bundle, SUBMIT_PATIENCE_SECONDS
        await self._secrets.require(caller, frame.spec.secrets, patience_seconds=patience)
        found = await self._desk.has_bundle(caller, bundle, patience_seconds=patience)
        if not found.present:
            await self.send(
                BundleMissing(digest=bundle, max_bytes=found.max_bytes, max_entries=found.max_entries)
            )
            return
        submitted = await self._desk.submit(
            caller, frame.spec, frame.idempotency_key, patience_seconds=patience
        )
        log.info("accepted", job_id=submitted.job.id, created=submitted.created)
        await self.send(Accepted(job=submitted.job))
        if frame.follow:
            self._start_follow(submitted.job, caller, Follow(job_id=submitted.job.id), group)

    def _expect_no_follow(self) -> None:
        if self._follows:
            raise Conflict("this connection follows a job already: open another")

    def _start_follow(
        self, job: JobView, caller: Principal, wanted: Follow, group: asyncio.TaskGroup
    ) -> None:
        self._follows = True
        group.create_task(self._follow(job, caller, wanted), name=f"follow {job.id}")

    async def _follow(self, job: JobView, caller: Principal, wanted: Follow) -> None:
        try:
            await self._following.follow(job, project_of(caller), wanted, self)
        except ChiselError as error:
            await self._refuse(error)
        finally:
            self._follows = False

    async def _refuse(self, error: ChiselError) -> None:
        if isinstance(error, InternalError):
            log.error("frame_failed", error=str(error))
        await self.send(Failure(code=type(error).code or InternalError.code, message=str(error)))
