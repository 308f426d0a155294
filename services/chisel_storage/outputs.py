"""Archived output: one growing file per stream of an attempt. Every function blocks on the disk.

The database says how many bytes of a file are safe; what lies beyond is the leftover of a crash and
is cut off by the next append.
"""

import hashlib
import os
from pathlib import Path

from chisel_shared.contract.errors import InternalError, StorageFull
from chisel_shared.contract.ids import JobId
from chisel_storage.blobs import make_folder, no_space, sync_folder, write_all

_READ_BYTES = 1 << 20


class DiskOutputs:
    """The files below one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root / "outputs"

    def path(self, job_id: JobId, attempt: int, stream: str) -> Path:
        return self._root / job_id[:2] / f"{job_id}.{attempt}.{stream}"

    def append(self, job_id: JobId, attempt: int, stream: str, *, at: int, data: bytes) -> None:
        """Write `data` at `at`, which becomes the end of whatever is there before; durable on return.

        `StorageFull` when there is no room: then the file holds at least what it held below `at`.
        """
        path = self.path(job_id, attempt, stream)
        try:
            make_folder(path.parent)
            new = not path.exists()
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                if os.fstat(descriptor).st_size < at:
                    raise InternalError(f"{path.name} is shorter than the {at} bytes recorded")
                os.ftruncate(descriptor, at)
                os.lseek(descriptor, at, os.SEEK_SET)
                write_all(descriptor, data)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if new:
                sync_folder(path.parent)
        except OSError as error:
            if no_space(error):
                raise StorageFull from error
            raise

    def sha256(self, job_id: JobId, attempt: int, stream: str, *, size: int) -> str:
        """The digest of the first `size` bytes."""
        digest = hashlib.sha256()
        if size:
            with self.path(job_id, attempt, stream).open("rb", buffering=0) as file:
                while size and (data := file.read(min(size, _READ_BYTES))):
                    digest.update(data)
                    size -= len(data)
        return digest.hexdigest()
