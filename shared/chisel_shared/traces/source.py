"""The bytes of a trace, block by block: of a path or an open file, plain or gzip as its first bytes say."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

BLOCK_BYTES = 1 << 20
"""What its objects take stays in a processor's cache; more is slower."""
_GZIP = b"\x1f\x8b"
_COMPRESSED_PIECE = 64 << 10
"""Small, because what a damaged piece holds is lost whole."""
_GZIP_HEADER_AND_TRAILER = 31
"""What zlib calls this framing."""


class TraceError(ValueError):
    """The file is no trace, or larger than its reader allows. Says which in a sentence."""


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


Where = str | Path | BinaryIO | Readable


class Blocks:
    """The plain bytes, in blocks of at most `BLOCK_BYTES`. After the last one, `cut` says whether the
    compressed stream ended early or went bad: what came before it is right.

    `TraceError` when there are more than `limit` plain bytes.
    """

    def __init__(self, file: Readable, *, limit: int) -> None:
        self.cut = False
        self._file = file
        self._left = self._limit = limit

    def __iter__(self) -> Iterator[bytes]:
        first = self._file.read(_COMPRESSED_PIECE)
        for block in self._inflated(first) if first.startswith(_GZIP) else self._plain(first):
            self._left -= len(block)
            if self._left < 0:
                raise TraceError(f"The trace is larger than {self._limit:,} bytes, the most that is read.")
            yield block

    def _plain(self, first: bytes) -> Iterator[bytes]:
        if first:
            yield first
        while data := self._file.read(BLOCK_BYTES):
            yield data

    def _inflated(self, data: bytes) -> Iterator[bytes]:
        stream = zlib.decompressobj(_GZIP_HEADER_AND_TRAILER)
        while data:
            try:
                block = stream.decompress(data, BLOCK_BYTES)
            except zlib.error:
                self.cut = True
                return
            if block:
                yield block
            if stream.eof:
                data = stream.unused_data or self._file.read(_COMPRESSED_PIECE)
                if not data.startswith(_GZIP):
                    return  # padding, or something that is not ours
                stream = zlib.decompressobj(_GZIP_HEADER_AND_TRAILER)
            else:
                data = stream.unconsumed_tail or self._file.read(_COMPRESSED_PIECE)
        # A long run of the same byte may have filled the block exactly.
        while block := stream.decompress(b"", BLOCK_BYTES):
            yield block
        self.cut = not stream.eof
