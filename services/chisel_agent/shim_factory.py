"""Forks shims one job ahead, so that a job waits for no interpreter. Standard library only.

`launch.py` has the command line. With a folder it is the shim of that one attempt. Without, it waits
on descriptor 0, a socket of the agent's, always with one spare forked: that one takes the next
folder and its lock from the socket. When the agent goes away the spare goes too; shims with a job stay, and
with them this process, as the reaper of what a killed shim leaves: whatever became its child and was not
forked here has lost its shim, and is ended.
"""

import _signal  # type: ignore[import-not-found]  # typeshed has only the slow wrapper
import os
import select
import sys
import time

from chisel_agent.shim import Shim
from chisel_agent.shim_child import Child
from chisel_agent.shim_system import (
    SIGCHLD,
    SIGKILL,
    become_subreaper,
    children,
    empty,
    receive,
    signal_one,
    take_lock,
)

TAKEN, GONE = b"t", b"g"
REFUSED = 3
AGAIN_SECONDS = 0.05


def main(arguments: list[str]) -> int:
    """`arguments`: the control groups below which to make the jobs', a line each, and maybe a folder."""
    cgroup_parents, folders = arguments[0].splitlines(), arguments[1:]
    for folder in folders:
        return run(folder, Child(cgroup_parents)) if take_lock(folder) is not None else REFUSED
    factory = Factory()
    while True:
        heard, tell = os.pipe()
        factory.shims.add(pid := os.fork())
        if pid == 0:
            be_spare(cgroup_parents, tell)
        os.close(tell)
        word = factory.hear(heard)
        os.close(heard)
        if word == GONE:
            factory.outlast()
            return 0
        if word != TAKEN:
            time.sleep(AGAIN_SECONDS)  # it was killed


class Factory:
    """The parent of all shims, and the reaper of their jobs' processes when one of them was killed."""

    def __init__(self) -> None:
        become_subreaper()  # also loads, once for every fork, what each needs for the same
        self.shims: set[int] = set()
        self.woken, waker = os.pipe()
        for end in (self.woken, waker):
            os.set_blocking(end, False)
        _signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        _signal.signal(SIGCHLD, lambda *_: None)

    def hear(self, spare: int) -> bytes:
        """The next word from the pipe `spare`, `b""` when nobody will say one."""
        waiting = select.poll()
        waiting.register(spare, select.POLLIN)
        waiting.register(self.woken, select.POLLIN)
        while True:
            ready = [descriptor for descriptor, _ in waiting.poll()]
            if self.woken in ready:
                self.collect()
            if spare in ready:
                return os.read(spare, 1)

    def outlast(self) -> None:
        """Return when the last shim has gone, and all that killed ones left."""
        waiting = select.poll()
        waiting.register(self.woken, select.POLLIN)
        while self.collect():
            waiting.poll()

    def collect(self) -> bool:
        """Forget the shims that ended, and end what they left: each end of a process brings us here again.
        False when no process is left."""
        empty(self.woken)
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                break
            self.shims.discard(pid)
        for pid in children():
            if pid not in self.shims:
                signal_one(pid, SIGKILL)
        return True


def be_spare(cgroup_parents: list[str], tell: int) -> None:
    """In the forked process: get ready, wait for a job, be its shim. Does not return."""
    status = 1
    try:
        _signal.set_wakeup_fd(-1)
        _signal.signal(SIGCHLD, _signal.SIG_DFL)
        os.setsid()
        child = Child(cgroup_parents)
        given = receive()
        os.write(tell, TAKEN if given else GONE)
        os.close(tell)
        if given is None:
            child.dismiss()
        else:
            status = run(given[0], child, given[1])
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def run(folder: str, child: Child, secrets: bytes = b"") -> int:
    """Be the shim of `folder`, whose lock this process holds, for a job that finds `secrets`."""
    # With either of these files a shim has been here before us: user code never runs twice.
    if any(os.path.exists(f"{folder}/{name}") for name in ("exit", "running")):
        child.dismiss()
        return REFUSED
    os.chdir(folder)
    Shim(folder, child, secrets).run()
    return 0
