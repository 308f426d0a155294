"""The inner door's questions about places in archived output: by time, and by lines from the end."""

import asyncio
import re

from aiohttp import web

from chisel_shared.contract.errors import BadRequest
from chisel_shared.contract.ids import JobId
from chisel_shared.contract.outputs import MAX_TAIL_LINES, Mark, Marks
from chisel_shared.runtime.http import as_json
from chisel_shared.runtime.output import STREAMS
from chisel_storage.files import attempt_of
from chisel_storage.outputs import DiskOutputs
from chisel_storage.store import Store

_NUMBER = re.compile(r"[0-9]{1,18}")
_TIME = re.compile(r"[0-9]{1,18}(\.[0-9]{1,12})?")
_MOST_MARKS = 4_096


class MarksHttp:
    """Each answers with `Marks`, empty ones where nothing is archived."""

    def __init__(self, *, outputs: DiskOutputs, store: Store) -> None:
        self._outputs = outputs
        self._store = store

    def add_to(self, app: web.Application) -> None:
        address = "/outputs/{job}/{attempt}/{stream}"
        app.router.add_route("GET", f"{address}/lines", self.lines)
        app.router.add_route("GET", f"{address}/since", self.since)
        app.router.add_route("GET", f"{address}/times", self.times)

    async def lines(self, request: web.Request) -> web.Response:
        """Where the last `count` lines begin, of the bytes before `before`."""
        job, attempt, stream, end = await self._archived(request)
        count = min(_number(request, "count"), MAX_TAIL_LINES)
        before = min(end, _number(request, "before", end))

        def look() -> tuple[Mark, ...]:
            if not before:
                return ()
            times = self._outputs.marks(job, attempt, stream, size=end)
            starts = self._outputs.last_lines(job, attempt, stream, before=before, count=count)
            return tuple(Mark(offset=start, time=times.at(start)) for start in starts)

        return as_json(Marks(end=end, marks=await asyncio.to_thread(look)))

    async def since(self, request: web.Request) -> web.Response:
        """The first byte that came at `time` or later; none when that is the end."""
        job, attempt, stream, end = await self._archived(request)
        text = request.query.get("time", "")
        if not _TIME.fullmatch(text):
            raise BadRequest("a time is a number of seconds since the epoch")

        def look() -> tuple[Mark, ...]:
            times = self._outputs.marks(job, attempt, stream, size=end)
            start = times.since(float(text))
            return (Mark(offset=start, time=times.at(start)),) if start < end else ()

        return as_json(Marks(end=end, marks=await asyncio.to_thread(look)))

    async def times(self, request: web.Request) -> web.Response:
        """When the bytes from `offset` on came: the first of many."""
        job, attempt, stream, end = await self._archived(request)
        offset = _number(request, "offset")

        def look() -> tuple[Mark, ...]:
            found = self._outputs.marks(job, attempt, stream, size=end).from_offset(offset, _MOST_MARKS)
            return tuple(Mark(offset=mark.offset, time=mark.time) for mark in found)

        return as_json(Marks(end=end, marks=await asyncio.to_thread(look)))

    async def _archived(self, request: web.Request) -> tuple[JobId, int, str, int]:
        """What is asked about, and how much of it is archived."""
        job, attempt = attempt_of(request)
        stream = request.match_info["stream"]
        if stream not in STREAMS:
            raise BadRequest("output is stdout or stderr")
        return job, attempt, stream, (await self._store.archived(job, attempt)).offsets()[stream]


def _number(request: web.Request, name: str, default: int = 0) -> int:
    text = request.query.get(name, str(default))
    if not _NUMBER.fullmatch(text):
        raise BadRequest(f"{name} must be a number")
    return int(text)
