"""Uploads the traces of one attempt as they appear.

A trace file appears whole and keeps its name. What was uploaded is written down beside the folder; the
files themselves stay, for the job may look.
"""

import asyncio
import os
from pathlib import Path

from chisel_agent.uploads import FileStore, Mark, Uploads
from chisel_shared.contract.files import FileKind, FileMode
from chisel_shared.contract.ids import is_file_name
from chisel_shared.contract.messages import AttemptRef
from chisel_shared.runtime.logs import Log

log = Log("chisel.agent.traces")

_LOOK_SECONDS = 1.0
_SIDECAR = ".meta.json"
"""What the job says about the trace beside it; no trace itself."""


class TraceUploads:
    def __init__(self, *, store: FileStore, ref: AttemptRef, folder: Path) -> None:
        self._folder = folder / "traces"
        self._uploads = Uploads(store=store, ref=ref, kind=FileKind.TRACE, record=folder / "traces.uploaded")
        self._seen_at = -1
        self._refused: set[str] = set()
        self._busy = asyncio.Lock()

    @property
    def count(self) -> int:
        """How many trace files are stored."""
        return self._uploads.count

    @property
    def moved_bytes(self) -> int:
        return self._uploads.moved_bytes

    async def watch(self) -> None:
        """Upload what appears, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                changed_at = self._folder.stat().st_mtime_ns
            except FileNotFoundError:
                continue
            if changed_at != self._seen_at:
                self._seen_at = changed_at
                await self.upload_all()

    async def upload_all(self) -> None:
        """Return when every trace there is now is stored or refused, however long that takes."""
        async with self._busy:
            for name, mark in self._pending():
                await self._uploads.upload(
                    name,
                    mark=mark,
                    mode=FileMode.PLAIN,
                    opened=lambda name=name: self._open(name),  # type: ignore[misc]
                )

    def _pending(self) -> list[tuple[str, Mark]]:
        found = []
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    # One with a leading dot is being written: it appears when it gets its name.
                    if entry.name.startswith(".") or not entry.name.endswith(".json"):
                        continue
                    if entry.name.endswith(_SIDECAR):
                        continue
                    if not is_file_name(entry.name):
                        if entry.name not in self._refused:
                            self._refused.add(entry.name)
                            log.warning("trace_name_refused", name=entry.name)
                        continue
                    if entry.is_file(follow_symlinks=False):
                        status = entry.stat(follow_symlinks=False)
                        mark = (status.st_size, status.st_mtime_ns)
                        if not self._uploads.is_settled(entry.name, mark):
                            found.append((entry.name, mark))
        except FileNotFoundError:
            return []
        return sorted(found)

    def _open(self, name: str) -> int:
        # The job's own file: it could be a link to what the job may not read, or a pipe by now.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(self._folder / name, flags)
