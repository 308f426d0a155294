"""Uploads that can be gone on with: what arrived of a file is kept, and only the whole gets its name.

A part lies under the digest of the whole, so it does not matter who sends the rest, or when. Whatever a
crash or a disk made of it, the digest decides: a part that turns out to be none is dropped, and the file is
sent from its beginning.
"""

import asyncio
import hashlib
import os
import time
import zlib
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

from chisel_shared.contract.errors import BadRequest, StorageFull, TooLarge, Unavailable
from chisel_shared.contract.ids import Digest
from chisel_shared.runtime.disk import no_space
from chisel_shared.runtime.failpoints import failpoint
from chisel_shared.runtime.logs import Log
from chisel_shared.runtime.threads import on_thread
from chisel_storage.blobs import BLOCK_BYTES, NO_ROOM, Blob, DiskBlobs, write_all

log = Log("chisel.storage.parts")

_FORGET_SECONDS = 3 * 86400.0
"""A part that nobody went on with for so long is dropped when the service starts."""
_SYNC_BYTES = 8 << 20
"""So much is written out at a time: all of it at the end would keep others from the disk, NATS with the next
line of output among them, for as long as that takes."""
_GZIP = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Promised:
    """What the whole will be: its size and sha256; of a gzip file also those of what is in it."""

    size: int
    sha256: Digest
    raw: tuple[int, Digest] | None = None


