"""One job watched: its changes as they come, its output from a position to the end, then the end.

Attempts follow each other in order. An attempt that ended with its agent says how many bytes to wait
for; one that was lost, or is archived, ends where its stored bytes end.
"""

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from functools import partial
from typing import Protocol

from chisel_gateway.calls import beside, forever
from chisel_gateway.feed import Feed, Watch
from chisel_gateway.selection import Selection, Stamps
from chisel_gateway.storage import StorageClient
from chisel_shared.contract.errors import Unavailable
from chisel_shared.contract.frames import Begin, End, Follow, Position, ServerFrame, Stamp, Update
from chisel_shared.contract.ids import AgentId, ProjectId
from chisel_shared.contract.job import FINAL, EndReason, JobEnd, JobState, JobView
from chisel_shared.contract.messages import GetAttempt
from chisel_shared.runtime.bus import Bus
from chisel_shared.runtime.live import Tail
from chisel_shared.runtime.output import STREAMS, Follower
from chisel_shared.runtime.streams import Chunk, Streams, attempt_subject

_MISSING_SECONDS = 10.0
_RETRY_SECONDS = 0.2
_UNCERTAIN = (EndReason.LEASE_EXPIRED, EndReason.AGENT_LOST)


class Sink(Protocol):
    """Where a followed job goes. Both wait while the receiver does not keep up."""

    async def send(self, frame: ServerFrame) -> None: ...

    async def send_output(self, attempt: int, chunk: Chunk) -> None: ...


def _moment(since: float | None) -> float | None:
    """The time that is meant: a negative one counts back from now."""
    return time.time() + since if since is not None and since < 0 else since


def is_over(view: JobView, attempt: int) -> bool:
    """Whether nothing more can come of `attempt`, by what `view` says."""
    return view.attempt > attempt or view.state in FINAL or view.state is JobState.QUEUED


