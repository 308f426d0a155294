"""One process to keep alive: what it is, when it is started again after it ended, how it is stopped."""

import os
import signal
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from chisel.local import processes
from chisel.local.processes import Process

_RESTART_SECONDS = (0.0, 0.1, 0.3, 1.0, 3.0)
"""The longest is how long what could not start is away after whatever kept it from it has ended."""
STEADY_SECONDS = 10.0
"""Who ran this long is no longer failing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """One process to keep alive. `run` is called in the fork and may exec."""

    name: str
    run: Callable[[], None]
    stage: int
    """Started from the lowest stage up, stopped from the highest down, one stage at a time."""
    prepared: bool = False
    """Forked only after `prepare` was called, because it wants what that imports."""
    stop_signal: int = signal.SIGTERM
    stop_seconds: float = 10.0
    helped_by_restart: Callable[[], bool] = lambda: True
    """Asked when an alarm says that it is ill: whether the cause is gone and only it has not noticed."""


class Backoff:
    """How long to wait before a child that ended is started again."""

    def __init__(self) -> None:
        self.failures = 0
        self.started_at = 0.0

    def started(self, *, now: float) -> None:
        self.started_at = now

    def ended(self, *, now: float) -> float:
        """Seconds until the next start: none after a steady run, more with every quick end."""
        self.failures = 1 if now - self.started_at >= STEADY_SECONDS else self.failures + 1
        return _RESTART_SECONDS[min(self.failures, len(_RESTART_SECONDS)) - 1]


def stop_children(
    children: Collection[Child],
    running: dict[str, Process],
    *,
    forced: Callable[[], bool] = lambda: False,
) -> None:
    """Stop `running` in order, the highest stage first; kill who does not end in its time."""
    for stage in sorted({child.stage for child in children}, reverse=True):
        asked = {child: running[child.name] for child in children
                 if child.stage == stage and child.name in running}  # fmt: skip
        for child, process in asked.items():
            process.signal(child.stop_signal)
        end = time.monotonic() + max((child.stop_seconds for child in asked), default=0.0)
        left = list(asked.values())
        while left and time.monotonic() < end and not forced():
            left = processes.wait_all(left, seconds=0.2)
            _reap_all()
        for process in left:
            process.signal(signal.SIGKILL)
        processes.wait_all(left, seconds=5)


def reap(pid: int) -> int | None:
    """The wait status of an ended child; None when it is somebody else's child."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return status if found else None


def _reap_all() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
    except ChildProcessError:
        return


def how_it_ended(status: int | None) -> str:
    """A wait status in words."""
    if status is None:
        return "unknown"
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit status {os.WEXITSTATUS(status)}"
