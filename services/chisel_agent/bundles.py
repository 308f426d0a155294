"""The cache of bundles: manifests and packs, each downloaded once, verified, kept while there is room."""

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from chisel_agent.gateway import CorruptDownload
from chisel_shared.contract.errors import ChiselError
from chisel_shared.contract.ids import Digest, ProjectId, is_digest, is_id
from chisel_shared.contract.manifest import Manifest, decode
from chisel_shared.runtime.logs import Log

log = Log("chisel.agent.bundles")

_RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)
_CORRUPT_TRIES = 3


T = TypeVar("T")


class BundleSource(Protocol):
    async def fetch_bundle(self, project: ProjectId, digest: Digest, into: Path) -> int: ...

    async def fetch_pack(self, project: ProjectId, digest: Digest, into: Path) -> int: ...


Fetch = Callable[[ProjectId, Digest, Path], Awaitable[int]]


class Bundles:
    """On this machine's disk, in one folder per project: knowing a digest is not owning it."""

    def __init__(self, *, folder: Path, source: BundleSource, max_bytes: int) -> None:
        self._folder = folder
        self._source = source
        self._max_bytes = max_bytes
        self._fetching: dict[Path, asyncio.Lock] = {}

    def sweep(self) -> None:
        """Remove what an earlier agent was downloading when it died."""
        for path in self._folder.glob("*/*.part"):
            path.unlink(missing_ok=True)

    async def manifest(self, project: ProjectId, digest: Digest) -> Manifest:
        """A bundle's manifest, checked; `UserError` or `CorruptDownload` as for `pack`."""
        with await self._open(self._source.fetch_bundle, project, digest) as file:
            return await asyncio.to_thread(lambda: decode(file.read()))

    async def pack(self, project: ProjectId, digest: Digest) -> BinaryIO:
        """A pack, downloaded if need be, however long the gateway is away. Open, it stays readable
        although its place may be given to others at any moment.

        `NotFound` or another `UserError` when it cannot be had, `CorruptDownload` when it arrives
        damaged again and again.
        """
        return await self._open(self._source.fetch_pack, project, digest)

    async def _open(self, fetch: Fetch, project: ProjectId, digest: Digest) -> BinaryIO:
        if not is_id(project) or not is_digest(digest):
            raise ValueError("a project id or a digest has a form that is never given out")
        path = self._folder / project / digest
        if not _touch(path):
            async with self._fetching.setdefault(path, asyncio.Lock()):
                if not _touch(path):
                    await self._fetch(fetch, project, digest, path)
            self._fetching.pop(path, None)
        return path.open("rb")

    async def _fetch(self, fetch: Fetch, project: ProjectId, digest: Digest, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        corrupt = 0
        while True:
            part = path.with_name(f"{digest}.{secrets.token_hex(4)}.part")
            try:
                size = await retrying(
                    lambda part=part: fetch(project, digest, part),  # type: ignore[misc]
                    what="bundle",
                    cleanup=lambda part=part: part.unlink(missing_ok=True),  # type: ignore[misc]
                )
                part.rename(path)
                break
            except CorruptDownload as error:
                corrupt += 1
                log.warning("download_damaged", digest=digest, tries=corrupt)
                if corrupt == _CORRUPT_TRIES:
                    raise error
            finally:
                part.unlink(missing_ok=True)
        log.info("fetched", digest=digest, size_bytes=size)
        self._make_room(path)

    def _make_room(self, newest: Path) -> None:
        """Remove what was unused for longest until the rest fits. One in use stays readable: whoever
        unpacks it has it open."""
        found = []
        for path in self._folder.glob("*/*"):
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue
            if path.suffix != ".part":
                found.append((stat.st_mtime_ns, stat.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self._max_bytes:
                return
            if path != newest:
                path.unlink(missing_ok=True)
                total -= size


def _touch(path: Path) -> bool:
    """Mark `path` as used now; False when it is not there."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


async def retrying(work: Callable[[], Awaitable[T]], *, what: str, cleanup: Callable[[], object]) -> T:
    """`work()`, again while it fails in a way that may pass; `cleanup()` before each new try."""
    tries = 0
    while True:
        try:
            return await work()
        except ChiselError as error:
            if not error.retryable:
                raise
            delay = _RETRY_SECONDS[min(tries, len(_RETRY_SECONDS) - 1)]
            tries += 1
            if tries == 1 or tries % 30 == 0:
                log.warning("gateway_cannot", wanted=what, tries=tries, error=str(error))
        cleanup()
        await asyncio.sleep(delay)
