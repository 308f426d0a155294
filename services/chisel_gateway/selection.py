"""Where output begins for a reader who does not want all of it, and when each part of it came.

What lies on the bus is asked first and the archive after it: bytes move from the one to the other,
never back, so nothing can be missed in between.
"""

from bisect import bisect_right
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace

from chisel_gateway.storage import StorageClient
from chisel_shared.contract.ids import JobId
from chisel_shared.contract.outputs import Mark
from chisel_shared.runtime.output import STREAMS
from chisel_shared.runtime.streams import Chunk, Streams

_FIRST_SPAN, _WIDER = 64, 8
_MAX_BYTES = 64 << 20
"""Lines longer than this together are shown from their middle on."""


class Selection:
    """Of one attempt, whose output lies on the subjects `prefix`.*"""

    def __init__(
        self, *, streams: Streams, storage: StorageClient, prefix: str, job_id: JobId, attempt: int
    ) -> None:
        self._streams, self._storage = streams, storage
        self._prefix, self._job_id, self._attempt = prefix, job_id, attempt

    async def since(self, time: float) -> dict[str, int]:
        """Where each stream stood when the first byte at or after `time` came."""
        return {name: await self._since(name, time) for name in STREAMS}

    async def _since(self, name: str, time: float) -> int:
        chunks, _ = await self._streams.read(f"{self._prefix}.{name}", after=0, since=time)
        last = await self._streams.last(f"{self._prefix}.{name}")
        archived = await self._storage.since(self._job_id, self._attempt, name, time)
        if archived.marks:
            return archived.marks[0].offset
        if chunks:
            return max(chunks[0].offset, archived.end)
        return max(last.end if last else 0, archived.end)

    async def tail(self, count: int, names: Sequence[str] = STREAMS) -> dict[str, int]:
        """Where the last `count` lines of the streams `names` together begin, by when they came."""
        lines: list[tuple[float, str, int]] = []
        begins: dict[str, int] = {}
        for name in names:
            marks, begins[name] = await self._last_lines(name, count)
            latest = 0.0
            for mark in marks:
                # Never earlier than the line before it, or a stream could lose one from its middle.
                latest = max(latest, mark.time)
                lines.append((latest, name, mark.offset))
        lines.sort()
        for _, name, offset in lines[len(lines) - min(count, len(lines)) :]:
            begins[name] = min(begins[name], offset)
        return begins

    async def _last_lines(self, name: str, count: int) -> tuple[list[Mark], int]:
        """The last lines of one stream, ascending, and its end."""
        subject = f"{self._prefix}.{name}"
        last = await self._streams.last(subject)
        chunks: list[Chunk] = []
        marks: list[Mark] = []
        span = _FIRST_SPAN
        while last is not None and count:
            after = max(0, last.sequence - span)
            chunks = await self._read(subject, after)
            marks = list(line_starts(chunks))
            if len(marks) >= count or not after or sum(len(chunk.data) for chunk in chunks) > _MAX_BYTES:
                break
            span *= _WIDER
        end = last.end if last is not None else 0
        if len(marks) < count and (not chunks or chunks[0].offset):
            # The byte that both have tells whether a line begins with the bus's first.
            before = chunks[0].offset + 1 if chunks else None
            wanted = count - len(marks)
            archived = await self._storage.last_lines(self._job_id, self._attempt, name, wanted, before)
            marks = [*archived.marks, *marks]
            end = max(end, archived.end)
        elif not count:
            end = max(end, (await self._storage.last_lines(self._job_id, self._attempt, name, 0, None)).end)
        return marks[-count:] if count else [], end

    async def _read(self, subject: str, after: int) -> list[Chunk]:
        found: list[Chunk] = []
        more = True
        while more:
            chunks, more = await self._streams.read(subject, after=after)
            if not chunks:
                break
            found += chunks
            after = chunks[-1].sequence
        return found


def line_starts(chunks: Sequence[Chunk]) -> Iterator[Mark]:
    """Where lines begin in consecutive chunks, as far as the bytes before them are known."""
    begins = bool(chunks) and chunks[0].offset == 0
    at = chunks[0].offset if chunks else 0
    for chunk in chunks:
        data = chunk.data[max(0, at - chunk.offset) :]  # chunks of two agents may overlap
        if data and begins:
            yield Mark(offset=at, time=chunk.time)
        place = data.find(b"\n")
        while 0 <= place < len(data) - 1:
            yield Mark(offset=at + place + 1, time=chunk.time)
            place = data.find(b"\n", place + 1)
        if data:
            begins = data.endswith(b"\n")
            at += len(data)


class Stamps:
    """When archived output came: cuts it where the time changes. What comes from the bus knows its own."""

    def __init__(self, *, storage: StorageClient, job_id: JobId, attempt: int) -> None:
        self._storage, self._job_id, self._attempt = storage, job_id, attempt
        self._marks: dict[str, tuple[Mark, ...]] = {}

    async def split(self, chunk: Chunk) -> AsyncIterator[Chunk]:
        """`chunk` as pieces, each with its `time`."""
        if chunk.time:
            yield chunk
            return
        offset = chunk.offset
        while offset < chunk.end:
            time, until = await self._covering(chunk.stream, offset)
            end = min(chunk.end, until)
            data = chunk.data[offset - chunk.offset : end - chunk.offset]
            yield replace(chunk, offset=offset, data=data, time=time)
            offset = end

    async def _covering(self, stream: str, offset: int) -> tuple[float, int]:
        """When the byte at `offset` came, and up to where the same is known to hold."""
        for asked in (False, True):
            if asked:
                answer = await self._storage.times(self._job_id, self._attempt, stream, offset)
                self._marks[stream] = (*answer.marks, Mark(offset=answer.end, time=0.0))[:_KEPT]
            marks = self._marks.get(stream, ())
            place = bisect_right(marks, offset, key=lambda mark: mark.offset)
            if 0 < place < len(marks):
                return marks[place - 1].time, marks[place].offset
        return 0.0, offset + (1 << 62)


_KEPT = 4_096
"""As many as storage tells at once: of a full answer the end is not where the last of them holds."""
