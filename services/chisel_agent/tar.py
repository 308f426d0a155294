"""A tar.gz as a stream of entries, read by our own rules: nothing is trusted, everything is bounded.

Only what a bundle needs exists: files, folders, symbolic links, long names (GNU or PAX). Anything
else is an error, because what two readers of an archive understand differently is how archives
escape. `extract.py` writes what this reads.
"""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import BinaryIO

BLOCK = 512
_STEP_BYTES = 64 * 1024
_HEADER_BUDGET_BYTES = 64 * 1024
"""What the extended headers of one entry may take: more than any path needs."""


class BadArchive(Exception):
    """The archive is damaged, or holds what a bundle must not hold."""


class Kind(Enum):
    FILE = "file"
    FOLDER = "folder"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class Entry:
    kind: Kind
    path: str
    size: int = 0
    executable: bool = False
    target: str = ""


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


def entries(stream: Gunzip) -> Iterator[Entry]:
    """Every entry in order. The content of a file must be taken from `stream` before the next one is
    asked for: all `size` bytes; what pads it to a block is skipped here."""
    long_name = long_target = ""
    budget = _HEADER_BUDGET_BYTES
    while True:
        header = stream.exactly(BLOCK)
        if not any(header):
            _end(stream)
            return
        _check_sum(header)
        kind, size = header[156:157], _number(header[124:136])
        if kind in (b"x", b"g", b"L", b"K"):
            budget -= size
            if budget < 0:
                raise BadArchive("an entry has more header than a name needs")
            data = stream.exactly(size)
            _skip_padding(stream, size)
            if kind == b"x":
                fields = _pax(data)
                long_name = fields.get("path", long_name)
                long_target = fields.get("linkpath", long_target)
            elif kind == b"L":
                long_name = _text(data.split(b"\0", 1)[0])
            elif kind == b"K":
                long_target = _text(data.split(b"\0", 1)[0])
            continue
        yield _entry(header, kind, size, long_name, long_target)
        _skip_padding(stream, size)
        long_name = long_target = ""
        budget = _HEADER_BUDGET_BYTES


def _entry(header: bytes, kind: bytes, size: int, long_name: str, long_target: str) -> Entry:
    path = long_name or _name(header)
    if kind in (b"0", b"\0"):
        return Entry(Kind.FILE, path, size, executable=bool(_number(header[100:108]) & 0o100))
    if size:
        raise BadArchive(f"{path!r} is no file and has content")
    if kind == b"5":
        return Entry(Kind.FOLDER, path)
    if kind == b"2":
        return Entry(Kind.LINK, path, target=long_target or _text(header[157:257].split(b"\0", 1)[0]))
    raise BadArchive(f"{path!r} is neither file, folder nor symbolic link")


def _name(header: bytes) -> str:
    name = _text(header[:100].split(b"\0", 1)[0])
    prefix = _text(header[345:500].split(b"\0", 1)[0]) if header[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadArchive("a name is not UTF-8") from error


def _number(field: bytes) -> int:
    if field[0] & 0x80:  # base 256, for what octal digits cannot hold
        value = int.from_bytes(field, "big") - (0x80 << 8 * (len(field) - 1))
    else:
        try:
            value = int(field.strip(b" \0") or b"0", 8)
        except ValueError as error:
            raise BadArchive("a number is not octal") from error
    if not 0 <= value < 1 << 62:
        raise BadArchive("a number is out of range")
    return value


def _check_sum(header: bytes) -> None:
    if _number(header[148:156]) != sum(header[:148]) + 8 * 32 + sum(header[156:]):
        raise BadArchive("a header is damaged")


def _pax(data: bytes) -> dict[str, str]:
    """The fields of a PAX header. A size there would contradict the one we go by: refused."""
    fields: dict[str, str] = {}
    while data:
        digits, space, _ = data.partition(b" ")
        if not space or not digits.isdigit() or not len(digits) + 1 < int(digits) <= len(data):
            raise BadArchive("an extended header is damaged")
        record, data = data[len(digits) + 1 : int(digits)], data[int(digits) :]
        key, equals, value = record.removesuffix(b"\n").partition(b"=")
        if not equals or not record.endswith(b"\n"):
            raise BadArchive("an extended header is damaged")
        if key == b"size" or key.startswith(b"GNU.sparse"):
            raise BadArchive("an extended header changes a file's size")
        if key in (b"path", b"linkpath"):
            fields[key.decode()] = _text(value)
    return fields


def _skip_padding(stream: Gunzip, size: int) -> None:
    stream.exactly(-size % BLOCK)


def _end(stream: Gunzip) -> None:
    """After the first empty block there is nothing but more of them."""
    while block := stream.take(BLOCK):
        if any(block):
            raise BadArchive("something follows its end")
