"""Archived output: one growing file per stream of an attempt. Every function blocks on the disk.

The database says how many bytes of a file are safe; what lies beyond is the leftover of a crash and
is cut off by the next append. Beside each file lies another with the time at which every chunk of it
came to the backend (`times.py`).
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from chisel_shared.contract.errors import InternalError, StorageFull
from chisel_shared.contract.ids import JobId
from chisel_shared.runtime.disk import no_space
from chisel_storage.blobs import make_folder, sync_folder, write_all
from chisel_storage.times import Mark, Marks, append_marks

MAX_TAIL_BYTES = 64 << 20
_READ_BYTES = 1 << 20
_TAIL_STEP_BYTES = 1 << 16


class DiskOutputs:
    """The files below one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root / "outputs"

    def path(self, job_id: JobId, attempt: int, stream: str) -> Path:
        return self._root / job_id[:2] / f"{job_id}.{attempt}.{stream}"

    def times_path(self, job_id: JobId, attempt: int, stream: str) -> Path:
        return self._root / job_id[:2] / f"{job_id}.{attempt}.{stream}.times"

    def append(
        self,
        job_id: JobId,
        attempt: int,
        stream: str,
        *,
        at: int,
        data: bytes,
        times: Sequence[Mark] = (),
    ) -> None:
        """Write `data` at `at`, which becomes the end of whatever is there before; durable on return.
        `times` are the chunks `data` came in.

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
            # After the bytes: a time without its bytes is cut off by the next append, or never looked at.
            append_marks(self.times_path(job_id, attempt, stream), times, at=at)
            if new:
                sync_folder(path.parent)
        except OSError as error:
            if no_space(error):
                raise StorageFull from error
            raise

    def marks(self, job_id: JobId, attempt: int, stream: str, *, size: int) -> Marks:
        """When the first `size` bytes came."""
        return Marks.read(self.times_path(job_id, attempt, stream), size=size)

    def last_lines(self, job_id: JobId, attempt: int, stream: str, *, before: int, count: int) -> list[int]:
        """Where the last `count` lines of the first `before` bytes begin, ascending; fewer when there are
        fewer, or when they are longer than `MAX_TAIL_BYTES` together."""
        starts: list[int] = []
        with self.path(job_id, attempt, stream).open("rb", buffering=0) as file:
            end, at = before, before
            while at > 0 and len(starts) < count and end - at < MAX_TAIL_BYTES:
                size = min(at, _TAIL_STEP_BYTES)
                at -= size
                file.seek(at)
                block = file.read(size)
                found = [at + place + 1 for place in newlines(block) if at + place + 1 < before]
                starts = found + starts
            if at == 0 and before > 0:
                starts.insert(0, 0)
        return starts[-count:] if count else []

    def sha256(self, job_id: JobId, attempt: int, stream: str, *, size: int) -> str:
        """The digest of the first `size` bytes."""
        digest = hashlib.sha256()
        if size:
            with self.path(job_id, attempt, stream).open("rb", buffering=0) as file:
                while size and (data := file.read(min(size, _READ_BYTES))):
                    digest.update(data)
                    size -= len(data)
        return digest.hexdigest()


def newlines(block: bytes) -> Iterator[int]:
    """The places of the newlines of `block`."""
    place = block.find(b"\n")
    while place >= 0:
        yield place
        place = block.find(b"\n", place + 1)
