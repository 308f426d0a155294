"""How much room a folder's disk has, and whether that is less than is to be kept."""

import errno
import os
from dataclasses import dataclass
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT)
_LARGEST_RESERVE = 20
"""A reserve is never more than this part of a disk."""


@dataclass(frozen=True, slots=True)
class Room:
    """`total_bytes` of a disk, of which `free_bytes` may still be written."""

    free_bytes: int
    total_bytes: int

    def is_short_of(self, reserve_bytes: int) -> bool:
        """Whether less is free than the reserve; on a small disk that is a twentieth of it."""
        return self.free_bytes < min(reserve_bytes, self.total_bytes // _LARGEST_RESERVE)


def room(folder: Path) -> Room:
    """The room on the disk of `folder`."""
    found = os.statvfs(folder)
    return Room(free_bytes=found.f_bavail * found.f_frsize, total_bytes=found.f_blocks * found.f_frsize)


def no_space(error: OSError) -> bool:
    """Whether the disk, or the quota on it, is full."""
    return error.errno in _FULL
