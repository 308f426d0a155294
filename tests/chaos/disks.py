"""Small disks of one's own, that can be full: tmpfs, where this process may mount one."""

import ctypes
import os
import subprocess
from pathlib import Path

from tests.support.full_disk import unmount

_CLONE_NEWNS = 0x00020000
_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024


def own_mounts() -> str:
    """Give this process mounts that nobody else sees and that end with it. "" when that worked, else why
    not. Call it before there are threads."""
    libc = ctypes.CDLL(None, use_errno=True)
    unshare = getattr(libc, "unshare", None)
    if unshare is None:
        return "this system has no mount namespaces"
    if unshare(_CLONE_NEWNS) != 0:
        return f"no mount namespace of our own: {os.strerror(ctypes.get_errno())}"
    return _mount("--make-rprivate", "/")


class Disk:
    """A tmpfs at `folder`."""

    def __init__(self, folder: Path, *, mebibytes: int) -> None:
        self.folder = folder
        self._kib = mebibytes * 1024

    def mount(self) -> str:
        """ "" when it is there, else why it is not."""
        self.folder.mkdir(exist_ok=True)
        return _mount("-t", "tmpfs", "-o", f"size={self._kib}k,mode=0700", "chaos", str(self.folder))

    def fill(self) -> None:
        """Leave no room: it becomes as small as what it holds."""
        found = os.statvfs(self.folder)
        used = (found.f_blocks - found.f_bfree) * found.f_frsize // 1024
        # It grows while we look.
        for more in range(0, 64):
            if not self._resize(max(1, used) + more * _PAGE_KIB):
                return
        raise OSError(f"{self.folder} could not be filled")

    def empty(self) -> None:
        """Give the room back."""
        problem = self._resize(self._kib)
        if problem:
            raise OSError(problem)

    def unmount(self) -> None:
        unmount(self.folder)

    def _resize(self, kib: int) -> str:
        return _mount("-o", f"remount,size={kib}k", str(self.folder))


def _mount(*arguments: str) -> str:
    try:
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    except OSError as error:
        return f"mount: {error.strerror}"
    return "" if done.returncode == 0 else done.stderr.strip() or f"mount failed with {done.returncode}"