class Following:
    """What it takes to follow jobs; one for the whole gateway."""

    def __init__(self, *, bus: Bus, streams: Streams, feed: Feed, storage: StorageClient) -> None:
        self._bus = bus
        self._streams = streams
        self._feed = feed
        self._storage = storage

    async def follow(self, view: JobView, project_id: ProjectId, wanted: Follow, sink: Sink) -> None:
        """Send what is `wanted` of what happens to a job until its end; without `live`, of what has
        happened by now. `Unavailable` when a job has ended and parts of its output have not been stored
        yet."""
        async with (
            self._feed.watch(view, project_id) as watch,
            beside(_send_changes(watch, view, sink), name=f"changes {view.id}"),
        ):
            if wanted.output:
                await self._send_attempts(watch, wanted, sink)
            while wanted.live and view.state not in FINAL:
                view = await watch.newer_than(view)
        await sink.send(End(job=watch.view))

    async def _send_attempts(self, watch: Watch, wanted: Follow, sink: Sink) -> None:
        live, position = wanted.live, wanted.position
        attempt = max(1, position.attempt if wanted.tail is None else watch.view.attempt)
        offsets = {"stdout": position.stdout, "stderr": position.stderr}
        since = _moment(wanted.since)
        tail = wanted.tail
        while True:
            view = watch.view
            while live and view.attempt < attempt and view.state not in FINAL:
                view = await watch.newer_than(view)
            if view.attempt < attempt:
                return
            if tail is not None or (since is not None and attempt != position.attempt):
                offsets = await self._begin(view, attempt, wanted.streams or STREAMS, tail, since)
                tail = None
                await sink.send(Begin(position=Position(attempt, **offsets)))
            for name in STREAMS if wanted.streams else ():
                if name not in wanted.streams:
                    offsets[name] = sys.maxsize
            await self.send_attempt(watch, attempt, offsets, sink, live=live, stamped=wanted.timestamps)
            if watch.view.attempt <= attempt and (not live or watch.view.state in FINAL):
                return
            attempt, offsets = attempt + 1, {}

    async def _begin(
        self, view: JobView, attempt: int, names: Sequence[str], tail: int | None, since: float | None
    ) -> dict[str, int]:
        """Where the wanted part of an attempt's output begins; what satisfies both wishes, if there are
        two."""
        agent_id = await self._agent_of(view, attempt)
        prefix = attempt_subject(agent_id, view.id, attempt, "")[:-1]
        selection = Selection(
            streams=self._streams, storage=self._storage, prefix=prefix, job_id=view.id, attempt=attempt
        )
        found = [dict.fromkeys(STREAMS, 0)]
        while True:
            try:
                if tail is not None:
                    found.append(await selection.tail(tail, names))
                if since is not None:
                    found.append(await selection.since(since))
                return {name: max(places.get(name, 0) for places in found) for name in STREAMS}
            except Unavailable:
                await asyncio.sleep(_RETRY_SECONDS)

    async def send_attempt(
        self,
        watch: Watch,
        attempt: int,
        offsets: dict[str, int],
        sink: Sink,
        *,
        live: bool,
        stamped: bool = False,
    ) -> None:
        """Send one attempt's output to its end, or what there is of it by now if it goes on; `stamped`
        tells before each part when it came."""
        view = watch.view
        agent_id = await self._agent_of(view, attempt)
        async with AsyncExitStack() as stack:
            tail = None
            if (live or is_over(view, attempt)) and not (view.archived and view.state in FINAL):
                tail = await stack.enter_async_context(self._feed.tail(agent_id, view.id, attempt))
            follower = self._follower(agent_id, view, attempt, offsets, tail)
            await stack.enter_async_context(
                beside(self._tell_end(watch, attempt, follower), name=f"ending {view.id}")
            )
            chunks = await stack.enter_async_context(aclosing(follower.chunks()))
            stamps = Stamps(storage=self._storage, job_id=view.id, attempt=attempt)
            while (chunk := await self._next(chunks, view, patient=live)) is not None:
                if chunk.capped and is_over(watch.view, attempt):
                    continue  # what it says is no longer so
                if not stamped or chunk.capped:
                    await sink.send_output(attempt, chunk)
                    continue
                async for piece in stamps.split(chunk):
                    await sink.send(Stamp(time=piece.time))
                    await sink.send_output(attempt, piece)

    async def _next(
        self, chunks: AsyncGenerator[Chunk, None], view: JobView, *, patient: bool
    ) -> Chunk | None:
        """The next chunk, None at the end. Who asked for no more than there is does not wait for ever
        for the rest of an ended job, but never takes a part of it for the whole."""
        try:
            async with asyncio.timeout(None if patient else _MISSING_SECONDS):
                return await anext(chunks, None)
        except TimeoutError:
            raise Unavailable(
                f"job {view.id} has ended, but not all of its output is stored yet; try again"
            ) from None

    async def copy_stored(
        self,
        view: JobView,
        attempt: int,
        offsets: dict[str, int],
        write: Callable[[bytes], Awaitable[None]],
    ) -> int:
        """Write what is stored of an attempt by now, both streams from their offsets on; how much it was."""
        copied = 0
        follower = self._follower(await self._agent_of(view, attempt), view, attempt, offsets)
        async with aclosing(follower.chunks()) as chunks:
            async for chunk in chunks:
                if chunk.data:
                    await write(chunk.data)
                copied += len(chunk.data)
        return copied

    def _follower(
        self,
        agent_id: AgentId,
        view: JobView,
        attempt: int,
        offsets: dict[str, int],
        tail: Tail | None = None,
    ) -> Follower:
        return Follower(
            streams=self._streams,
            subject_prefix=attempt_subject(agent_id, view.id, attempt, "")[:-1],
            offsets=offsets,
            tail=tail,
            archive=partial(self._storage.output, view.id, attempt),
        )

    async def _tell_end(self, watch: Watch, attempt: int, follower: Follower) -> None:
        """Tell `follower` where the attempt ends, as soon as that is known."""
        view = watch.view
        while not is_over(view, attempt):
            view = await watch.newer_than(view)
        end = await self.certain_end(view, attempt)
        if end is not None:
            follower.expect(stdout=end.stdout_bytes, stderr=end.stderr_bytes)
            while not view.archived:
                view = await watch.newer_than(view)
        follower.settle()

    async def certain_end(self, view: JobView, attempt: int) -> JobEnd | None:
        """How an attempt ended, with its totals; None when it goes on, or was lost with them."""
        if not is_over(view, attempt):
            return None
        end = view.end if view.attempt == attempt else None
        if end is None:
            end = (await forever(self._bus, GetAttempt(job_id=view.id, attempt=attempt))).end
        return None if end is None or end.reason in _UNCERTAIN else end

    async def _agent_of(self, view: JobView, attempt: int) -> AgentId:
        if view.attempt == attempt and view.agent_id is not None:
            return view.agent_id
        return (await forever(self._bus, GetAttempt(job_id=view.id, attempt=attempt))).agent_id


async def _send_changes(watch: Watch, seen: JobView, sink: Sink) -> None:
    while True:
        seen = await watch.newer_than(seen)
        await sink.send(Update(job=seen))
