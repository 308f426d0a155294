"""When archived bytes came to the backend: a file of fixed records beside each file of output.

A record is an offset and a time, both growing: from that offset up to the next record's, bytes came
at that time.
"""

import os
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from chisel_storage.blobs import write_all

_RECORD = struct.Struct(">Qd")


class Mark(NamedTuple):
    """From `offset` on, bytes came at `time`, in seconds since the epoch."""

    offset: int
    time: float


def append_marks(path: Path, marks: Sequence[Mark], *, at: int) -> None:
    """Let `marks` follow what `path` knows of the bytes below `at`; durable on return."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        kept = _records_below(descriptor, at)
        os.ftruncate(descriptor, kept * _RECORD.size)
        os.lseek(descriptor, 0, os.SEEK_END)
        write_all(descriptor, b"".join(_RECORD.pack(*mark) for mark in marks))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _records_below(descriptor: int, at: int) -> int:
    """How many whole records are of offsets below `at`: a binary search in the file."""
    low, high = 0, os.fstat(descriptor).st_size // _RECORD.size
    while low < high:
        middle = (low + high) // 2
        offset, _ = _RECORD.unpack(os.pread(descriptor, _RECORD.size, middle * _RECORD.size))
        low, high = (middle + 1, high) if offset < at else (low, middle)
    return low


class Marks:
    """The records of one file, ascending; none for output that was archived without."""

    def __init__(self, marks: Sequence[Mark], *, size: int) -> None:
        self._marks, self._size = marks, size

    @classmethod
    def read(cls, path: Path, *, size: int) -> "Marks":
        """Those of the first `size` bytes."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return cls((), size=size)
        whole = memoryview(data)[: len(data) // _RECORD.size * _RECORD.size]
        return cls([Mark(*record) for record in _RECORD.iter_unpack(whole) if record[0] < size], size=size)

    def at(self, offset: int) -> float:
        """When the byte at `offset` came; 0 when nobody knows."""
        place = bisect_right(self._marks, offset, key=lambda mark: mark.offset)
        return self._marks[place - 1].time if place else 0.0

    def since(self, time: float) -> int:
        """The offset of the first byte that came at `time` or later, the size when none did; where no times
        are known every byte counts, because nothing may be hidden."""
        if not self._marks:
            return 0
        place = bisect_left(self._marks, time, key=lambda mark: mark.time)
        return self._marks[place].offset if place < len(self._marks) else self._size

    def from_offset(self, offset: int, limit: int) -> Sequence[Mark]:
        """Up to `limit` records, from the one that covers `offset` on."""
        place = bisect_right(self._marks, offset, key=lambda mark: mark.offset)
        return self._marks[max(0, place - 1) :][:limit]
