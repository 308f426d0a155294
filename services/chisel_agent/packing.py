"""Traces as they travel: packed with gzip beside the job's folder, or as they are where there is no room.

What is packed is noted, so that the next agent sends that very file on, and goes when it is acknowledged.
"""

import asyncio
import hashlib
import os
import secrets
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from chisel_agent.capture_folder import CaptureFolder
from chisel_agent.records import write_all, write_aside
from chisel_agent.settled import Mark
from chisel_shared.contract.files import MAX_BYTES, FileKind
from chisel_shared.contract.ids import Digest
from chisel_shared.runtime.disk import no_space, room
from chisel_shared.runtime.failpoints import failpoint
from chisel_shared.runtime.logs import Log
from chisel_shared.runtime.threads import on_thread

log = Log("chisel.agent.packing")

_STEP_BYTES = 4 << 20
"""What is packed at a time, on a thread: a job's end can interrupt between two."""
_SEND_BYTES = 1 << 20
_LEVEL = 1
"""A twelfth of the size of usual traces at twice the speed of the default level, which gets an eighteenth."""
_GZIP = 16 + zlib.MAX_WBITS

Opened = Callable[[], int]


class Packed(msgspec.Struct, frozen=True, kw_only=True):
    """A trace as it is sent: `size` bytes with the sha256 `digest`, and `raw`, the same of what is in them
    when they are a gzip file."""

    name: str
    mark: Mark
    size: int
    digest: Digest
    raw: tuple[int, Digest] | None = None


class TooLargeToStore(Exception):
    """No server takes so much."""


@dataclass(slots=True)
class Moved:
    """Grows while work gets on, and stands still when it only begins again and again."""

    bytes: int = 0
    _reached: dict[str, int] = field(default_factory=dict)

    def reach(self, what: str, offset: int) -> None:
        """So far `what` has got."""
        before = self._reached.get(what, 0)
        if offset > before:
            self.bytes += offset - before
            self._reached[what] = offset


class Packing:
    """Packs files of `traces` into `folder`, of whose disk it leaves `reserve_bytes`."""

    def __init__(self, *, traces: CaptureFolder, folder: Path, reserve_bytes: int, moved: Moved) -> None:
        self._traces = traces
        self._folder = folder
        self._reserve_bytes = reserve_bytes
        self._moved = moved

    async def pack(self, name: str, mark: Mark) -> Packed:
        """The file as it is to be sent. `OSError` when it cannot be read, `TooLargeToStore`."""
        if (known := await asyncio.to_thread(self._known, name, mark)) is not None:
            return known
        if mark[0] > MAX_BYTES[FileKind.TRACE]:
            raise TooLargeToStore
        source = self._traces.open(name)
        try:
            if not room(self._folder.parent).is_short_of(self._reserve_bytes):
                try:
                    return await self._packed(name, mark, source)
                except _NoRoom:
                    log.warning("trace_sent_unpacked", size_bytes=mark[0])
            return await self._plain(name, mark, source)
        finally:
            os.close(source)

    def open(self, packed: Packed) -> int:
        """A descriptor of what is sent."""
        if packed.raw is None:
            return self._traces.open(packed.name)
        return os.open(self._path(packed.digest, "gz"), os.O_RDONLY | os.O_CLOEXEC)

    def drop(self, packed: Packed) -> None:
        """It is needed no more."""
        for kind in ("json", "gz"):
            self._path(packed.digest, kind).unlink(missing_ok=True)

    def _path(self, digest: str, kind: str) -> Path:
        return self._folder / f"{digest}.{kind}"

    def _known(self, name: str, mark: Mark) -> Packed | None:
        """What an agent has packed of the file before. All else goes: one is sent at a time."""
        found = None
        for path in sorted(self._folder.glob("*.json")):
            packed = _noted(path)
            gz = path.with_suffix(".gz")
            if packed is None or (packed.name, packed.mark) != (name, mark) or not gz.exists():
                continue
            if gz.stat().st_size == packed.size:
                found = packed
        kept = {self._path(found.digest, kind) for kind in ("json", "gz")} if found else set()
        for path in self._folder.glob("*"):
            if path not in kept:
                path.unlink(missing_ok=True)
        return found

    async def _packed(self, name: str, mark: Mark, source: int) -> Packed:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        aside = self._folder / f"{secrets.token_hex(8)}.new"
        target = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        packer = _Packer(source, target, mark[0])
        try:
            while await on_thread(packer.step):
                self._moved.reach(f"packing {name}", packer.raw_size)
                if room(self._folder).is_short_of(self._reserve_bytes):
                    raise _NoRoom
            packed = packer.packed(name, mark)
            aside.rename(self._path(packed.digest, "gz"))
            write_aside(self._path(packed.digest, "json"), msgspec.json.encode(packed))
        except OSError as error:
            if no_space(error):
                raise _NoRoom from error
            raise
        finally:
            os.close(target)
            aside.unlink(missing_ok=True)
        failpoint("trace.packed")
        return packed

    async def _plain(self, name: str, mark: Mark, source: int) -> Packed:
        sha256 = hashlib.sha256()
        size = 0
        while piece := await asyncio.to_thread(os.pread, source, min(_STEP_BYTES, mark[0] - size), size):
            await asyncio.to_thread(sha256.update, piece)
            size += len(piece)
            self._moved.reach(f"packing {name}", size)
        return Packed(name=name, mark=mark, size=size, digest=Digest(sha256.hexdigest()))


async def pieces(descriptor: int, offset: int, end: int) -> AsyncIterator[bytes]:
    """The bytes of an open file from `offset` to `end`."""
    while piece := await asyncio.to_thread(os.pread, descriptor, min(_SEND_BYTES, end - offset), offset):
        offset += len(piece)
        yield piece


class _NoRoom(Exception):
    """The disk is to be left to the jobs."""


class _Packer:
    """Packs as much of a file as it had when it was looked at, whatever becomes of it meanwhile."""

    def __init__(self, source: int, target: int, size: int) -> None:
        self._source, self._target = source, target
        self._left = size
        self._packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        self._raw_sha256, self._sha256 = hashlib.sha256(), hashlib.sha256()
        self.raw_size = self._size = 0

    def step(self) -> bool:
        """Pack some more; False when that was all."""
        piece = os.pread(self._source, min(_STEP_BYTES, self._left), self.raw_size)
        if piece:
            self._left -= len(piece)
            self.raw_size += len(piece)
            self._raw_sha256.update(piece)
            self._write(self._packer.compress(piece))
            return True
        self._write(self._packer.flush())
        os.fsync(self._target)
        return False

    def _write(self, data: bytes) -> None:
        self._sha256.update(data)
        self._size += len(data)
        write_all(self._target, data)

    def packed(self, name: str, mark: Mark) -> Packed:
        return Packed(
            name=name,
            mark=mark,
            size=self._size,
            digest=Digest(self._sha256.hexdigest()),
            raw=(self.raw_size, Digest(self._raw_sha256.hexdigest())),
        )


def _noted(path: Path) -> Packed | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Packed)
    except (OSError, msgspec.MsgspecError):
        return None
