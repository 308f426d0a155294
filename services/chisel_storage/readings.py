"""Reads each stored trace once, when it arrives, in a process of its own.

What is to be read stands in the database, so a restart goes on with it. Whatever a trace does to its reader
(runs on, takes all memory, ends it by a signal, prints nonsense) is written down as the reason why there
is no summary, and the next trace comes. One at a time: it is work for spare moments.
"""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec

from chisel_shared.contract.files import FileKind
from chisel_shared.runtime.failpoints import failpoint
from chisel_shared.runtime.logs import Log
from chisel_shared.runtime.service import every
from chisel_shared.traces.report import SCHEMA
from chisel_storage.blobs import Blobs, file_key
from chisel_storage.summarize import MOST_BYTES, Summarized
from chisel_storage.trace_store import MOST_TRIES, Due, Read, TraceStore
from chisel_storage.traces import TraceDesk

log = Log("chisel.storage.readings")

_LOOK_SECONDS = 30.0
_RETRY_SECONDS = 1.0
_MOST_CHARS = 300
_MOST_ERROR_BYTES = 4096
_ANSWER_BYTES = MOST_BYTES + 8192
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
"""All that a reader gets: each thread of a library for numbers would reserve memory that it never uses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What reading one trace may take."""

    memory_bytes: int
    seconds: float


class Reader:
    """Runs a command for each trace: `summarize.py`, but in tests of what goes wrong."""

    def __init__(self, *, limits: Limits, command: tuple[str, ...] = ()) -> None:
        self._limits = limits
        self._command = command or (sys.executable, "-I", "-m", "chisel_storage.summarize")

    async def read(self, path: Path, name: str, sidecar: bytes) -> Read:
        """What comes of reading `path`; a failure is a reason, never an error."""
        with tempfile.TemporaryFile() as given:
            given.write(sidecar)
            given.seek(0)
            reader = await asyncio.create_subprocess_exec(
                *self._command,
                str(path),
                name,
                str(self._limits.memory_bytes),
                str(max(1, int(self._limits.seconds))),
                stdin=given,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=_ENVIRONMENT,
                start_new_session=True,
            )
        answering = asyncio.create_task(_answer_of(reader), name="reader")
        try:
            async with asyncio.timeout(self._limits.seconds):
                answer, said, status = await asyncio.shield(answering)
        except TimeoutError:
            return Read(reason=f"reading it takes more than {self._limits.seconds:g} seconds")
        finally:
            if not answering.done():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(reader.pid, signal.SIGKILL)
                await asyncio.wait([answering])
        if status:
            last = said.decode(errors="replace").strip().splitlines()[-1:]
            how = f"signal {-status}" if status < 0 else f"status {status}"
            return Read(reason=_short(f"its reader ended with {how}" + "".join(f": {line}" for line in last)))
        try:
            return reading_of(msgspec.json.decode(answer, type=Summarized))
        except msgspec.MsgspecError:
            return Read(reason="its reader gave an answer that makes no sense")


def reading_of(done: Summarized) -> Read:
    """What is kept of a reader's answer."""
    summary = done.summary
    if summary is None:
        return Read(reason=_short(done.unreadable or "its reader gave no reason"))
    trace = summary.trace
    return Read(
        truncated=trace.truncated,
        events=trace.events,
        wall_us=trace.wall_us,
        gpu_busy=summary.busy_share,
        cold=trace.cold,
        finding=_short(done.line),
        summary=msgspec.json.encode(summary),
    )


class Readings:
    """Has every trace read that is due."""

    def __init__(self, *, desk: TraceDesk, store: TraceStore, blobs: Blobs, reader: Reader) -> None:
        self._desk = desk
        self._store = store
        self._blobs = blobs
        self._reader = reader

    async def run(self) -> None:
        """Read what arrives, until cancelled."""
        await every(_RETRY_SECONDS, self._read_on, log=log, name="readings")

    async def _read_on(self) -> None:
        while True:
            self._desk.arrived.clear()
            while (due := await self._store.begin(SCHEMA)) is not None:
                try:
                    await self._read(due)
                except asyncio.CancelledError:
                    await self._store.leave(due)
                    raise
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._desk.arrived.wait()

    async def _read(self, due: Due) -> None:
        path = self._blobs.find(file_key(FileKind.TRACE, due.job_id, due.attempt, due.sha256))
        if due.tries > MOST_TRIES:
            read = Read(reason=f"reading it was begun {MOST_TRIES} times and never came to an end")
        elif path is None:
            read = Read(reason="its file is gone")
        else:
            read = await self._reader.read(path, due.name, due.sidecar)
        failpoint("reading.done")
        await self._store.record(due, read, SCHEMA)
        failpoint("reading.recorded")
        if read.reason:
            log.warning("trace_unreadable", job_id=due.job_id, attempt=due.attempt, reason=read.reason)
        else:
            log.info("trace_read", job_id=due.job_id, attempt=due.attempt, events=read.events)


async def _answer_of(reader: asyncio.subprocess.Process) -> tuple[bytes, bytes, int]:
    """What it printed, what it said on stderr, and its status."""
    assert reader.stdout is not None
    assert reader.stderr is not None
    answer, said = await asyncio.gather(
        _first(reader.stdout, _ANSWER_BYTES), _first(reader.stderr, _MOST_ERROR_BYTES)
    )
    return answer, said, await reader.wait()


async def _first(pipe: asyncio.StreamReader, most_bytes: int) -> bytes:
    """The first bytes of what comes; the rest is read and dropped, or its writer would wait."""
    kept = b""
    while piece := await pipe.read(1 << 16):
        kept += piece[: most_bytes - len(kept)]
    return kept


def _short(text: str) -> str:
    return " ".join(text.replace("\0", "").split())[:_MOST_CHARS]
