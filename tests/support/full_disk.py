"""Small file systems of their own that a test may fill: a tmpfs, for which mounting must be allowed."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_BALLAST = "ballast"
_STEP_BYTES = 1 << 20


class SmallDisk:
    """A mounted file system of so many bytes, at `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / _BALLAST

    @property
    def free_bytes(self) -> int:
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def fill(self, *, leave_bytes: int = 0) -> None:
        """Take all room but `leave_bytes`; what others free meanwhile as well, as far as this sees it."""
        descriptor = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            while (step := min(_STEP_BYTES, self.free_bytes - leave_bytes)) > 0:
                os.write(descriptor, bytes(step))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        finally:
            os.close(descriptor)

    def clear(self) -> None:
        """Give back what `fill` took."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path, *, size_bytes: int) -> Iterator[SmallDisk]:
    """A file system of `size_bytes` at `folder`, which is made; the test is skipped, with what `mount`
    said, where this user may not have one."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=0700", "chisel-small-disk", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        refused = done.stderr.strip() if done.returncode else ""
    except OSError as error:
        refused = str(error)
    if refused:
        pytest.skip(f"a small file system to fill cannot be mounted here: {refused}")
    try:
        yield SmallDisk(folder)
    finally:
        unmount(folder)


def unmount(folder: Path) -> None:
    """Let go of what is mounted at `folder`, whoever still has a file of it open."""
    subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)


def unmount_below(folder: Path) -> None:
    """For what a killed test left mounted."""
    try:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return
    for line in reversed(mounts):
        point = Path(line.split(" ")[1].encode().decode("unicode_escape"))
        if folder in point.parents:
            unmount(point)
