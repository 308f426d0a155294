"""Ending the jobs of a stack that is about to stop: nothing may outlive `chisel down`.

Running jobs are cancelled as their user would, so that each has a true end in the books. Queued ones
stay queued, the agent hands back those it has not begun, and all of them run after the next start.
"""

import os
import signal
import time
from pathlib import Path
from typing import Any

from chisel.local import processes, ready, stack, state

_MARKS = (b"CHISEL_LOCAL_STACK", b"CHISEL_TRACE_DIR")
"""Of the stack's own processes and of its jobs. No shell of a user has either of them set to a place in
the folder; any other variable of ours may well be."""
_SHIM = b"chisel_agent.shim_factory"
_CANCEL_SECONDS = 12.0
"""Longer than the agent's grace for a script that ignores SIGTERM; who is left is killed."""


def running(folder: Path) -> list[str]:
    """The ids of the jobs whose script runs now; none when nobody can tell."""
    known, key = state.read(str(folder)), stack.read_key(str(folder))
    if known is None or key is None:
        return []
    found = ready.get_json(known.gateway_port, "/api/v1/jobs?unfinished=true&limit=500", key=key)
    jobs: list[dict[str, Any]] = found.get("jobs", []) if isinstance(found, dict) else []
    return [str(job["id"]) for job in jobs if job.get("state") == "running"]


def end_all(folder: Path) -> None:
    """Cancel the running jobs and wait for their end."""
    first = running(folder)
    if not first:
        return
    known, key = state.read(str(folder)), stack.read_key(str(folder)) or ""
    assert known is not None
    for job in first:
        ready.get_json(known.gateway_port, f"/api/v1/jobs/{job}/cancel", key=key, method="POST")
    end = time.monotonic() + _CANCEL_SECONDS
    while set(first) & set(running(folder)) and time.monotonic() < end:
        time.sleep(0.02)


def leftovers(folder: Path) -> list[processes.Process]:
    """Every process that belongs to the stack in `folder`, however it got away from us (Linux).

    They are told by their environment: the stack's own carry its mark, jobs their folder for traces;
    a shim ends with its job. Postgres overwrites its environment and is told by its data. A user's
    shell or editor in the folder is none of them.
    """
    found = []
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else []:
        if name.isdigit() and int(name) != os.getpid() and _is_ours(name, os.fsencode(folder)):
            process = processes.identify(int(name))
            if process is not None:
                found.append(process)
    return found


def _is_ours(pid: str, folder: bytes) -> bool:
    for variable in _read(f"/proc/{pid}/environ").split(b"\0"):
        name, _, value = variable.partition(b"=")
        if name in _MARKS and (value + b"/").startswith(folder + b"/"):
            return True
    return _read(f"/proc/{pid}/comm") == b"postgres\n" and folder + b"/" in _read(f"/proc/{pid}/cmdline")


def kill_leftovers(folder: Path) -> list[processes.Process]:
    """Kill them, again and again while they make new ones; returns whom even that did not end."""
    _wake_shims(os.fsencode(folder))
    end = time.monotonic() + 5
    while (left := leftovers(folder)) and time.monotonic() < end:
        for process in left:
            process.signal(signal.SIGKILL)
        processes.wait_all(left, seconds=0.5)
    return left


def _wake_shims(folder: bytes) -> None:
    """A shim is not killed, it has its job's end to write down: one that was stopped goes on and does so."""
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else []:
        if name.isdigit() and _SHIM in _read(f"/proc/{name}/cmdline"):
            try:
                if os.readlink(f"/proc/{name}/cwd".encode()).startswith(folder + b"/"):
                    os.kill(int(name), signal.SIGCONT)
            except OSError:
                continue  # it has ended, or is somebody else's


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20)
    except OSError:
        return b""
