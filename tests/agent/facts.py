"""Waiting for facts that nobody announces: files and processes."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

WAIT_SECONDS = 30.0
_LOOK_SECONDS = 0.01


def eventually(true: Callable[[], bool]) -> None:
    """Return when `true()` is; fail when it does not become so."""
    end = time.monotonic() + WAIT_SECONDS
    while not true():
        assert time.monotonic() < end, "it never became true"
        time.sleep(_LOOK_SECONDS)


async def until(true: Callable[[], bool | Awaitable[bool]]) -> None:
    """The same, while others work."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            answer = true()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(_LOOK_SECONDS)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not collected does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def environment(pid: int | str) -> set[bytes]:
    """The environment of a process as it was started; nothing of one that is gone."""
    try:
        return set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    except OSError:
        return set()


def processes_of(job_id: str) -> list[int]:
    """Processes of a job, wherever they went."""
    mark = f"CHISEL_JOB_ID={job_id}".encode()
    return [int(n) for n in os.listdir("/proc") if n.isdigit() and mark in environment(n) and alive(int(n))]
