"""The agent's HTTP side: joining, fetching bundles, storing files of jobs, all through the gateway."""

import asyncio
import hashlib
from pathlib import Path

import aiohttp
import msgspec

from chisel_agent.outgoing import Outgoing, OutgoingTrace
from chisel_shared.contract.errors import ChiselError, InternalError, Unavailable, from_code
from chisel_shared.contract.ids import Digest, ProjectId, SessionId
from chisel_shared.contract.messages import AgentCredentials, AttemptRef
from chisel_shared.runtime.logs import Log

log = Log("chisel.agent.gateway")

_PIECE_BYTES = 1 << 20
_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=5, sock_connect=5, sock_read=30)


class CorruptDownload(Exception):
    """The bytes that came are not those that were named."""


class Gateway:
    """One gateway. Every method raises the error tree; `Unavailable` means that trying again may help."""

    def __init__(self, *, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url.rstrip("/") + "/api/v1"
        self._session = session
        self._headers: dict[str, str] = {}

    def authenticate(self, key: str) -> None:
        self._headers = {"Authorization": f"Bearer {key}"}

    async def join(self, *, token: str, name: str) -> AgentCredentials:
        try:
            async with self._session.post(
                f"{self._url}/agents/join", json={"token": token, "name": name}, timeout=_TIMEOUT
            ) as answer:
                await _refuse(answer)
                return msgspec.json.decode(await answer.read(), type=AgentCredentials)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"the gateway does not answer: {error!r}") from error

    async def fetch_bundle(self, project: ProjectId, digest: Digest, into: Path) -> int:
        """Download a bundle's manifest, as `fetch_pack` does a pack."""
        return await self._fetch(f"/agent/bundles/{project}/{digest}", digest, into)

    async def fetch_pack(self, project: ProjectId, digest: Digest, into: Path) -> int:
        """Download a pack to the new file `into`; returns its size. `CorruptDownload` when the bytes
        do not have the digest, `OSError` when the disk refuses them."""
        return await self._fetch(f"/agent/packs/{project}/{digest}", digest, into)

    async def _fetch(self, path: str, digest: Digest, into: Path) -> int:
        sha256 = hashlib.sha256()
        size = 0
        try:
            async with self._session.get(
                f"{self._url}{path}", headers=self._headers, timeout=_TIMEOUT
            ) as answer:
                await _refuse(answer)
                with into.open("xb") as file:
                    async for piece in answer.content.iter_chunked(_PIECE_BYTES):
                        sha256.update(piece)
                        size += len(piece)
                        await asyncio.to_thread(file.write, piece)
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise Unavailable(f"the gateway does not answer: {error!r}") from error
        if sha256.hexdigest() != digest:
            raise CorruptDownload(f"part {digest} of the bundle arrived damaged")
        return size

    async def store_file(self, ref: AttemptRef, file: Outgoing) -> None:
        """Upload one file of an attempt."""
        headers = self._headers | {
            "X-Chisel-Sha256": file.digest,
            "Content-Length": str(file.size),
            "Content-Type": "application/octet-stream",
        }
        try:
            async with self._session.put(
                f"{self._url}/agent/files/{ref.job_id}/{ref.attempt}/{file.kind}",
                params={"path": file.path, "mode": file.mode},
                data=file.pieces(),
                headers=headers,
                timeout=_TIMEOUT,
            ) as answer:
                await _refuse(answer)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"the gateway does not answer: {error!r}") from error

    async def trace_bytes(self, ref: AttemptRef, trace: OutgoingTrace) -> int:
        """How much of a trace of an attempt is stored; all of it once it is whole."""
        try:
            async with self._session.head(
                self._trace_url(ref, trace), headers=self._headers, timeout=_TIMEOUT
            ) as answer:
                await _refuse(answer)
                return min(trace.size, int(answer.headers.get("X-Chisel-Have", "0")))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"the gateway does not answer: {error!r}") from error

    async def store_trace(self, ref: AttemptRef, trace: OutgoingTrace, offset: int) -> None:
        """Upload a trace from `offset` on. `Unavailable` when it is to be asked again how much is there."""
        query = {"name": trace.name, "offset": str(offset), "size": str(trace.size)}
        if trace.raw is not None:
            query |= {"raw_size": str(trace.raw[0]), "raw_sha256": trace.raw[1]}
        headers = self._headers | {
            "Content-Length": str(trace.size - offset),
            "Content-Type": "application/octet-stream",
        }
        try:
            async with self._session.put(
                self._trace_url(ref, trace),
                params=query,
                data=trace.pieces(offset) if offset < trace.size else b"",
                headers=headers,
                timeout=_TIMEOUT,
            ) as answer:
                await _refuse(answer)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"the gateway does not answer: {error!r}") from error

    def _trace_url(self, ref: AttemptRef, trace: OutgoingTrace) -> str:
        return f"{self._url}/agent/traces/{ref.job_id}/{ref.attempt}/{trace.digest}"

    async def open_secrets(self, ref: AttemptRef, session: SessionId) -> dict[str, bytes]:
        """The secrets of an attempt that this session holds, by variable."""
        try:
            async with self._session.post(
                f"{self._url}/agent/secrets/{ref.job_id}/{ref.attempt}",
                json={"session": session},
                headers=self._headers,
                timeout=_TIMEOUT,
            ) as answer:
                await _refuse(answer)
                return msgspec.json.decode(await answer.read(), type=_Secrets).variables
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"the gateway does not answer: {error!r}") from error


async def _refuse(answer: aiohttp.ClientResponse) -> None:
    """Raise what an answer that is not 2xx means."""
    if answer.status < 400:
        return
    body = await answer.content.read(64 * 1024)
    raise _error_of(answer.status, body)


class _Secrets(msgspec.Struct):
    variables: dict[str, bytes]


class _Problem(msgspec.Struct):
    code: str = ""
    message: str = ""


class _Body(msgspec.Struct):
    error: _Problem


def _error_of(status: int, body: bytes) -> ChiselError:
    try:
        problem = msgspec.json.decode(body, type=_Body).error
        error = from_code(problem.code, problem.message)
    except msgspec.MsgspecError:
        error = InternalError(f"the gateway answered {status}")
    # Whatever a 5xx says about itself, the next try may meet a healthier server.
    if status >= 500 and not error.retryable:
        return Unavailable(str(error))
    return error
