"""All files that one attempt leaves behind: traces while it runs, outputs at its end."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Protocol

from chisel_agent.captures import Reports
from chisel_agent.launch import Exit
from chisel_agent.outputs import Cap, Outputs
from chisel_agent.traces import TraceSink, TraceUploads
from chisel_agent.uploads import FileStore
from chisel_shared.contract.job import EndReason, JobEnd
from chisel_shared.contract.messages import AttemptRef
from chisel_shared.runtime.logs import Log

log = Log("chisel.agent.files")

_STALL_SECONDS = 60.0
"""The end of a job waits for its files while they get on; after so long without a byte, they follow it."""
_LOOK_SECONDS = 1.0


class Store(FileStore, TraceSink, Protocol):
    """Where files and traces go."""


class JobFiles:
    """`wait_seconds`: how long the end of a job waits for its files at most."""

    def __init__(
        self, *, store: Store, reports: Reports, ref: AttemptRef, folder: Path, cap: Cap,
        wait_seconds: float, reserve_bytes: int,
    ) -> None:  # fmt: skip
        self.traces = TraceUploads(
            store=store, reports=reports, ref=ref, folder=folder, reserve_bytes=reserve_bytes
        )
        self.outputs = Outputs(store=store, ref=ref, folder=folder, cap=cap)
        self._wait_seconds = wait_seconds

    async def at_the_end(self, exit_: Exit) -> None:
        """Collect what the job left and store it, within bounds; `upload_all` stores the rest."""
        self.traces.end(lost_by(exit_))
        await self.outputs.collect()
        if not await _while_it_moves(self._upload(), self._moved, self._wait_seconds):
            log.warning("files_late")

    async def upload_all(self, exit_: Exit | None) -> None:
        """Return when every file is stored or refused, however long that takes."""
        self.traces.end(lost_by(exit_))
        await self._upload()
        await self.outputs.drop()

    async def _upload(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.traces.upload_all(), name="upload traces")
            tasks.create_task(self.outputs.upload_all(), name="upload outputs")

    def _moved(self) -> int:
        return self.traces.moved_bytes + self.outputs.moved_bytes


async def _while_it_moves(
    work: Coroutine[None, None, None], moved: Callable[[], int], limit_seconds: float
) -> bool:
    """Await `work` while `moved()` grows; False when it was given up."""
    clock = asyncio.get_running_loop().time
    working = asyncio.create_task(work, name="last files")
    began = moved_at = clock()
    seen = moved()
    try:
        while not working.done():
            now = clock()
            if moved() != seen:
                seen, moved_at = moved(), now
            if now - moved_at > _STALL_SECONDS or now - began > limit_seconds:
                return False
            await asyncio.wait({working}, timeout=_LOOK_SECONDS)
        working.result()
        return True
    finally:
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(working, return_exceptions=True)


_LOST_BY: dict[str, str] = {
    EndReason.EXIT: "its process ended",
    EndReason.USER: "the job was cancelled",
    EndReason.OOM: "the job ran out of memory",
    EndReason.TIME_LIMIT: "the job reached its time limit",
}


def lost_by(exit_: Exit | None) -> str:
    """Why a trace that was being recorded at the end of its job is lost."""
    how = "the job was killed" if exit_ is None else _LOST_BY.get(exit_.reason, "the job was killed")
    return f"{how} while it was recorded"


def job_end(exit_: Exit, totals: dict[str, int], sums: dict[str, str], files: JobFiles) -> JobEnd:
    """What the scheduler is told: how the shim says it ended, what was shipped, and what files there are."""
    return JobEnd(
        reason=EndReason(exit_.reason),
        exit_code=exit_.exit_code,
        signal=exit_.signal,
        detail=exit_.detail,
        stdout_bytes=totals["stdout"],
        stderr_bytes=totals["stderr"],
        stdout_sha256=sums["stdout"],
        stderr_sha256=sums["stderr"],
        stdout_omitted=exit_.stdout_omitted,
        stderr_omitted=exit_.stderr_omitted,
        traces=files.traces.count,
        traces_late=files.traces.late,
        traces_lost=files.traces.lost,
        outputs=files.outputs.count,
        outputs_bytes=files.outputs.size_bytes,
        outputs_left_out=files.outputs.left_out,
    )
