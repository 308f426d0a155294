"""Takes output over from the bus: read, append, sync, record, verify, say so, purge.

The scheduler's list of unarchived attempts is the truth, asked every few seconds and at once when a
job changed. Every step may be repeated and the process may die between any two: the recorded offsets
say where to go on, and bytes leave the bus only after they are on the disk and recorded. Running
attempts that fill the bus are relieved the same way, but for the last message of each stream, which
their writer's compare-and-set needs.
"""

import asyncio
import time
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from weakref import WeakValueDictionary

from chisel_shared.contract.errors import ChiselError, InternalError
from chisel_shared.contract.ids import AgentId, JobId
from chisel_shared.contract.job import FINAL, EndReason, JobEnd, JobState
from chisel_shared.contract.messages import AttemptView, JobChanged, ListUnarchived, MarkArchived
from chisel_shared.runtime.bus import Bus
from chisel_shared.runtime.failpoints import failpoint
from chisel_shared.runtime.logs import Log
from chisel_shared.runtime.output import STREAMS, Follower
from chisel_shared.runtime.service import every
from chisel_shared.runtime.streams import Chunk, Streams, Usage, attempt_subject
from chisel_storage.outputs import DiskOutputs
from chisel_storage.store import Archived, Store
from chisel_storage.times import Mark

log = Log("chisel.storage.archive")

_RECONCILE_SECONDS = 5.0
_LIST_LIMIT = 1_000
"""More than can be stuck at once, or the stuck ones would hide the rest."""
_SWEEP_SECONDS = 10.0
_AT_ONCE = 4
_STEP_BYTES = 4 << 20
"""What one attempt holds in memory before it is written, synced and recorded."""
_STALL_SECONDS = 10.0
_RETRY_SECONDS = (1.0, 4.0)
_MANY_MESSAGES = 20_000
_CROWDED, _SOME_MESSAGES = 0.25, 128
_UNCERTAIN = (EndReason.LEASE_EXPIRED, EndReason.AGENT_LOST)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an attempt's output lies on the bus."""

    agent_id: AgentId
    job_id: JobId
    attempt: int

    @property
    def key(self) -> tuple[JobId, int]:
        return self.job_id, self.attempt

    def subject(self, stream: str = "*") -> str:
        return attempt_subject(self.agent_id, self.job_id, self.attempt, stream)


def place_of(subject: str) -> Place:
    """The attempt whose output a subject of `OUT` carries."""
    _, agent_id, job_id, attempt, _ = subject.split(".")
    return Place(AgentId(agent_id), JobId(job_id), int(attempt))


def totals(end: JobEnd | None) -> dict[str, int] | None:
    """How much an attempt wrote; None when nobody can know, because it ended without its agent."""
    if end is None or end.reason in _UNCERTAIN:
        return None
    return {"stdout": end.stdout_bytes, "stderr": end.stderr_bytes}


def crowding(usage: Usage) -> set[Place]:
    """The attempts that hold so much of the bus that they must be relieved while they run."""
    many = _SOME_MESSAGES if usage.fraction > _CROWDED else _MANY_MESSAGES
    return {place_of(subject) for subject, messages in usage.messages.items() if messages > many}


