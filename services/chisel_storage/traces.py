"""What storage does about traces: takes them, hears what agents see of them, and has each read once."""

import asyncio
import math
from collections import OrderedDict

import msgspec

from chisel_shared.contract.errors import Forbidden
from chisel_shared.contract.ids import AgentId, JobId, ProjectId, is_file_name
from chisel_shared.contract.messages import (
    Capture,
    Done,
    GetAttempt,
    GetTraceFacts,
    ListTraces,
    ReportCaptures,
    TraceFacts,
    Traces,
)
from chisel_shared.contract.traces import STORED, TraceState
from chisel_shared.runtime.bus import Bus
from chisel_shared.runtime.logs import Log
from chisel_shared.traces import sidecar
from chisel_storage.trace_store import StoredTrace, TraceStore

log = Log("chisel.storage.traces")

_MOST_OWNERS = 4_096
_MOST_CHARS = 300
_LARGEST_INT = (1 << 31) - 1
_LARGEST_SIZE = 1 << 60


class TraceDesk:
    def __init__(self, *, bus: Bus, store: TraceStore) -> None:
        self._bus = bus
        self._store = store
        self._owners: OrderedDict[tuple[JobId, int], AgentId] = OrderedDict()
        self.arrived = asyncio.Event()
        """Set when there is something to read."""

    async def serve(self) -> None:
        await self._bus.serve(ListTraces, self.list)
        await self._bus.serve(GetTraceFacts, self.facts)
        await self._bus.serve(ReportCaptures, self.report)

    async def has(self, trace: StoredTrace) -> bool:
        return await self._store.has(trace)

    async def put(self, trace: StoredTrace, project: ProjectId) -> None:
        """Its file is stored: say so, and have it read."""
        await self._store.put(trace, project)
        self.arrived.set()

    async def list(self, ask: ListTraces) -> Traces:
        return Traces(traces=await self._store.traces(ask.job_id))

    async def facts(self, ask: GetTraceFacts) -> TraceFacts:
        return await self._store.facts(ask.job_id, ask.attempt, ask.name)

    async def report(self, told: ReportCaptures) -> Done:
        if await self._owner(told.job_id, told.attempt) != told.agent_id:
            raise Forbidden("this attempt is another agent's")
        captures = [checked(one) for one in told.captures if is_file_name(one.name)]
        number = min(told.number, _LARGEST_SIZE << 2)
        await self._store.report(told.job_id, told.attempt, number, captures)
        if any(one.sidecar for one in captures):
            self.arrived.set()
        return Done()

    async def _owner(self, job_id: JobId, attempt: int) -> AgentId:
        key = job_id, attempt
        if key not in self._owners:
            # Its project as its agent stay what they are: asked once.
            found = await self._bus.request(GetAttempt(job_id=job_id, attempt=attempt))
            self._owners[key] = found.agent_id
            if len(self._owners) > _MOST_OWNERS:
                self._owners.popitem(last=False)
        return self._owners[key]


def checked(capture: Capture) -> Capture:
    """What an agent says, with what cannot be kept left out: the words in it are a job's own. A capture that
    was over before its agent looked is known by its sidecar alone."""
    kept, call, rank = capture.sidecar, capture.call, capture.rank
    function, started_at = capture.function, capture.started_at
    if kept:
        try:
            told = sidecar.decode(kept)
            call, rank = call or told.call, told.rank if rank is None else rank
            function, started_at = function or told.function, started_at or told.started_at or None
        except (ValueError, msgspec.MsgspecError) as error:
            log.warning("sidecar_dropped", name=capture.name, error=str(error)[:_MOST_CHARS])
            kept = b""
    return Capture(
        name=capture.name,
        # What is stored only storage can know.
        state=TraceState.UPLOADING if capture.state in STORED else capture.state,
        sent_bytes=max(0, min(capture.sent_bytes, _LARGEST_SIZE)),
        total_bytes=max(0, min(capture.total_bytes, _LARGEST_SIZE)),
        reason=_text(capture.reason),
        call=_number(call),
        rank=_number(rank),
        function=_text(function),
        started_at=started_at if started_at is None or math.isfinite(started_at) else None,
        sidecar=kept,
    )


def _text(text: str) -> str:
    return text.replace("\0", "")[:_MOST_CHARS]


def _number(number: int | None) -> int | None:
    return number if number is not None and abs(number) <= _LARGEST_INT else None
