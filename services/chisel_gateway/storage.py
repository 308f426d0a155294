"""The storage service's bytes: uploads and downloads passed through at the pace of the slower side."""

import asyncio
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlencode

import aiohttp
import msgspec
from aiohttp import web

from chisel_shared.contract.errors import ChiselError, InternalError, Unavailable
from chisel_shared.contract.errors import from_code as error_from_code
from chisel_shared.contract.files import FileKind, FileMode
from chisel_shared.contract.ids import Digest, JobId, ProjectId
from chisel_shared.contract.messages import Files, FileView, TraceView
from chisel_shared.contract.outputs import Marks
from chisel_shared.runtime.http import ErrorReply, body
from chisel_shared.runtime.logs import Log

log = Log("chisel.gateway.storage")

SHA256 = "X-Chisel-Sha256"
_PASSED_ON = ("Content-Length", "Content-Type", "Content-Range", "Accept-Ranges", SHA256)
_PIECE_BYTES = 256 * 1024
_UNPACKED_BYTES = 1 << 20
_GZIP = 16 + zlib.MAX_WBITS


class StorageClient:
    """Storage, as the gateway reaches it."""

    def __init__(self, session: aiohttp.ClientSession, *, url: str, token: str) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"}

    @classmethod
    @asynccontextmanager
    async def connect(cls, *, url: str, token: str) -> AsyncIterator["StorageClient"]:
        """A client with connections of its own."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=3, sock_read=60)
        async with aiohttp.ClientSession(
            timeout=timeout, auto_decompress=False, connector=aiohttp.TCPConnector(limit=256)
        ) as session:
            yield cls(session, url=url, token=token)

    async def ping(self) -> None:
        """`Unavailable` when an upload would fail now."""
        async with self._request("GET", "/ready", timeout=aiohttp.ClientTimeout(total=2)):
            return

    async def put_bundle(self, request: web.Request, project_id: ProjectId, digest: Digest) -> bytes:
        """Pass a manifest on; storage's answer is the caller's."""
        return await self._upload(request, f"/bundles/{project_id}/{digest}")

    async def put_pack(self, request: web.Request, project_id: ProjectId, digest: Digest) -> bytes:
        return await self._upload(request, f"/packs/{project_id}/{digest}")

    async def put_file(
        self, request: web.Request, kind: FileKind, job_id: JobId, attempt: int,
        *, project_id: ProjectId, path: str, mode: FileMode,
    ) -> bytes:  # fmt: skip
        query = urlencode({"path": path, "mode": mode, "project": project_id})
        return await self._upload(request, f"/files/{job_id}/{attempt}/{kind}?{query}")

    async def files(self, kind: FileKind, job_id: JobId, attempt: int) -> tuple[FileView, ...]:
        async with self._request("GET", f"/files/{job_id}/{attempt}/{kind}") as response:
            return msgspec.json.decode(await response.read(), type=Files).files

    async def get_bundle(
        self, request: web.Request, project_id: ProjectId, digest: Digest
    ) -> web.StreamResponse:
        return await self._download(request, f"/bundles/{project_id}/{digest}")

    async def get_pack(
        self, request: web.Request, project_id: ProjectId, digest: Digest
    ) -> web.StreamResponse:
        return await self._download(request, f"/packs/{project_id}/{digest}")

    async def get_file(
        self, request: web.Request, kind: FileKind, job_id: JobId, attempt: int, sha256: Digest
    ) -> web.StreamResponse:
        headers = {"Content-Disposition": f'attachment; filename="{sha256}"'}
        return await self._download(request, f"/files/{job_id}/{attempt}/{kind}/{sha256}", extra=headers)

    async def get_trace(self, request: web.Request, trace: TraceView) -> web.StreamResponse:
        """A stored trace, packed as it is stored for who takes that, and unpacked on its way for others."""
        packed = bool(trace.stored_sha256) and takes_gzip(request.headers.get("Accept-Encoding", ""))
        sha256 = trace.stored_sha256 if packed else trace.sha256
        headers = {
            "Content-Disposition": f'attachment; filename="{trace.name}"',
            "Content-Type": "application/json",
            "ETag": f'"{sha256}"',
            "Vary": "Accept-Encoding",
            SHA256: sha256,
        }
        if request.headers.get("If-None-Match") == headers["ETag"]:
            return web.Response(status=304, headers={"ETag": headers["ETag"]})
        path = f"/files/{trace.job_id}/{trace.attempt}/{FileKind.TRACE}/{trace.stored_sha256 or trace.sha256}"
        if trace.stored_sha256 and not packed:
            return await self._unpack(request, path, trace.size_bytes, headers)
        if packed:
            headers["Content-Encoding"] = "gzip"
        return await self._download(request, path, extra=headers)

    async def trace_bytes(self, job_id: JobId, attempt: int, digest: Digest) -> int:
        """How much of a trace is stored, by the digest of what is sent."""
        async with self._request("HEAD", f"/traces/{job_id}/{attempt}/{digest}") as response:
            return int(response.headers.get("X-Chisel-Have", "0"))

    async def put_trace(
        self, request: web.Request, job_id: JobId, attempt: int, digest: Digest, query: Mapping[str, str]
    ) -> bytes:
        return await self._upload(request, f"/traces/{job_id}/{attempt}/{digest}?{urlencode(query)}")

    async def output(
        self, job_id: JobId, attempt: int, stream: str, offset: int
    ) -> AsyncGenerator[bytes, None]:
        """The archived bytes from `offset` on; `NotFound` when nothing is archived."""
        async with self._request("GET", f"/outputs/{job_id}/{attempt}/{stream}?offset={offset}") as response:
            async for piece in _pieces(response):
                yield piece

    async def last_lines(
        self, job_id: JobId, attempt: int, stream: str, count: int, before: int | None
    ) -> Marks:
        """Where the last lines of what is archived begin; of the bytes below `before`, if given."""
        query = f"lines?count={count}" + (f"&before={before}" if before is not None else "")
        return await self._marks(job_id, attempt, stream, query)

    async def since(self, job_id: JobId, attempt: int, stream: str, time: float) -> Marks:
        """The first archived byte that came at `time` or later; no mark when there is none."""
        return await self._marks(job_id, attempt, stream, f"since?time={max(0.0, time):.6f}")

    async def times(self, job_id: JobId, attempt: int, stream: str, offset: int) -> Marks:
        """When archived bytes from `offset` on came; as many marks as fit."""
        return await self._marks(job_id, attempt, stream, f"times?offset={offset}")

    async def _marks(self, job_id: JobId, attempt: int, stream: str, query: str) -> Marks:
        async with self._request("GET", f"/outputs/{job_id}/{attempt}/{stream}/{query}") as response:
            return msgspec.json.decode(await response.read(), type=Marks)

    async def _upload(self, request: web.Request, path: str) -> bytes:
        headers = {
            name: request.headers[name] for name in ("Content-Length", SHA256) if name in request.headers
        }
        async with self._request("PUT", path, data=body(request), headers=headers) as response:
            return await response.read()

    async def _download(
        self, request: web.Request, path: str, *, extra: Mapping[str, str] | None = None
    ) -> web.StreamResponse:
        headers = {"Range": request.headers["Range"]} if "Range" in request.headers else {}
        if request.headers.get("If-Range", (extra or {}).get("ETag")) != (extra or {}).get("ETag"):
            headers = {}
        async with self._request("GET", path, headers=headers) as stored:
            response = web.StreamResponse(
                status=stored.status,
                headers={name: stored.headers[name] for name in _PASSED_ON if name in stored.headers},
            )
            response.headers.update(extra or {})
            await response.prepare(request)
            async for piece in _pieces(stored):
                await response.write(piece)
            await response.write_eof()
            return response

    async def _unpack(
        self, request: web.Request, path: str, size: int, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        """What is in a gzip file: its length is known, so that a reader notices when it breaks off."""
        async with self._request("GET", path) as stored:
            response = web.StreamResponse(headers=headers)
            response.content_length = size
            await response.prepare(request)
            unpacker = zlib.decompressobj(_GZIP)
            held = b""  # the last piece goes out once the checksum behind it is known to be right
            try:
                async for piece in _pieces(stored):
                    while piece and not unpacker.eof:
                        most = min(_UNPACKED_BYTES, size + 1)
                        data = await asyncio.to_thread(unpacker.decompress, piece, most)
                        size -= len(data)
                        if size < 0:
                            raise zlib.error("more is in it than it says")
                        if data:
                            await response.write(held)
                            held = data
                        piece = unpacker.unconsumed_tail
            except zlib.error as error:
                log.warning("trace_garbled", path=path, error=str(error))
                raise ConnectionResetError("the reader must not take this for the end") from error
            if size or not unpacker.eof:
                raise ConnectionResetError("the reader must not take this for the end")
            await response.write(held)
            await response.write_eof()
            return response

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, **options: object
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A successful answer; every other outcome is an error of the one tree."""
        try:
            async with self._session.request(
                method,
                self._url + path,
                headers={**self._headers, **(headers or {})},
                **options,  # type: ignore[arg-type]
            ) as response:
                if response.status >= 400:
                    raise await _refusal(response)
                yield response
        except (TimeoutError, aiohttp.ClientError) as error:
            if isinstance(error.__cause__, ChiselError):
                raise error.__cause__ from error  # the upload's own sender broke off
            raise Unavailable("the storage service is not answering; try again in a few seconds") from error


def takes_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding header allows gzip."""
    for one in accepted.split(","):
        name, _, weight = one.partition(";")
        if name.strip().lower() == "gzip":
            return weight.replace(" ", "").lower().rstrip("0") not in ("q=", "q=0.")
    return False


async def _pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async for piece in response.content.iter_chunked(_PIECE_BYTES):
        yield piece


async def _refusal(response: aiohttp.ClientResponse) -> ChiselError:
    if response.status == 401:
        return InternalError("storage does not accept this gateway's token")
    try:
        told = msgspec.json.decode(await response.read(), type=ErrorReply).error
    except msgspec.MsgspecError:
        return InternalError(f"storage answered {response.status}")
    return error_from_code(told.code, told.message)
