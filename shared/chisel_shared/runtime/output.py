"""The output protocol: bytes with offsets, written once, read from any offset, exact through any crash.

`Shipper` (the agent) copies a growing spool file into `OUT`, one publish in flight, each a
compare-and-set on its subject. `Follower` (gateway, storage) yields an attempt's bytes from given
offsets: stored chunks by batched direct get, live ones from a `Tail` shared by all followers of the
attempt, holes from storage's archive. Only byte offsets decide what is delivered; sequences are
hints, because a re-created stream numbers from one again and a resent spool is cut differently.
"""

import asyncio
import hashlib
import os
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from chisel_shared.contract.errors import NotFound, Unavailable
from chisel_shared.runtime.live import Tail
from chisel_shared.runtime.logs import Log
from chisel_shared.runtime.streams import MAX_CHUNK_BYTES, Behind, Chunk, Full, Streams

STREAMS = ("stdout", "stderr")

log = Log("chisel.output")

_RETRY_SECONDS = 0.1
_GATHER_SECONDS = 0.005
"""While output keeps coming, small chunks follow one another no faster than this: each costs the
server a write to disk, whatever its size. A line after silence is sent at once."""
_FULL_SECONDS = 0.5
_SPOOL_POLL_SECONDS = 0.5
"""A lost doorbell costs at most this much delay."""
_IDLE_CHECK_SECONDS = 5.0
_HASH_STEP_BYTES = 8 << 20


