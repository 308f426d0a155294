"""A pack: a tar.gz in which equal content is equal bytes: no times, no owners, no names of this machine.

The standard library's tarfile costs more to import than packing a small project, so the one kind of member
a pack has is written here: a file of a POSIX ustar archive, named by its own sha256.
"""

import zlib
from collections.abc import Iterable, Sequence

_BLOCK = 512
_RECORD = 20 * _BLOCK
"""What tar programs expect an archive to be a multiple of."""

_LEVEL = 2
"""Four times as fast as zlib's default for archives a fifth larger: no network here is slower."""

_STORE_FROM_BYTES = 256 << 10
_SAMPLE_BYTES = 32 << 10
_WORTH = 0.9
"""Weights, images and archives hardly shrink, and trying takes ten times as long as storing them."""


def tar_size(size: int) -> int:
    """What a member of `size` bytes takes in the archive."""
    return _BLOCK + size + -size % _BLOCK


def pack(members: Iterable[tuple[str, bytes]]) -> bytes:
    """The archive of these names and contents, in their order."""
    held = list(members)
    compress = zlib.compressobj(_level(held), zlib.DEFLATED, 31)  # 31: with a gzip header, time 0
    parts = []
    written = 0
    for name, content in held:
        parts.append(compress.compress(_header(name, len(content))))
        parts.append(compress.compress(content))
        parts.append(compress.compress(bytes(-len(content) % _BLOCK)))
        written += tar_size(len(content))
    end = 2 * _BLOCK
    parts.append(compress.compress(bytes(end + -(written + end) % _RECORD)))
    parts.append(compress.flush())
    return b"".join(parts)


def _level(members: Sequence[tuple[str, bytes]]) -> int:
    """No compression where a sample of what fills the archive says that it would be of no use."""
    largest = max((content for _, content in members), key=len, default=b"")
    if len(largest) < max(_STORE_FROM_BYTES, sum(len(content) for _, content in members) / 2):
        return _LEVEL
    middle = (len(largest) - _SAMPLE_BYTES) // 2
    sample = largest[middle : middle + _SAMPLE_BYTES]
    return 0 if len(zlib.compress(sample, _LEVEL)) > _WORTH * len(sample) else _LEVEL


def _header(name: str, size: int) -> bytes:
    """One header, in the order of the ustar fields."""
    block = b"".join(
        (
            name.encode("ascii").ljust(100, b"\0"),
            b"0000644\0",
            b"0000000\0",  # owner
            b"0000000\0",  # group
            b"%011o\0" % size,
            b"00000000000\0",  # time
            b" " * 8,  # the checksum counts itself as spaces
            b"0",
            bytes(100),  # no link
            b"ustar\x0000",
            bytes(64),  # names of owner and group
            b"0000000\0" * 2,  # device
            bytes(167),
        )
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
