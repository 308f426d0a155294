"""A tar.gz in which equal content is equal bytes: no times, no owners, no names of this machine.

The standard library's tarfile costs more to import than packing a small project, so the few kinds of
entries a bundle has are written here: POSIX ustar, with pax records where its fields are too short.
"""

import hashlib
import zlib
from collections.abc import Iterable
from typing import Protocol

_BLOCK = 512
_RECORD = 20 * _BLOCK
"""What tar programs expect an archive to be a multiple of."""

_LEVEL = 2
"""Four times as fast as zlib's default for archives a fifth larger: no network here is slower."""
_LARGEST_OCTAL = 8**11 - 1

FILE, SYMLINK, FOLDER, _PAX = b"0", b"2", b"5", b"x"


class Sink(Protocol):
    """Where the compressed bytes go."""

    def write(self, data: bytes, /) -> object: ...


class Archive:
    """Writes entries one after the other and knows the sha256 and size of what came out."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._compress = zlib.compressobj(_LEVEL, zlib.DEFLATED, 31)  # 31: with a gzip header, time 0
        self._digest = hashlib.sha256()
        self._written = 0
        self.size = 0

    def folder(self, name: str) -> None:
        self._header(name + "/", kind=FOLDER, mode=0o755)

    def symlink(self, name: str, target: str) -> None:
        self._header(name, kind=SYMLINK, mode=0o777, target=target)

    def file(self, name: str, content: Iterable[bytes], *, size: int, executable: bool) -> None:
        """An entry of exactly `size` bytes: `content` must not yield fewer or more."""
        self._header(name, kind=FILE, mode=0o755 if executable else 0o644, size=size)
        for piece in content:
            self._write(piece)
        self._write(bytes(-size % _BLOCK))

    def finish(self) -> str:
        """End the archive; its sha256 in hexadecimal digits."""
        self._write(bytes(2 * _BLOCK))
        self._write(bytes(-self._written % _RECORD))
        self._put(self._compress.flush())
        return self._digest.hexdigest()

    def _header(self, name: str, *, kind: bytes, mode: int, size: int = 0, target: str = "") -> None:
        records = {}
        encoded, link = _bytes(name), _bytes(target)
        prefix, short = _split(encoded)
        if short is None:
            records["path"] = encoded
            prefix, short = b"", encoded[:100]
        if len(link) > 100 or not link.isascii():
            records["linkpath"] = link
        if size > _LARGEST_OCTAL:
            records["size"] = b"%d" % size
        if records:
            extra = b"".join(_pax_record(key.encode(), value) for key, value in records.items())
            self._write(_block(b"././@PaxHeader", kind=_PAX, mode=0o644, size=len(extra)))
            self._write(extra + bytes(-len(extra) % _BLOCK))
        self._write(
            _block(
                short,
                kind=kind,
                mode=mode,
                size=0 if "size" in records else size,
                link=link[:100],
                prefix=prefix,
            )
        )

    def _write(self, data: bytes) -> None:
        self._written += len(data)
        self._put(self._compress.compress(data))

    def _put(self, data: bytes) -> None:
        if data:
            self._digest.update(data)
            self._sink.write(data)
            self.size += len(data)


def _bytes(text: str) -> bytes:
    """A path's bytes; a name that is no UTF-8 keeps the bytes it has on disk."""
    return text.encode("utf-8", "surrogateescape")


def _split(name: bytes) -> tuple[bytes, bytes | None]:
    """`name` as ustar's prefix and name fields; None where it does not fit or is not ASCII."""
    if not name.isascii():
        return b"", None
    if len(name) <= 100:
        return b"", name
    cut = name.rfind(b"/", 0, min(156, len(name) - 1))
    if cut > 0 and len(name) - cut - 1 <= 100:
        return name[:cut], name[cut + 1 :]
    return b"", None


def _pax_record(key: bytes, value: bytes) -> bytes:
    """`"<length> <key>=<value>\\n"`, where the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _block(
    name: bytes, *, kind: bytes, mode: int, size: int, link: bytes = b"", prefix: bytes = b""
) -> bytes:
    """One header, in the order of the ustar fields."""
    block = b"".join(
        (
            name.ljust(100, b"\0"),
            b"%07o\0" % mode,
            b"0000000\0",  # owner
            b"0000000\0",  # group
            b"%011o\0" % size,
            b"00000000000\0",  # time
            b" " * 8,  # the checksum counts itself as spaces
            kind,
            link.ljust(100, b"\0"),
            b"ustar\x0000",
            bytes(64),  # names of owner and group
            b"0000000\0" * 2,  # device
            prefix.ljust(155, b"\0"),
            bytes(12),
        )
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
