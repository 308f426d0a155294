"""Whole files under names made of ids and digests. A user's words never become a path.

A blob appears whole or not at all: written aside on the same file system while its sha256 is taken,
synced, renamed, and its folder synced. Where objects live elsewhere than on a disk, that is another
implementation of `Blobs`.
"""

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from chisel_shared.contract.errors import BadRequest, NotFound, StorageFull, TooLarge
from chisel_shared.contract.files import FileKind
from chisel_shared.contract.ids import Digest, JobId, ProjectId, is_digest, is_id, new_id
from chisel_shared.runtime.disk import no_space, room
from chisel_shared.runtime.threads import on_thread

BLOCK_BYTES = 1 << 20
"""How much is written at a time: below that, handing work to a thread costs more than the work."""

NO_ROOM = "the server has no space left for uploads: ask its operator to make room, then try again"
_FOLDERS = {FileKind.TRACE: "traces", FileKind.OUTPUT: "files"}


@dataclass(frozen=True, slots=True)
class Blob:
    """What was stored, as measured by the server."""

    sha256: Digest
    size_bytes: int


class Blobs(Protocol):
    """Where blobs live."""

    async def put(
        self, key: str, body: AsyncIterable[bytes], *, limit_bytes: int, sha256: Digest | None = None
    ) -> Blob:
        """Store `body` under `key`, durable when this returns; a body that breaks off leaves nothing.

        `BadRequest` when it does not have the promised `sha256`, `TooLarge`, `StorageFull`.
        """

    def has_room(self) -> bool:
        """Whether `put` would be taken now, if it is not too large."""

    def find(self, key: str) -> Path | None:
        """The file of `key`, None when there is none."""


def bundle_key(project_id: ProjectId, digest: Digest) -> str:
    """Where a project keeps a bundle; `NotFound` for anything that cannot be one's name."""
    if not is_id(project_id) or not is_digest(digest):
        raise NotFound("there is no such bundle: its name is a sha256 in lower-case hexadecimal digits")
    return f"bundles/{project_id}/{digest[:2]}/{digest}"


def pack_key(project_id: ProjectId, digest: Digest) -> str:
    """Where a project keeps a pack; `NotFound` for anything that cannot be one's name."""
    if not is_id(project_id) or not is_digest(digest):
        raise NotFound("there is no such pack: its name is a sha256 in lower-case hexadecimal digits")
    return f"packs/{project_id}/{digest[:2]}/{digest}"


def file_key(kind: FileKind, job_id: JobId, attempt: int, sha256: Digest) -> str:
    """Where a file's content lies; its name, which a user chose, is known to the database alone."""
    if not is_id(job_id) or attempt < 1 or not is_digest(sha256):
        raise NotFound("there is no such file")
    return f"{_FOLDERS[kind]}/{job_id}/{attempt}/{sha256}"


class DiskBlobs:
    """Blobs below one folder of one file system, of which they leave `reserve_bytes` free."""

    def __init__(self, root: Path, *, reserve_bytes: int = 0) -> None:
        self._root = root
        self._reserve_bytes = reserve_bytes
        self._aside = root / "incoming"

    def prepare(self) -> None:
        """Make the folders, and drop what uploads left behind that a crash cut off."""
        shutil.rmtree(self._aside, ignore_errors=True)
        self._aside.mkdir(parents=True)

    def has_room(self) -> bool:
        return not room(self._root).is_short_of(self._reserve_bytes)

    def find(self, key: str) -> Path | None:
        path = self._root / key
        return path if path.is_file() else None

    async def put(
        self, key: str, body: AsyncIterable[bytes], *, limit_bytes: int, sha256: Digest | None = None
    ) -> Blob:
        arriving = _Arriving(self._aside / new_id(20))
        try:
            async for block in in_blocks(body):
                if arriving.size + len(block) > limit_bytes:
                    raise TooLarge(f"the server takes at most {limit_bytes:,} bytes here")
                if not self.has_room():
                    raise StorageFull(NO_ROOM)
                await on_thread(arriving.write, block)
            if sha256 is not None and arriving.sha256 != sha256:
                raise BadRequest(f"what arrived has the sha256 {arriving.sha256}, not {sha256}")
            await on_thread(arriving.publish, self._root / key)
            return Blob(arriving.sha256, arriving.size)
        except OSError as error:
            if no_space(error):
                raise StorageFull(NO_ROOM) from error
            raise
        finally:
            await asyncio.shield(asyncio.to_thread(arriving.discard))

    def adopt(self, path: Path, descriptor: int, key: str) -> None:
        """Make a whole file of this file system, open at `descriptor`, the blob of `key`."""
        publish(path, descriptor, self._root / key)


def publish(path: Path, descriptor: int, target: Path) -> None:
    """Give a file that is written its name, durable when this returns."""
    os.fsync(descriptor)
    make_folder(target.parent)
    path.rename(target)
    sync_folder(target.parent)


class _Arriving:
    """A file being written aside. Every method blocks on the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> Digest:
        return Digest(self._hash.hexdigest())

    def _open(self) -> int:
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        return self._descriptor

    def write(self, block: bytes) -> None:
        self._hash.update(block)
        self.size += len(block)
        write_all(self._open(), block)

    def publish(self, target: Path) -> None:
        publish(self._path, self._open(), target)

    def discard(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        self._path.unlink(missing_ok=True)


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte: the kernel may take fewer at a time, and takes a part before it is full."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def make_folder(folder: Path) -> None:
    """Create `folder` so that it survives a power cut: its name is synced in the folder above."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def in_blocks(body: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces of about `BLOCK_BYTES`."""
    pieces: list[bytes] = []
    size = 0
    async for piece in body:
        pieces.append(piece)
        size += len(piece)
        if size >= BLOCK_BYTES:
            yield b"".join(pieces)
            pieces, size = [], 0
    yield b"".join(pieces)
