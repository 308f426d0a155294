"""What this gateway hears of the bus, once, shared by all who watch here.

One subscription brings every job's changes and a local table hands them out; one `Tail` per attempt
brings its live output to all its followers. Both are hints: a change that was lost is found by asking
for every watched job again after a few seconds, a lost chunk by its offset.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from chisel_shared.contract.errors import ChiselError, Unavailable
from chisel_shared.contract.ids import AgentId, JobId, ProjectId
from chisel_shared.contract.job import JobView
from chisel_shared.contract.messages import GetJob, JobChanged
from chisel_shared.runtime.bus import Bus
from chisel_shared.runtime.live import Tail
from chisel_shared.runtime.logs import Log
from chisel_shared.runtime.service import every
from chisel_shared.runtime.streams import Streams, attempt_subject

log = Log("chisel.gateway.feed")

_REFRESH_SECONDS = 5.0
_REFRESH_AT_ONCE = 16
_RECENT = 1_024
"""Changes remembered for a watcher that comes a moment too late to hear them."""
_RETRY_SECONDS = 0.2


class Watch:
    """The newest known view of one job, for everybody here who watches it."""

    def __init__(self, view: JobView, project_id: ProjectId) -> None:
        self.view = view
        self.project_id = project_id
        self.watchers = 0
        self._changed = asyncio.Event()

    def offer(self, view: JobView) -> None:
        """Take `view` if it is newer; the same version may still know more."""
        if view.version >= self.view.version and view != self.view:
            self.view = view
            self._changed.set()
            self._changed = asyncio.Event()

    async def newer_than(self, seen: JobView) -> JobView:
        """The view once it is not `seen` any more."""
        while self.view == seen:
            await self._changed.wait()
        return self.view


@dataclass(slots=True)
class _SharedTail:
    tail: Tail = field(default_factory=Tail)
    followers: int = 0
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    is_open: bool = False


class Feed:
    """The shared part. `run` must be running for it to hear anything."""

    def __init__(self, *, bus: Bus, streams: Streams) -> None:
        self._bus = bus
        self._streams = streams
        self._watches: dict[JobId, Watch] = {}
        self._recent: OrderedDict[JobId, JobView] = OrderedDict()
        self._tails: dict[str, _SharedTail] = {}

    async def subscribe(self) -> None:
        """Hear of every job from now on."""
        await self._bus.subscribe(JobChanged, self._on_changed)

    async def run(self) -> None:
        """Find what was not heard, until cancelled."""
        await every(_REFRESH_SECONDS, self._refresh, log=log, name="refresh")

    async def _on_changed(self, changed: JobChanged) -> None:
        self._recent[changed.job_id] = changed.job
        self._recent.move_to_end(changed.job_id)
        if len(self._recent) > _RECENT:
            self._recent.popitem(last=False)
        if watch := self._watches.get(changed.job_id):
            watch.offer(changed.job)

    async def _refresh(self) -> None:
        places = asyncio.Semaphore(_REFRESH_AT_ONCE)

        async def one(watch: Watch) -> None:
            async with places:
                try:
                    watch.offer(
                        await self._bus.request(GetJob(project_id=watch.project_id, job_id=watch.view.id))
                    )
                except ChiselError as error:
                    log.debug("refresh_failed", job_id=watch.view.id, error=str(error))

        await asyncio.gather(*(one(watch) for watch in list(self._watches.values())))

    @asynccontextmanager
    async def watch(self, view: JobView, project_id: ProjectId) -> AsyncIterator[Watch]:
        """Watch a job of `project_id`, of which the caller has just been given `view`."""
        watch = self._watches.setdefault(view.id, Watch(view, project_id))
        watch.watchers += 1
        for known in (self._recent.get(view.id), view):  # of one version, the answer just given is fresher
            if known is not None:
                watch.offer(known)
        try:
            yield watch
        finally:
            watch.watchers -= 1
            if not watch.watchers:
                del self._watches[view.id]

    @asynccontextmanager
    async def tail(self, agent_id: AgentId, job_id: JobId, attempt: int) -> AsyncIterator[Tail]:
        """The live output of an attempt; nothing stored from now on can be missed, bar lost copies."""
        subject = attempt_subject(agent_id, job_id, attempt)
        shared = self._tails.setdefault(subject, _SharedTail())
        shared.followers += 1
        try:
            async with shared.opening:
                while not shared.is_open:
                    try:
                        await shared.tail.open(self._streams, subject)
                        shared.is_open = True
                    except Unavailable:
                        await asyncio.sleep(_RETRY_SECONDS)
            yield shared.tail
        finally:
            shared.followers -= 1
            if not shared.followers:
                del self._tails[subject]
                await shared.tail.close()
