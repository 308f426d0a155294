"""The traces of one attempt: seen as they are recorded, packed and uploaded as they appear.

A trace file appears whole and keeps its name. What was uploaded is written down beside the folder; the
files themselves stay, for the job may look.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

from chisel_agent.bundles import retrying
from chisel_agent.capture_folder import MOST_REFUSED, CaptureFolder, Seen
from chisel_agent.captures import GIVEN_UP, Captures, Reports
from chisel_agent.outgoing import OutgoingTrace
from chisel_agent.packing import Moved, Packed, Packing, TooLargeToStore, pieces
from chisel_agent.settled import Mark, Outcome, Settled
from chisel_shared.contract.errors import ChiselError
from chisel_shared.contract.files import MAX_BYTES, FileKind
from chisel_shared.contract.messages import AttemptRef
from chisel_shared.contract.traces import TraceState
from chisel_shared.runtime.failpoints import failpoint
from chisel_shared.runtime.logs import Log

log = Log("chisel.agent.traces")

_LOOK_SECONDS = 1.0
_TELL_SECONDS = 2.0
"""How long a trace waits for storage to hear of it first: whoever reads it wants its sidecar."""


class TraceSink(Protocol):
    async def trace_bytes(self, ref: AttemptRef, trace: OutgoingTrace) -> int:
        """How much of it is stored by now."""

    async def store_trace(self, ref: AttemptRef, trace: OutgoingTrace, offset: int) -> None:
        """Store the rest, from `offset` on."""


class TraceUploads:
    def __init__(
        self, *, store: TraceSink, reports: Reports, ref: AttemptRef, folder: Path, reserve_bytes: int = 0
    ) -> None:
        self._store = store
        self._ref = ref
        self._folder = CaptureFolder(folder / "traces")
        self._settled = Settled(folder / "traces.uploaded")
        self._captures = Captures(
            reports=reports, ref=ref, folder=self._folder, record=folder / "traces.seen"
        )
        self._moved = Moved()
        self._packing = Packing(
            traces=self._folder,
            folder=folder / "traces.packed",
            reserve_bytes=reserve_bytes,
            moved=self._moved,
        )
        self._ended = ""
        self._missing: set[str] = set()
        self._refused: set[str] = set()
        self._pending = 0
        self._busy = asyncio.Lock()
        for name, outcome in self._settled.outcomes.items():
            self._take_in(name, outcome)

    @property
    def count(self) -> int:
        """How many trace files are stored."""
        return self._settled.count

    @property
    def late(self) -> int:
        """How many are whole and not stored yet."""
        return self._pending

    @property
    def lost(self) -> int:
        return self._captures.lost()

    @property
    def moved_bytes(self) -> int:
        return self._moved.bytes

    async def watch(self) -> None:
        """See and upload what appears, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._captures.tell_on(), name="tell of captures")
            seen_at = -1
            while True:
                changed_at = self._folder.changed_at()
                if changed_at != seen_at or self._missing:
                    seen_at = changed_at
                    pending = self._look()
                    if pending:
                        await self._upload(pending)
                        seen_at = -1  # there is time to have missed something
                await asyncio.sleep(_LOOK_SECONDS)

    def end(self, reason: str) -> None:
        """The job is over: what was being recorded is lost, for `reason`."""
        self._ended = reason
        self._look()

    async def upload_all(self) -> None:
        """Return when every trace there is now is stored or refused, and storage knows of all that there
        will never be, however long that takes."""
        async with asyncio.TaskGroup() as tasks:
            telling = tasks.create_task(self._captures.tell_on(), name="tell of captures")
            while pending := self._look():
                await self._upload(pending)
            telling.cancel()
        await self._captures.tell_all()

    def _look(self) -> list[tuple[str, Mark]]:
        """Take in what is there; the files that are to be uploaded."""
        seen = self._folder.look()
        for name in sorted(seen.refused - self._refused)[: MOST_REFUSED - len(self._refused)]:
            self._refused.add(name)
            log.warning("trace_name_refused", name=name)
        pending = []
        for name, mark in sorted(seen.files.items()):
            if not self._settled.knows(name, mark) and self._captures.takes(name):
                self._captures.uploading(name)
                pending.append((name, mark))
        for name in filter(self._captures.takes, seen.open - seen.files.keys()):
            self._captures.recording(name)
        self._look_for_missing(seen)
        self._pending = len(pending)
        return pending

    def _look_for_missing(self, seen: Seen) -> None:
        """What was being recorded and is not there any more. One look may meet a file on its way from one
        name to the other; two cannot."""
        missing = set(self._captures.in_state(TraceState.RECORDING)) - seen.files.keys()
        for name in missing:
            if name in seen.open:
                if self._ended:
                    self._captures.lose(name, self._ended)
            elif self._ended or name in self._missing:
                self._captures.lose(name, GIVEN_UP)
        self._missing = missing - seen.open if not self._ended else set()

    async def _upload(self, pending: list[tuple[str, Mark]]) -> None:
        async with self._busy:
            for name, mark in pending:
                if not self._settled.knows(name, mark):
                    await self._upload_one(name, mark)
                self._pending -= 1

    async def _upload_one(self, name: str, mark: Mark) -> None:
        outcome = await self._stored(name, mark)
        self._settled.note(name, outcome)
        self._take_in(name, outcome)
        if outcome.stored:
            log.info("trace_uploaded", size_bytes=mark[0])
        else:
            log.warning("trace_refused", reason=outcome.reason)

    def _take_in(self, name: str, outcome: Outcome) -> None:
        if outcome.stored:
            self._captures.stored(name)
        else:
            self._captures.lose(name, outcome.reason or "it was refused")

    async def _stored(self, name: str, mark: Mark) -> Outcome:
        try:
            packed = await self._packing.pack(name, mark)
            await self._heard_of(name)
            await retrying(lambda: self._send(packed), what="trace", cleanup=lambda: None)
        except TooLargeToStore:
            return Outcome(mark, False, f"it has more than {MAX_BYTES[FileKind.TRACE]:,} bytes")
        except OSError as error:
            return Outcome(mark, False, f"its file cannot be read any more ({error.strerror or error})")
        except ChiselError as error:
            return Outcome(mark, False, str(error))
        failpoint("trace.stored")
        await asyncio.to_thread(self._packing.drop, packed)
        return Outcome(mark, True)

    async def _heard_of(self, name: str) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_TELL_SECONDS):
                if not self._captures.told(name):
                    await self._captures.tell_all()

    async def _send(self, packed: Packed) -> None:
        descriptor = self._packing.open(packed)
        try:

            def read(offset: int) -> AsyncIterator[bytes]:
                return self._noted(packed, descriptor, offset)

            trace = OutgoingTrace(
                name=packed.name, size=packed.size, digest=packed.digest, raw=packed.raw, pieces=read
            )
            offset = await self._store.trace_bytes(self._ref, trace)
            self._captures.uploading(packed.name, sent=offset, total=packed.size)
            await self._store.store_trace(self._ref, trace, offset)
        finally:
            os.close(descriptor)

    async def _noted(self, packed: Packed, descriptor: int, offset: int) -> AsyncIterator[bytes]:
        async for piece in pieces(descriptor, offset, packed.size):
            yield piece
            offset += len(piece)
            self._captures.uploading(packed.name, sent=offset, total=packed.size)
            # What is sent again is no progress.
            self._moved.reach(packed.digest, offset)
