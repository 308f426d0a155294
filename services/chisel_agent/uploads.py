"""Uploads files of one attempt and remembers which, so that an agent's restart uploads only the rest."""

import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol

from chisel_agent.bundles import retrying
from chisel_agent.outgoing import Outgoing
from chisel_agent.settled import Mark, Outcome, Settled
from chisel_shared.contract.errors import ChiselError
from chisel_shared.contract.files import FileKind, FileMode
from chisel_shared.contract.ids import Digest
from chisel_shared.contract.messages import AttemptRef
from chisel_shared.runtime.logs import Log

log = Log("chisel.agent.uploads")

_STEP_BYTES = 1 << 20


class FileStore(Protocol):
    async def store_file(self, ref: AttemptRef, file: Outgoing) -> None: ...


class Uploads:
    """`record` is the file that remembers: a line for each file dealt with, stored or refused."""

    def __init__(self, *, store: FileStore, ref: AttemptRef, kind: FileKind, record: Path) -> None:
        self._store = store
        self._ref = ref
        self._kind = kind
        self._settled = Settled(record)
        self.moved_bytes = 0
        """Grows while an upload gets on, and stands still when it only begins again and again."""

    @property
    def count(self) -> int:
        """How many files are stored."""
        return self._settled.count

    def is_settled(self, path: str, mark: Mark) -> bool:
        return self._settled.knows(path, mark)

    def _settle(self, path: str, mark: Mark, *, stored: bool) -> None:
        self._settled.note(path, Outcome(mark, stored))

    async def upload(self, path: str, *, mark: Mark, mode: FileMode, opened: Callable[[], int]) -> None:
        """Return when the file that `opened` opens is stored or refused, however long that takes. One
        that cannot be stored is told to the log: it never costs the job its result."""
        self._settle(path, mark, stored=await self._stored(path, mode, opened))

    async def upload_link(self, path: str, target: str, *, mark: Mark) -> None:
        """The same for a link."""
        data = target.encode()

        async def pieces() -> AsyncIterator[bytes]:
            yield data

        digest = Digest(hashlib.sha256(data).hexdigest())
        self._settle(path, mark, stored=await self._send(path, FileMode.LINK, len(data), digest, pieces))

    async def _stored(self, path: str, mode: FileMode, opened: Callable[[], int]) -> bool:
        try:
            descriptor = opened()
        except OSError as error:
            log.warning("file_unreadable", kind=self._kind, error=repr(error))
            return False
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return False
            digest, size = await asyncio.to_thread(_digest, descriptor)
            reached = 0

            async def pieces() -> AsyncIterator[bytes]:
                nonlocal reached
                offset = 0
                while piece := await asyncio.to_thread(os.pread, descriptor, _STEP_BYTES, offset):
                    offset += len(piece)
                    self.moved_bytes += max(0, offset - reached)
                    reached = max(reached, offset)
                    yield piece

            return await self._send(path, mode, size, digest, pieces)
        except OSError as error:
            log.warning("file_unreadable", kind=self._kind, error=repr(error))
            return False
        finally:
            os.close(descriptor)

    async def _send(
        self, path: str, mode: FileMode, size: int, digest: Digest, pieces: Callable[[], AsyncIterator[bytes]]
    ) -> bool:
        file = Outgoing(kind=self._kind, path=path, mode=mode, size=size, digest=digest, pieces=pieces)
        try:
            await retrying(
                lambda: self._store.store_file(self._ref, file), what=self._kind, cleanup=lambda: None
            )
        except ChiselError as error:
            log.warning("file_refused", kind=self._kind, error=str(error))
            return False
        log.info("file_uploaded", kind=self._kind, size_bytes=size)
        return True


def _digest(descriptor: int) -> tuple[Digest, int]:
    sha256 = hashlib.sha256()
    offset = 0
    while piece := os.pread(descriptor, _STEP_BYTES, offset):
        sha256.update(piece)
        offset += len(piece)
    return Digest(sha256.hexdigest()), offset