class Shipper:
    """Copies one spool file into one subject of `OUT`.

    Needs no journal: the subject's last chunk says where to go on. The spool is kept until storage
    has archived the attempt, and a stream that was wiped is filled again from it: while the job is
    silent this looks after what it has shipped, and after the end `run` may be called again.
    """

    def __init__(
        self, *, streams: Streams, subject: str, spool: Path, is_capped: Callable[[], bool] = lambda: False
    ) -> None:
        """`is_capped`: whether the spool will not grow any more until the job has ended."""
        self._streams = streams
        self._subject = subject
        self._spool = spool
        self._is_capped = is_capped
        self._told_capped = False
        self._offset = 0
        self._last = 0
        self._total: int | None = None
        self._wake = asyncio.Event()
        self._hash = hashlib.sha256()
        self._hashed = 0
        self._shipped_at = 0.0

    @property
    def shipped_bytes(self) -> int:
        return self._offset

    def nudge(self) -> None:
        """The spool may have grown."""
        self._wake.set()

    def finish(self, total: int) -> None:
        """Nothing will be written beyond `total` bytes."""
        self._total = total
        self._wake.set()

    async def run(self) -> str:
        """Ship until `finish`'s total is stored; returns the sha256 of all bytes, "" when the spool has
        lost some that were stored: a machine that loses its power may forget what it wrote last."""
        descriptor = os.open(self._spool, os.O_RDONLY | os.O_CLOEXEC)
        try:
            finished = await self._resume()
            while not finished:
                self._wake.clear()
                if self._total is not None and self._offset > self._total:
                    log.warning("spool_shorter_than_store", subject=self._subject, offset=self._offset)
                    self._total = self._offset
                data = os.pread(descriptor, MAX_CHUNK_BYTES, self._offset)
                if self._may_grow(data):
                    await asyncio.sleep(_GATHER_SECONDS)
                    data = os.pread(descriptor, MAX_CHUNK_BYTES, self._offset)
                if data or self._offset == self._total:
                    finished = await self._ship(data)
                    self._shipped_at = time.monotonic()
                elif self._capped_here():
                    finished = await self._ship(b"", capped=True)
                elif not await self._nudged():
                    finished = await self._resume()
            whole = await self._hash_up_to(descriptor, self._offset)
        finally:
            os.close(descriptor)
        return self._hash.hexdigest() if whole else ""

    def _may_grow(self, data: bytes) -> bool:
        """Whether `data` is a piece of a steady flow and not yet a whole chunk."""
        return (
            0 < len(data) < MAX_CHUNK_BYTES
            and self._total is None
            and time.monotonic() - self._shipped_at < _GATHER_SECONDS
        )

    def _capped_here(self) -> bool:
        """Whether those who follow are to hear that they have seen all that there will be for now."""
        return (
            not self._told_capped
            and self._total is None
            and self._is_capped()
            and self._spool.stat().st_size == self._offset
        )

    async def _nudged(self) -> bool:
        """Wait for bytes; False when for so long none came that the store should be looked at."""
        end = asyncio.get_running_loop().time() + _IDLE_CHECK_SECONDS
        while not self._wake.is_set():
            try:
                async with asyncio.timeout(_SPOOL_POLL_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                if self._spool.stat().st_size > self._offset:
                    return True
                if asyncio.get_running_loop().time() >= end:
                    return False
        return True

    async def _resume(self) -> bool:
        while True:
            try:
                return self._go_on_from(await self._streams.last(self._subject))
            except Unavailable:
                await asyncio.sleep(_RETRY_SECONDS)

    def _go_on_from(self, last: Chunk | None) -> bool:
        self._offset, self._last = (last.end, last.sequence) if last else (0, 0)
        self._told_capped = last is not None and last.capped
        return last is not None and last.eof is not None

    async def _ship(self, data: bytes, *, capped: bool = False) -> bool:
        """Store `data` at the current offset; True when that was the end."""
        eof = self._total if self._offset + len(data) == self._total else None
        throttled = False
        while True:
            try:
                self._last = await self._streams.append(
                    self._subject, data, offset=self._offset, after=self._last, eof=eof, capped=capped
                )
            except Behind as found:
                # Either this very chunk got in although its answer was lost, or the store ends
                # elsewhere (a longer chunk of an earlier agent, or nothing after a wipe): go there.
                log.debug("output_rewound", subject=self._subject, to=found.last and found.last.end)
                return self._go_on_from(found.last)
            except Full:
                if not throttled:
                    log.warning("output_throttled", subject=self._subject, offset=self._offset)
                throttled = True
                await asyncio.sleep(_FULL_SECONDS)
            except Unavailable:
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                if self._hashed == self._offset:
                    self._hash.update(data)
                    self._hashed += len(data)
                self._offset += len(data)
                self._told_capped = capped
                return eof is not None

    async def _hash_up_to(self, descriptor: int, end: int) -> bool:
        while self._hashed < end:
            data = os.pread(descriptor, min(_HASH_STEP_BYTES, end - self._hashed), self._hashed)
            if not data:
                return False
            await asyncio.to_thread(self._hash.update, data)
            self._hashed += len(data)
        return True


Archive = Callable[[str, int], AsyncGenerator[bytes, None]]
"""`archive(stream, offset)`: the archived bytes from `offset` on; `NotFound` when there are none."""


class Follower:
    """Yields one attempt's output from given offsets: every byte once, each stream in order, and where it
    stops for now the `capped` chunk that says so, perhaps again.

    It pulls: a slow consumer costs one batch of memory, never a queue. Without a `tail` it yields
    what is stored by now and ends; with one it goes on until both totals are known and reached.
    """

    def __init__(
        self, *, streams: Streams, subject_prefix: str, offsets: dict[str, int],
        tail: Tail | None = None, archive: Archive | None = None,
    ) -> None:  # fmt: skip
        self._streams, self._prefix = streams, subject_prefix
        self.offsets = {name: offsets.get(name, 0) for name in STREAMS}
        self._tail, self._archive = tail, archive
        self._totals: dict[str, int] = {}
        self._read_to = _unread()
        self._wake = asyncio.Event()

    @property
    def complete(self) -> bool:
        return all(name in self._totals and self.offsets[name] >= self._totals[name] for name in STREAMS)

    def expect(self, *, stdout: int, stderr: int) -> None:
        """The attempt ended with these totals: stop when they are reached."""
        self._totals = {"stdout": stdout, "stderr": stderr}
        self._wake.set()

    def settle(self) -> None:
        """The attempt is gone and nobody knows its totals: stop at the end of what is stored."""
        self._tail = None
        self._wake.set()

    async def chunks(self) -> AsyncGenerator[Chunk, None]:
        """The output, chunk by chunk. Close it (`aclosing`) when leaving early."""
        attached = self._tail
        if attached is not None:
            attached.attach(self._wake.set)
        try:
            index: int | None = None
            look_at = 0.0
            while not self.complete:
                try:
                    tail = self._tail
                    if tail is None or index is None or not tail.holds(index):
                        resume_at = tail.next_index if tail else None
                        async with aclosing(self._caught_up()) as pieces:
                            async for piece in pieces:
                                yield piece
                        if self._tail is None and tail is None:
                            return
                        index, look_at = resume_at, time.monotonic() + _IDLE_CHECK_SECONDS
                        continue
                    self._wake.clear()
                    chunk = tail.get(index)
                    if chunk is None and await self._woken(tail, index):
                        continue
                    in_time = time.monotonic() < look_at
                    if chunk is not None and in_time and (cut := self._cut(chunk)) is not None:
                        index += 1
                        if cut.data or cut.capped:
                            yield cut
                        continue
                    # A copy was lost, or one may be: the flow of one stream tells nothing of the other.
                    async with aclosing(self._missed()) as pieces:
                        async for piece in pieces:
                            yield piece
                    look_at = time.monotonic() + _IDLE_CHECK_SECONDS
                    if chunk is not None and chunk.offset > self.offsets[chunk.stream]:
                        self._hole(chunk)
                except Unavailable:
                    index = None
                    await asyncio.sleep(_RETRY_SECONDS)
        finally:
            if attached is not None:
                attached.detach(self._wake.set)

    def _cut(self, chunk: Chunk) -> Chunk | None:
        """What of `chunk` is new; None when bytes before it are missing."""
        have = self.offsets[chunk.stream]
        if chunk.offset > have:
            return None
        if chunk.eof is not None:
            self._totals[chunk.stream] = chunk.eof
        data = chunk.data[have - chunk.offset :] if chunk.end > have else b""
        if data and chunk.sequence < self._read_to[chunk.stream]:
            self._read_to = _unread()  # new bytes under an old number: the stream was made anew
        self._note_read(chunk.sequence, chunk.stream)
        self.offsets[chunk.stream] = have + len(data)
        return replace(chunk, offset=have, data=data, capped=chunk.capped and chunk.offset == have)

    def _note_read(self, sequence: int, *names: str) -> None:
        for name in names:
            self._read_to[name] = max(self._read_to[name], sequence)

    def _hole(self, chunk: Chunk) -> NoReturn:
        """Neither stream nor archive has the bytes before `chunk` yet: one of them is about to."""
        self._read_to = _unread()
        raise Unavailable(f"{self._prefix}.{chunk.stream} has a hole at {self.offsets[chunk.stream]}")

    async def _stored(self, *names: str) -> AsyncGenerator[Chunk, None]:
        """What is stored of one stream, or both, beyond what was read; the archive fills holes."""
        subject, names, more = f"{self._prefix}.{names[0] if names else '*'}", names or STREAMS, True
        while more and not self.complete:
            chunks, more = await self._streams.read(subject, after=min(self._read_to[n] for n in names))
            for chunk in chunks:
                if chunk.offset > self.offsets[chunk.stream]:
                    async with aclosing(self._archived(chunk.stream)) as pieces:
                        async for piece in pieces:
                            yield piece
                cut = self._cut(chunk)
                if cut is None:
                    self._hole(chunk)
                self._note_read(chunk.sequence, *names)
                if cut.data or cut.capped:
                    yield cut

    async def _archived(self, *names: str) -> AsyncGenerator[Chunk, None]:
        """What the archive holds beyond what was read."""
        for name in names:
            if self._archive is None or self.offsets[name] >= self._totals.get(name, sys.maxsize):
                continue
            try:
                async with aclosing(self._archive(name, self.offsets[name])) as pieces:
                    async for data in pieces:
                        offset = self.offsets[name]
                        self.offsets[name] = offset + len(data)
                        yield Chunk(stream=name, offset=offset, data=data, sequence=0)
            except NotFound:
                continue

    async def _caught_up(self) -> AsyncGenerator[Chunk, None]:
        """Everything there is by now. Of an attempt that ended, the archive may have the rest."""
        async with aclosing(self._stored()) as pieces:
            async for piece in pieces:
                yield piece
        if self._tail is None or self._totals:
            async with aclosing(self._archived(*STREAMS)) as pieces:
                async for piece in pieces:
                    yield piece

    async def _woken(self, tail: Tail, index: int) -> bool:
        """Wait for something to happen; whether that was a live copy at `index`."""
        try:
            async with asyncio.timeout(_IDLE_CHECK_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            return False
        return not tail.holds(index) or tail.get(index) is not None

    async def _missed(self) -> AsyncGenerator[Chunk, None]:
        """What live copies did not bring: they were lost, or the bytes were purged before they came."""
        seen = max(self._read_to.values())
        for name in STREAMS:
            last = await self._streams.last(f"{self._prefix}.{name}")
            end_known = last is None or last.eof is None or name in self._totals
            if last is None or (end_known and last.end <= self.offsets[name]):
                self._note_read(seen, name)
                continue
            if last.sequence <= self._read_to[name]:
                self._read_to[name] = 0  # the stream was made anew
            async with aclosing(self._stored(name)) as pieces:
                async for piece in pieces:
                    yield piece
        if self._totals:
            async with aclosing(self._archived(*STREAMS)) as pieces:
                async for piece in pieces:
                    yield piece


def _unread() -> dict[str, int]:
    """Sequences up to which each stream has been read; hints, never relied on."""
    return dict.fromkeys(STREAMS, 0)
