"""Everything a job started, until it is gone. Standard library only (see `shim.py`)."""

import select
from collections.abc import Callable

from chisel_agent import shim_cgroup
from chisel_agent.shim_system import (
    SIGKILL,
    children,
    describe,
    empty,
    now,
    signal_group,
    signal_one,
    started,
)

AGAIN_SECONDS = 0.002
LOOK_SECONDS = 1.0
MOST_NAMED = 100


class Leftovers:
    """The shim is the reaper of all of a job's processes: no child of its own, no descendant left. The
    job's control groups list them too. `woken` becomes readable when a child ends; `reap` collects those
    that have, and is False when there is none left."""

    def __init__(
        self, *, cgroups: list[str], stuck_seconds: float, woken: int, reap: Callable[[], bool]
    ) -> None:
        self.cgroups = cgroups
        self.stuck_seconds = stuck_seconds
        self.woken = woken
        self.reap = reap
        self.killed_at = 0.0
        self.survivors: list[int] = []  # what was killed and has not gone in time

    def kill(self, pid: int) -> None:
        """Begin to end everything; `pid` leads the job's group of processes, 0 when it is over."""
        self.killed_at = self.killed_at or now()
        shim_cgroup.kill(self.cgroups)
        if pid:
            signal_group(pid, SIGKILL)
        for child in children():
            signal_one(child, SIGKILL)

    def stuck(self) -> bool:
        """Whether it was killed so long ago that what is left must be waiting for something in the kernel."""
        return self.killed_at > 0.0 and now() - self.killed_at > self.stuck_seconds

    def remain(self) -> bool:
        return self.reap() or bool(shim_cgroup.members(self.cgroups))

    def end(self) -> None:
        """Return when nothing is left, or only `survivors`."""
        while self.remain():
            self.kill(0)
            if self.stuck():
                found = {*children(), *shim_cgroup.members(self.cgroups)}
                self.survivors = [pid for pid in sorted(found) if started(pid)]
                return
            self.wait(AGAIN_SECONDS)

    def outlast(self) -> None:
        """Stay, and with us the attempt's lock, until the survivors have gone: whoever looks sees that."""
        while self.survivors and self.remain():
            self.kill(0)
            self.wait(LOOK_SECONDS)
        shim_cgroup.remove(self.cgroups)

    def wait(self, seconds: float) -> None:
        waiting = select.poll()
        waiting.register(self.woken, select.POLLIN)
        waiting.poll(seconds * 1000)
        empty(self.woken)

    def names(self) -> str:
        """The survivors as `number:start` words, by which another may know them."""
        return " ".join(f"{pid}:{started(pid)}" for pid in self.survivors[:MOST_NAMED])

    def described(self) -> str:
        """For people; "" when there are none."""
        if not self.survivors:
            return ""
        return (
            f"processes were killed and have not gone, so its GPUs are withheld: {describe(self.survivors)}"
        )
