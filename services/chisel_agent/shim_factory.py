"""Forks shims one job ahead, so that a job waits for no interpreter. Standard library only.

`launch.py` has the command line. With a folder it is the shim of that one attempt. Without, it waits
on descriptor 0, a socket of the agent's, always with one spare forked: that one takes the next
folder and its lock from the socket and is from then on nobody's child that matters. When the agent
goes away the spare and this process go too; shims with a job stay.
"""

import _signal  # type: ignore[import-not-found]  # typeshed has only the slow wrapper
import ctypes  # noqa: F401 - every fork has it, none has to load it
import os
import sys
import time

from chisel_agent.shim import Shim
from chisel_agent.shim_child import Child
from chisel_agent.shim_system import SIGCHLD, receive, remove_cgroup, take_lock

TAKEN, GONE = b"t", b"g"
REFUSED = 3
AGAIN_SECONDS = 0.05


def main(arguments: list[str]) -> int:
    """`arguments`: the control group below which to make the jobs' ("" for none), and maybe a folder."""
    cgroup_parent, *folders = arguments
    for folder in folders:
        return run(folder, Child(cgroup_parent)) if take_lock(folder) is not None else REFUSED
    _signal.signal(SIGCHLD, _signal.SIG_IGN)  # nobody here asks how a shim ended: its folder says it
    while True:
        heard, tell = os.pipe()
        if os.fork() == 0:
            be_spare(cgroup_parent, tell)
        os.close(tell)
        word = os.read(heard, 1)
        os.close(heard)
        if word == GONE:
            return 0
        if word != TAKEN:
            time.sleep(AGAIN_SECONDS)  # it was killed


def be_spare(cgroup_parent: str, tell: int) -> None:
    """In the forked process: get ready, wait for a job, be its shim. Does not return."""
    status = 1
    try:
        _signal.signal(SIGCHLD, _signal.SIG_DFL)
        os.setsid()
        child = Child(cgroup_parent)
        given = receive()
        os.write(tell, TAKEN if given else GONE)
        os.close(tell)
        if given is None:
            child.dismiss()
            remove_cgroup(child.cgroup)
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
        remove_cgroup(child.cgroup)
        return REFUSED
    os.chdir(folder)
    Shim(folder, child, secrets).run()
    return 0
