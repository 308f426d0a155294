"""A pack as a stream of members, read by our own rules: nothing is trusted, everything is bounded.

Only what a pack needs exists: files with short names. Anything else is an error, because what two readers
of an archive understand differently is how archives escape. `extract.py` writes what this reads.
"""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

BLOCK = 512
_STEP_BYTES = 64 * 1024


class BadArchive(Exception):
    """The archive is damaged, or holds what a bundle must not hold."""


@dataclass(frozen=True, slots=True)
class Member:
    name: str
    size: int


class Gunzip:
    """Decompresses in small steps. `on_bytes(written)` is told the total and may raise."""

    def __init__(self, source: BinaryIO, on_bytes: Callable[[int], None]) -> None:
        self._source = source
        self._on_bytes = on_bytes
        self._engine = zlib.decompressobj(wbits=31)
        self._buffer = b""
        self._taken = 0  # of the buffer: cutting it at every header would copy it every time
        self._written = 0
        self._ended = False

    def take(self, count: int) -> bytes:
        """Up to `count` bytes, less only at the end; `count` is small."""
        while len(self._buffer) - self._taken < count and self._more():
            pass
        data = self._buffer[self._taken : self._taken + count]
        self._taken += len(data)
        return data

    def exactly(self, count: int) -> bytes:
        data = self.take(count)
        if len(data) < count:
            raise BadArchive("it is cut short")
        return data

    def copy(self, count: int, write: Callable[[bytes], object]) -> None:
        """Hand `count` bytes to `write`, in steps."""
        while count:
            data = self.take(min(count, _STEP_BYTES))
            if not data:
                raise BadArchive("it is cut short")
            write(data)
            count -= len(data)

    def _more(self) -> bool:
        try:
            if self._engine.eof:
                rest = self._engine.unused_data or self._source.read(_STEP_BYTES)
                if not rest:
                    return False
                self._engine = zlib.decompressobj(wbits=31)  # members may follow each other
                data = self._engine.decompress(rest, _STEP_BYTES)
            else:
                rest = self._engine.unconsumed_tail
                if not rest:
                    rest = self._source.read(_STEP_BYTES)
                    if not rest:
                        raise BadArchive("it is cut short")
                data = self._engine.decompress(rest, _STEP_BYTES)
        except zlib.error as error:
            raise BadArchive(f"it is not gzip, or damaged: {error}") from error
        self._buffer = self._buffer[self._taken :] + data
        self._taken = 0
        self._written += len(data)
        self._on_bytes(self._written)
        return True


def members(stream: Gunzip) -> Iterator[Member]:
    """Every member in order. Its content must be taken from `stream` before the next one is asked for: all
    `size` bytes; what pads it to a block is skipped here."""
    while True:
        header = stream.exactly(BLOCK)
        if not any(header):
            _end(stream)
            return
        _check_sum(header)
        name = header[:100].split(b"\0", 1)[0].decode("ascii", "replace")
        if header[156:157] not in (b"0", b"\0"):
            raise BadArchive(f"{name!r} is no file")
        size = _number(header[124:136])
        yield Member(name, size)
        stream.exactly(-size % BLOCK)


def _number(field: bytes) -> int:
    digits = field.strip(b" \0") or b"0"
    if not digits.isdigit() or b"8" in digits or b"9" in digits:
        raise BadArchive("a number is not octal")
    return int(digits, 8)


def _check_sum(header: bytes) -> None:
    if _number(header[148:156]) != sum(header[:148]) + 8 * 32 + sum(header[156:]):
        raise BadArchive("a header is damaged")


def _end(stream: Gunzip) -> None:
    """After the first empty block there is nothing but more of them."""
    while block := stream.take(BLOCK):
        if any(block):
            raise BadArchive("something follows its end")
