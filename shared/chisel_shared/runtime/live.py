"""The live end of output: the copies that the server sends of what it stores, kept for a moment."""

from collections import deque
from collections.abc import Callable

from chisel_shared.runtime.streams import Chunk, Streams, TailSubscription

_TAIL_BYTES = 2 << 20


class Tail:
    """The live end of one attempt's output, shared by its followers: a ring of the newest chunks."""

    def __init__(self) -> None:
        self._chunks: deque[Chunk] = deque()
        self._bytes = 0
        self._first = 0
        self._wakers: set[Callable[[], None]] = set()
        self._subscription: TailSubscription | None = None

    async def open(self, streams: Streams, subject: str) -> None:
        """Start listening; returns when nothing stored from now on can be missed, bar lost copies.
        `Unavailable` leaves nothing behind."""
        self._subscription = await streams.tail(subject, self.push)
        try:
            await streams.flush()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        if self._subscription is not None:
            await self._subscription.close()

    def push(self, chunk: Chunk) -> None:
        self._chunks.append(chunk)
        self._bytes += len(chunk.data)
        while self._bytes > _TAIL_BYTES and len(self._chunks) > 1:
            self._bytes -= len(self._chunks.popleft().data)
            self._first += 1
        for wake in self._wakers:
            wake()

    @property
    def next_index(self) -> int:
        """The index the next chunk will have."""
        return self._first + len(self._chunks)

    def holds(self, index: int) -> bool:
        """Whether `index` has not yet fallen out of the ring."""
        return index >= self._first

    def get(self, index: int) -> Chunk | None:
        """The chunk at `index`, None when it has not come yet; `index` must be held."""
        place = index - self._first
        return self._chunks[place] if place < len(self._chunks) else None

    def attach(self, wake: Callable[[], None]) -> None:
        self._wakers.add(wake)

    def detach(self, wake: Callable[[], None]) -> None:
        self._wakers.discard(wake)
