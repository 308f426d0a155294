"""A process as the stack knows it: its pid together with the moment it started.

A pid alone is worth nothing after a reboot or in a week, when it is somebody else's: a record is
believed only while a process with that pid *and* that start, of this boot, is there.
"""

import json
import os
import sys

from chisel.local.state import write_private

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Process:
    """One process that is or was there. Comparing its start makes a reused pid another process."""

    __slots__ = ("pid", "started")

    def __init__(self, pid: int, started: str) -> None:
        self.pid = pid
        self.started = started

    def alive(self) -> bool:
        """Whether this very process still runs; one that ended and was not yet reaped does not."""
        return _started(self.pid) == self.started

    def signal(self, number: int) -> None:
        """Send a signal, if it is still there."""
        if self.alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    def watch(self) -> int | None:
        """A descriptor that becomes readable when the process ends; None where there is no such thing
        or when it has ended."""
        if not hasattr(os, "pidfd_open"):
            return None
        try:
            descriptor = os.pidfd_open(self.pid)
        except OSError:
            return None
        if self.alive():  # else the pid was reused between the record and the descriptor
            return descriptor
        os.close(descriptor)
        return None


def identify(pid: int) -> Process | None:
    """The process that has this pid now."""
    started = _started(pid)
    return Process(pid, started) if started else None


def _started(pid: int) -> str | None:
    """When the process with this pid started, unique over boots; None when none runs."""
    if not sys.platform.startswith("linux"):
        return _started_elsewhere(pid)
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name in parentheses may hold anything, so count from its end.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    if fields[0] in (b"Z", b"X"):
        return None
    return f"{_boot()}/{fields[19].decode()}"


def _boot() -> str:
    with open(_BOOT_ID, encoding="ascii") as file:
        return file.read().strip()


def _started_elsewhere(pid: int) -> str | None:
    import subprocess

    done = subprocess.run(
        ["ps", "-o", "state=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, started = done.stdout.strip().partition(" ")
    return started.strip() if started and not state.startswith("Z") else None


def record(folder: str, name: str, process: Process) -> None:
    """Remember that `name` of the stack in `folder` is this process."""
    text = json.dumps({"pid": process.pid, "started": process.started})
    write_private(_record_path(folder, name), text + "\n", durable=False)


def recorded(folder: str, name: str) -> Process | None:
    """What was last remembered as `name`, alive or not."""
    try:
        with open(_record_path(folder, name), encoding="ascii") as file:
            found = json.load(file)
            return Process(int(found["pid"]), str(found["started"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_recorded_alive(folder: str, name: str) -> bool:
    process = recorded(folder, name)
    return process is not None and process.alive()


def forget(folder: str, name: str) -> None:
    try:
        os.unlink(_record_path(folder, name))
    except FileNotFoundError:
        return


def _record_path(folder: str, name: str) -> str:
    return os.path.join(folder, "run", f"{name}.json")


def wait_all(gone: "Iterable[Process]", *, seconds: float) -> "list[Process]":
    """Wait until all have ended, or time is over; returns those still there."""
    import time

    left = [process for process in gone if process.alive()]
    end = time.monotonic() + seconds
    pause = 0.002
    while left and time.monotonic() < end:
        time.sleep(pause)
        pause = min(0.05, pause * 1.5)
        left = [process for process in left if process.alive()]
    return left


def name_this_process(name: str) -> None:
    """Let `ps` and `top` tell the forks of one program apart."""
    if sys.platform.startswith("linux"):
        with open("/proc/self/comm", "w", encoding="ascii") as file:
            file.write(name[:15])
