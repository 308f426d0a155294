"""Saving traces on this machine: fetched compressed, gone on with after a break, verified, then renamed.

What was fetched so far lies beside the target as `.NAME.DIGEST.part`: the content names it, so whoever
fetches the same content next goes on there, and nobody goes on with another's.
"""

import hashlib
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

from chisel.api import Api
from chisel_shared.contract.errors import Conflict, InternalError, Unavailable
from chisel_shared.contract.ids import is_digest, is_file_name
from chisel_shared.contract.traces import STORED

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is
if TYPE_CHECKING:
    from chisel_shared.contract.messages import TraceView

_TRIES = 6
"""In a row without a byte."""
_PIECE_BYTES = 1 << 20
_GZIP = 16 + zlib.MAX_WBITS


def address(trace: "TraceView", part: str = "") -> str:
    """Where the gateway has a trace, or a `part` of what it knows about it."""
    if not is_file_name(trace.name):
        raise InternalError(f"the backend calls a trace {trace.name!r}, which is no file name")
    return f"/api/v1/jobs/{trace.job_id}/traces/{trace.name}{part}?attempt={trace.attempt}"


class TraceFiles:
    """Saves traces in `folder`, which is made if need be."""

    def __init__(self, *, api: Api, folder: str) -> None:
        self._api = api
        self._folder = folder

    def save(self, trace: "TraceView", *, gz: bool) -> str:
        """The path of the trace, whole and verified; as a gzip file with `gz`. `Conflict` when it is not
        stored, `Unavailable` when the backend stays away, `InternalError` for what arrives damaged."""
        url = address(trace)
        if trace.state not in STORED:
            raise Conflict(
                f"{trace.name} cannot be downloaded, it is {trace.state}"
                + (f": {trace.reason}" if trace.reason else "")
            )
        packed = bool(trace.stored_sha256)
        digest = trace.stored_sha256 if packed else trace.sha256
        if not is_digest(digest):
            raise InternalError(
                f"the backend names the content of {trace.name} {digest!r}, which is no sha256"
            )
        os.makedirs(self._folder, exist_ok=True)
        path = os.path.join(self._folder, trace.name + (".gz" if gz else ""))
        part = os.path.join(self._folder, f".{trace.name}.{digest[:16]}.part")
        for _ in range(_TRIES):
            self._fetch(url, part, digest, trace.stored_bytes if packed else trace.size_bytes, packed=packed)
            with suppress(FileNotFoundError):
                self._make(path, part, trace, gz=gz, packed=packed)
                return path
            # Another process that saves the same had the part, too, and was done with it first.
        raise InternalError(f"{part} is removed again and again")

    def _make(self, path: str, part: str, trace: "TraceView", *, gz: bool, packed: bool) -> None:
        """`path` of the whole `part`. `FileNotFoundError` when that is gone."""
        if gz is packed:
            os.replace(part, path)
            return
        aside = f"{part}.{os.getpid()}"
        try:
            if gz:
                _write(aside, _compressed(part))
            elif _write(aside, _plain(part, trace.size_bytes)) != trace.sha256:
                raise zlib.error("another file")
            os.replace(aside, path)
        except zlib.error as error:
            os.unlink(part)
            raise _damaged(trace.name) from error
        finally:
            if os.path.lexists(aside):
                os.unlink(aside)
        with suppress(FileNotFoundError):
            os.unlink(part)

    def _fetch(self, url: str, part: str, digest: str, size: int, *, packed: bool) -> None:
        """Make `part` whole: the `size` bytes that have this digest."""
        tried = again = 0
        while True:
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
            with os.fdopen(os.open(part, flags, 0o666), "r+b") as file:
                sha256 = hashlib.sha256()
                while piece := file.read(_PIECE_BYTES):
                    sha256.update(piece)
                have = file.tell()
                try:
                    if have < size:
                        for piece in self._api.download(url, start=have, gzip=packed):
                            sha256.update(piece)
                            file.write(piece)
                            tried = 0
                    if sha256.hexdigest() == digest:
                        return
                except Unavailable:
                    tried += 1
                    if tried == _TRIES:
                        raise
                    time.sleep(min(2.0, 0.1 * 2**tried))
                    continue
            with suppress(FileNotFoundError):
                os.unlink(part)
            # A part that somebody else wrote, or a disk garbled, is fetched anew; what is damaged then is so.
            again += 1
            if not have or again > 1:
                raise _damaged(os.path.basename(part))


def _damaged(name: str) -> InternalError:
    return InternalError(f"{name} arrived damaged or incomplete: download it again")


def _write(path: str, pieces: Iterator[bytes]) -> str:
    """Write a new file; the sha256 of what is in it."""
    sha256 = hashlib.sha256()
    with open(path, "xb") as file:
        for piece in pieces:
            sha256.update(piece)
            file.write(piece)
    return sha256.hexdigest()


def _compressed(path: str) -> Iterator[bytes]:
    packer = zlib.compressobj(1, zlib.DEFLATED, _GZIP)
    with open(path, "rb") as file:
        for piece in _pieces(file):
            yield packer.compress(piece)
    yield packer.flush()


def _plain(path: str, size: int) -> Iterator[bytes]:
    """What a gzip file holds; at most a byte more than `size`, which is enough to be another."""
    unpacker = zlib.decompressobj(_GZIP)
    left = size + 1
    with open(path, "rb") as file:
        for piece in _pieces(file):
            while piece and left > 0:
                unpacked = unpacker.decompress(piece, min(_PIECE_BYTES, left))
                left -= len(unpacked)
                yield unpacked
                piece = unpacker.unconsumed_tail
            if unpacker.eof:
                return


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(_PIECE_BYTES):
        yield piece