class Archiver:
    """Moves output from the bus into files."""

    def __init__(
        self, *, bus: Bus, streams: Streams, store: Store, outputs: DiskOutputs, settle_seconds: float
    ) -> None:
        self._bus = bus
        self._streams = streams
        self._store = store
        self._outputs = outputs
        self._settle_seconds = settle_seconds
        self._wake = asyncio.Event()
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._locks: WeakValueDictionary[tuple[JobId, int], asyncio.Lock] = WeakValueDictionary()
        self._active: set[tuple[JobId, int]] = set()
        self._retry_at: dict[tuple[JobId, int], tuple[float, float]] = {}
        self._still: dict[tuple[JobId, int], tuple[Archived, float]] = {}

    async def on_changed(self, changed: JobChanged) -> None:
        """A hint: perhaps an attempt ended."""
        if changed.job.state in FINAL or changed.job.state is JobState.QUEUED:
            self._wake.set()

    async def run(self) -> None:
        """Take over whatever ends, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(every(_SWEEP_SECONDS, self.sweep, log=log, name="sweep"), name="sweep")
            while True:
                self._wake.clear()
                try:
                    for attempt in await self._due():
                        self._active.add((attempt.job_id, attempt.attempt))
                        group.create_task(self._attend(attempt), name=f"archive {attempt.job_id}")
                except ChiselError as error:
                    log.debug("unarchived_unknown", error=str(error))
                try:
                    async with asyncio.timeout(_RECONCILE_SECONDS):
                        await self._wake.wait()
                except TimeoutError:
                    pass

    async def _due(self) -> list[AttemptView]:
        found = (await self._bus.request(ListUnarchived(limit=_LIST_LIMIT))).attempts
        now = time.monotonic()
        listed = {(attempt.job_id, attempt.attempt) for attempt in found}
        for memory in (self._retry_at, self._still):
            for key in memory.keys() - listed:
                del memory[key]
        return [
            attempt
            for attempt in found
            if (key := (attempt.job_id, attempt.attempt)) not in self._active
            and self._retry_at.get(key, (0.0, 0.0))[0] <= now
        ]

    async def _attend(self, attempt: AttemptView) -> None:
        """One try at one attempt; what fails is tried again, later each time."""
        key = (attempt.job_id, attempt.attempt)
        try:
            async with self._places:
                done = await self.take_over(attempt)
        except Exception as error:
            # One attempt that cannot be archived must not keep the others from it.
            outside = isinstance(error, (ChiselError, OSError)) and not isinstance(error, InternalError)
            say = log.warning if outside else log.error
            say("archive_failed", job_id=attempt.job_id, attempt=attempt.attempt, error=repr(error))
            done = False
        finally:
            self._active.discard(key)
        if done:
            self._retry_at.pop(key, None)
            return
        first, most = _RETRY_SECONDS
        pause = min(most, max(first, 2 * self._retry_at.get(key, (0.0, 0.0))[1]))
        self._retry_at[key] = (time.monotonic() + pause, pause)

    async def take_over(self, attempt: AttemptView) -> bool:
        """Archive an ended attempt whole; False when not all of its output has come yet."""
        place = Place(attempt.agent_id, attempt.job_id, attempt.attempt)
        async with self._lock(place):
            archived = await self._store.archived(*place.key)
            if not archived.sealed:
                expected = totals(attempt.end)
                archived, complete = await self._copy(place, archived, expected)
                if expected is None:
                    complete = complete or self._settled(place, archived)
                if not complete:
                    return False
                if expected is not None and attempt.end is not None:
                    await self._verify(place, archived, attempt.end)
                await self._store.record(*place.key, replace(archived, sealed=True))
                failpoint("archive.sealed")
                log.info("archived", job_id=place.job_id, attempt=place.attempt, **archived.offsets())
        await self._bus.request(MarkArchived(job_id=place.job_id, attempt=place.attempt))
        failpoint("archive.marked")
        await self._streams.purge(place.subject())
        failpoint("archive.purged")
        return True

    async def sweep(self) -> None:
        """Relieve the bus of what running attempts pile up, and of what a crash left behind."""
        usage = await self._streams.usage()
        places = {place_of(subject) for subject in usage.messages}
        sealed = await self._store.sealed(place.key for place in places)
        for place in places:
            if place.key in sealed:
                await self._streams.purge(place.subject())
        for place in crowding(usage):
            if place.key not in sealed:
                try:
                    await self.relieve(place)
                except (ChiselError, OSError) as error:
                    log.warning("relief_failed", job_id=place.job_id, error=repr(error))

    async def relieve(self, place: Place) -> None:
        """Archive what a running attempt has stored so far, and purge all but its last messages."""
        async with self._lock(place):
            await self._copy(place, await self._store.archived(*place.key), None, purge=True)

    def _lock(self, place: Place) -> asyncio.Lock:
        return self._locks.setdefault(place.key, asyncio.Lock())

    def _settled(self, place: Place, archived: Archived) -> bool:
        """Whether the output of an attempt without totals has stopped growing for long enough."""
        now = time.monotonic()
        seen, since = self._still.get(place.key, (archived, now))
        if seen != archived:
            since = now
        self._still[place.key] = (archived, since)
        return now - since >= self._settle_seconds

    async def _copy(
        self, place: Place, archived: Archived, expected: dict[str, int] | None, *, purge: bool = False
    ) -> tuple[Archived, bool]:
        """Append what is stored on the bus beyond `archived`; also whether that was the end of it."""
        follower = Follower(
            streams=self._streams, subject_prefix=place.subject("")[:-1], offsets=archived.offsets()
        )
        if expected is not None:
            follower.expect(**expected)
        step: list[Chunk] = []
        size = 0
        async with aclosing(follower.chunks()) as chunks, asyncio.timeout(_STALL_SECONDS) as limit:
            async for chunk in chunks:
                if not chunk.data:
                    continue
                step.append(chunk)
                size += len(chunk.data)
                if size >= _STEP_BYTES:
                    archived = await self._commit(place, archived, step, purge=purge)
                    step, size = [], 0
                limit.reschedule(asyncio.get_running_loop().time() + _STALL_SECONDS)
        if step:
            archived = await self._commit(place, archived, step, purge=purge)
        return archived, follower.complete

    async def _commit(
        self, place: Place, archived: Archived, step: Iterable[Chunk], *, purge: bool
    ) -> Archived:
        """Make `step` durable, then known, and only then, if asked, gone from the bus."""
        ends = archived.offsets()
        last: dict[str, int] = {}
        for stream in STREAMS:
            mine = [chunk for chunk in step if chunk.stream == stream]
            if mine:
                data = b"".join(chunk.data for chunk in mine)
                times = [Mark(chunk.offset, chunk.time) for chunk in mine if chunk.time]
                append = partial(self._outputs.append, at=ends[stream], data=data, times=times)
                await asyncio.to_thread(append, *place.key, stream)
                ends[stream] += len(data)
                last[stream] = mine[-1].sequence
        archived = Archived(stdout=ends["stdout"], stderr=ends["stderr"])
        failpoint("archive.appended")
        await self._store.record(*place.key, archived)
        failpoint("archive.recorded")
        for stream, sequence in last.items() if purge else ():
            found = await self._streams.last(place.subject(stream))
            # A stream made anew since we read it numbers from one: our sequence means nothing there.
            if found is not None and found.sequence >= sequence:
                await self._streams.purge(place.subject(stream), below=sequence)
        return archived

    async def _verify(self, place: Place, archived: Archived, end: JobEnd) -> None:
        """`InternalError` when the files are not what the agent said it had read from the job."""
        said = {"stdout": end.stdout_sha256, "stderr": end.stderr_sha256}
        if archived.offsets() != totals(end):
            raise InternalError(f"the archive of {place} has {archived.offsets()} bytes, not {totals(end)}")
        for stream, size in archived.offsets().items():
            found = await asyncio.to_thread(self._outputs.sha256, *place.key, stream, size=size)
            if said[stream] and found != said[stream]:
                raise InternalError(f"the archived {stream} of {place} has the sha256 {found}")
