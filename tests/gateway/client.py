"""A client of the gateway for the tests: one WebSocket, frames and output told apart."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from typing import TypeVar

import aiohttp

from chisel_shared.contract.frames import (
    OUTPUT_HEADER,
    PROTOCOL,
    STREAM_NUMBERS,
    Accepted,
    Begin,
    BundleMissing,
    ClientFrame,
    End,
    ServerFrame,
    Submit,
    decode_server,
    encode,
)
from chisel_shared.contract.job import JobSpec
from chisel_shared.runtime.output import STREAMS
from tests.support.output import Received, Spool
from tests.support.packs import bundle, sha256

F = TypeVar("F", bound=ServerFrame)

BUNDLE = bundle({}).manifest
SHA256 = sha256(BUNDLE)
SPEC = JobSpec(app_name="demo", argv=("python", "x.py"), gpu="A100-80GB:1", bundle=SHA256)

_NAMES = {number: name for name, number in STREAM_NUMBERS.items()}


class Socket:
    """One open session. `received` holds the output of each attempt."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.received: dict[int, Received] = {}
        self.data: dict[tuple[int, str], list[bytes]] = {}
        self.frames: list[ServerFrame] = []

    async def say(self, frame: ClientFrame) -> None:
        await self.socket.send_str(encode(frame).decode())

    async def next(self) -> ServerFrame | None:
        """The next text frame, None for output, which is checked and counted."""
        message = await self.socket.receive(timeout=10)
        if message.type is aiohttp.WSMsgType.BINARY:
            number, attempt, offset = OUTPUT_HEADER.unpack_from(message.data)
            data = message.data[OUTPUT_HEADER.size :]
            begin = next((f for f in reversed(self.frames) if isinstance(f, Begin)), None)
            if attempt not in self.received and begin is not None and begin.position.attempt == attempt:
                offsets = {"stdout": begin.position.stdout, "stderr": begin.position.stderr}
                self.received[attempt] = Received(offsets)
            self.received.setdefault(attempt, Received()).take(_NAMES[number], offset, data)
            self.data.setdefault((attempt, _NAMES[number]), []).append(data)
            return None
        assert message.type is aiohttp.WSMsgType.TEXT, (message, self.socket.close_code)
        frame = decode_server(message.data)
        self.frames.append(frame)
        return frame

    async def until(self, kind: type[F]) -> F:
        """Read up to the next frame of `kind`."""
        while not isinstance(frame := await self.next(), kind):
            pass
        return frame

    async def end(self) -> End:
        return await self.until(End)


@asynccontextmanager
async def connected(http: aiohttp.ClientSession, url: str = "") -> AsyncIterator[Socket]:
    address = f"{url}/api/v1/session"
    async with http.ws_connect(address, protocols=(PROTOCOL,), max_msg_size=8 << 20) as socket:
        yield Socket(socket)


async def submitted(
    socket: Socket, http: aiohttp.ClientSession, spool: Spool, *, follow: bool = True
) -> None:
    """Submit a job the way a client does; `spool` becomes its output."""
    frame = Submit(spec=SPEC, idempotency_key=f"key-{spool.job_id}", follow=follow)
    await socket.say(frame)
    answer = await socket.next()
    if isinstance(answer, BundleMissing):
        async with http.put(f"/api/v1/bundles/{answer.digest}", data=BytesIO(BUNDLE)) as put:
            assert put.status == 201
        await socket.say(frame)
        answer = await socket.next()
    assert isinstance(answer, Accepted)
    spool.job_id = answer.job.id


def digests(socket: Socket, attempt: int = 1) -> list[str]:
    return [socket.received[attempt].sha256(stream) for stream in STREAMS]


def written(spool: Spool) -> list[str]:
    return [spool.sha256(stream) for stream in STREAMS]
