"""Uploads the traces of one attempt as they appear, and knows which were.

A trace file appears whole and keeps its name. What was uploaded is written down beside the folder,
so that an agent's restart uploads only the rest; the files themselves stay, for the job may look.
"""

import asyncio
import hashlib
import os
import stat
from pathlib import Path
from typing import Protocol

import msgspec

from chisel_agent.bundles import retrying
from chisel_agent.records import write_aside
from chisel_shared.contract.errors import ChiselError
from chisel_shared.contract.ids import Digest, is_file_name
from chisel_shared.contract.messages import AttemptRef
from chisel_shared.runtime.logs import Log

log = Log("chisel.agent.traces")

_LOOK_SECONDS = 1.0
_STEP_BYTES = 1 << 20


class TraceStore(Protocol):
    async def store_trace(self, ref: AttemptRef, name: str, descriptor: int, digest: Digest) -> None: ...


class TraceUploads:
    def __init__(self, *, store: TraceStore, ref: AttemptRef, folder: Path) -> None:
        self._store = store
        self._ref = ref
        self._folder = folder / "traces"
        self._record = folder / "traces.uploaded"
        self._settled = self._read_record()
        self._seen_at = -1
        self._busy = asyncio.Lock()

    @property
    def count(self) -> int:
        """How many trace files are stored."""
        return sum(stored for _, _, stored in self._settled.values())

    def _read_record(self) -> dict[str, tuple[int, int, bool]]:
        """By name: size and time of change of what was dealt with, and whether it was stored."""
        try:
            return msgspec.json.decode(self._record.read_bytes(), type=dict[str, tuple[int, int, bool]])
        except (OSError, msgspec.MsgspecError):
            return {}

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
                self._settled[name] = (*mark, await self._upload(name))
                write_aside(self._record, msgspec.json.encode(self._settled))

    def _pending(self) -> list[tuple[str, tuple[int, int]]]:
        found = []
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    # One with a leading dot is being written: it appears when it gets its name.
                    if entry.name.startswith(".") or not entry.name.endswith(".json"):
                        continue
                    if entry.is_file(follow_symlinks=False):
                        status = entry.stat(follow_symlinks=False)
                        mark = (status.st_size, status.st_mtime_ns)
                        if self._settled.get(entry.name, ())[:2] != mark:
                            found.append((entry.name, mark))
        except FileNotFoundError:
            return []
        return sorted(found)

    async def _upload(self, name: str) -> bool:
        """Whether it is stored. One that cannot be is told to the log: it never costs the job its result."""
        if not is_file_name(name):
            log.warning("trace_name_refused", name=name)
            return False
        try:
            # The job's own file: it could be a link to what the job may not read, or a pipe by now.
            descriptor = os.open(
                self._folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            )
        except OSError as error:
            log.warning("trace_unreadable", name=name, error=repr(error))
            return False
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return False
            digest = await asyncio.to_thread(_digest, descriptor)
            await retrying(
                lambda: self._store.store_trace(self._ref, name, descriptor, digest),
                what="trace",
                cleanup=lambda: None,
            )
            log.info("trace_uploaded", name=name)
            return True
        except ChiselError as error:
            log.warning("trace_refused", name=name, error=str(error))
            return False
        finally:
            os.close(descriptor)


def _digest(descriptor: int) -> Digest:
    sha256 = hashlib.sha256()
    offset = 0
    while piece := os.pread(descriptor, _STEP_BYTES, offset):
        sha256.update(piece)
        offset += len(piece)
    return Digest(sha256.hexdigest())