class DiskParts:
    """Parts of blobs, on the file system of the blobs they become."""

    def __init__(self, root: Path, blobs: DiskBlobs) -> None:
        self._root = root
        self._blobs = blobs
        self._folder = root / "parts"
        self._turns: WeakValueDictionary[str, _Turn] = WeakValueDictionary()

    def prepare(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self._folder.iterdir():
            if time.time() - path.stat().st_mtime > _FORGET_SECONDS:
                path.unlink()

    def size(self, key: str) -> int:
        """How many bytes of `key` are here; all of them once it is a blob."""
        try:
            return (self._blobs.find(key) or self._part(key)).stat().st_size
        except FileNotFoundError:
            return 0

    async def take(
        self, key: str, body: AsyncIterable[bytes], *, offset: int, promised: Promised, limit_bytes: int
    ) -> Blob:
        """Put `body` behind the first `offset` bytes of `key`; the blob once that is the whole of it. A body
        that breaks off leaves what has arrived.

        `Unavailable` when it is to be asked again how much is here, `BadRequest` for what is not what it
        promises, `TooLarge`, `StorageFull`.
        """
        if max(promised.size, promised.raw[0] if promised.raw else 0) > limit_bytes:
            raise TooLarge(f"the server takes at most {limit_bytes:,} bytes here")
        turn = self._turns.setdefault(key, _Turn())
        turn.number += 1
        mine = turn.number
        measure = _Measure(promised)
        unsynced = 0
        try:
            async with turn.lock:
                if (blob := self._blobs.find(key)) is not None:
                    return await asyncio.to_thread(_known, blob, promised)
                await on_thread(measure.read, self._part(key), offset)
                descriptor = await on_thread(self._open, key, offset)
            try:
                async for block in _blocks(body):
                    async with turn.lock:
                        if turn.number != mine:
                            raise Unavailable("this upload goes on over another connection")
                        if not self._blobs.has_room():
                            raise StorageFull(NO_ROOM)
                        await on_thread(measure.feed, block)
                        await on_thread(write_all, descriptor, block)
                        failpoint("upload.block")
                        unsynced += len(block)
                        if unsynced >= _SYNC_BYTES:
                            await on_thread(os.fdatasync, descriptor)
                            unsynced = 0
                async with turn.lock:
                    if measure.size < promised.size:
                        raise BadRequest(f"the upload was cut off after {measure.size:,} bytes")
                    measure.check()
                    failpoint("upload.received")
                    await on_thread(self._blobs.adopt, self._part(key), descriptor, key)
                    return Blob(promised.sha256, promised.size)
            finally:
                os.close(descriptor)
        except _Wrong as wrong:
            self._part(key).unlink(missing_ok=True)
            if offset:
                # What was kept of it may be to blame: garbled by a crash, or of a sender who did not know.
                raise Unavailable(f"{wrong}; it is to be sent from its beginning") from wrong
            raise BadRequest(str(wrong)) from wrong
        except OSError as error:
            if no_space(error):
                raise StorageFull(NO_ROOM) from error
            raise

    def _part(self, key: str) -> Path:
        return self._folder / key.replace("/", ".")

    def _open(self, key: str, offset: int) -> int:
        descriptor = os.open(self._part(key), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, offset)
            os.lseek(descriptor, offset, os.SEEK_SET)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor


async def _blocks(body: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces of about `BLOCK_BYTES`; of a body that breaks off, all that came before."""
    pieces: list[bytes] = []
    size = 0
    try:
        async for piece in body:
            pieces.append(piece)
            size += len(piece)
            if size >= BLOCK_BYTES:
                block, pieces, size = b"".join(pieces), [], 0
                yield block
    except BadRequest:
        yield b"".join(pieces)
        raise
    yield b"".join(pieces)


def _known(path: Path, promised: Promised) -> Blob:
    """A blob that is here already, when it is what is promised: whoever sent it may not have heard so. One
    that its disk has garbled goes, and `Unavailable` asks for another."""
    measure = _Measure(promised)
    try:
        measure.read(path, path.stat().st_size)
        measure.check()
    except _Wrong as wrong:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == promised.sha256:
                raise BadRequest(str(wrong)) from wrong
        log.warning("blob_garbled", sha256=promised.sha256)
        path.unlink()
        raise Unavailable("what was stored of it is garbled: send it from its beginning") from wrong
    return Blob(promised.sha256, promised.size)


class _Turn:
    """Who writes a part: the newest connection, once a block of the one before is written."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.number = 0


class _Wrong(Exception):
    """What arrived is not what was promised."""


class _Measure:
    """Holds what arrives against what was promised. Every method works for as long as it takes."""

    def __init__(self, promised: Promised) -> None:
        self._promised = promised
        self._sha256 = hashlib.sha256()
        self._raw_sha256 = hashlib.sha256()
        self._unpacker = zlib.decompressobj(_GZIP) if promised.raw else None
        self._raw_size = 0
        self.size = 0

    def read(self, path: Path, offset: int) -> None:
        """The first `offset` bytes of a file; `Unavailable` when it has fewer."""
        if not offset:
            return
        try:
            with path.open("rb") as file:
                while self.size < offset and (block := file.read(min(BLOCK_BYTES, offset - self.size))):
                    self.feed(block)
        except FileNotFoundError:
            pass  # as good as empty
        if self.size < offset:
            raise Unavailable(f"{self.size:,} bytes of it are here: send it from there on")

    def feed(self, block: bytes) -> None:
        self.size += len(block)
        if self.size > self._promised.size:
            raise _Wrong(f"more than the {self._promised.size:,} bytes that were promised arrived")
        self._sha256.update(block)
        if self._unpacker is None or self._promised.raw is None:
            return
        try:
            while block:
                if self._unpacker.eof:
                    raise _Wrong("something follows the end of the gzip file")
                # One byte more than promised is enough to be wrong: nobody unpacks a bomb here.
                room = min(BLOCK_BYTES, self._promised.raw[0] + 1 - self._raw_size)
                raw = self._unpacker.decompress(block, room)
                self._raw_sha256.update(raw)
                self._raw_size += len(raw)
                if self._raw_size > self._promised.raw[0]:
                    raise _Wrong(f"it unpacks to more than the {self._promised.raw[0]:,} bytes promised")
                block = self._unpacker.unused_data or self._unpacker.unconsumed_tail
        except zlib.error as error:
            raise _Wrong(f"it is no gzip file ({error})") from error

    def check(self) -> None:
        """Return when it is the whole."""
        if self.size != self._promised.size or self._sha256.hexdigest() != self._promised.sha256:
            raise _Wrong(f"what arrived has the sha256 {self._sha256.hexdigest()}, not the one promised")
        if self._unpacker is not None and (
            not self._unpacker.eof or (self._raw_size, self._raw_sha256.hexdigest()) != self._promised.raw
        ):
            raise _Wrong("what is in the gzip file is not what was promised")
