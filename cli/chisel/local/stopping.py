"""Stopping a stack so that nothing of it is left running; its data stays."""

import signal
from pathlib import Path

from chisel.local import child, children, jobs, processes, state, supervisor
from chisel.local.errors import LocalStackError

NAMES = (supervisor.SUPERVISOR, supervisor.KEEPER, *children.NAMES)
"""Every name under which a process of a stack is recorded."""

_SUPERVISOR_SECONDS = 90.0
"""Longer than all its stages together may take."""


def running(folder: Path) -> dict[str, processes.Process]:
    """The recorded processes of the stack that are alive, by name."""
    found = {name: processes.recorded(str(folder), name) for name in NAMES}
    return {name: process for name, process in found.items() if process is not None and process.alive()}


def stop(folder: Path) -> None:
    """Stop everything, in order, and return when nothing of the stack is left.

    The caller holds the stack's lock. `LocalStackError` when a process cannot be ended.
    """
    left = running(folder)
    if supervisor.SUPERVISOR in left:
        left[supervisor.SUPERVISOR].signal(signal.SIGTERM)
        processes.wait_all([left[supervisor.SUPERVISOR]], seconds=_SUPERVISOR_SECONDS)
    # It may have been killed before or meanwhile: then its work is done from here.
    for name in (supervisor.KEEPER, supervisor.SUPERVISOR, supervisor.KEEPER):
        if (process := running(folder).get(name)) is not None:
            process.signal(signal.SIGKILL)
            processes.wait_all([process], seconds=5)
    known = state.read(str(folder))
    if known is not None:
        child.stop_children(children.children(folder, known), running(folder))
    survivors = jobs.kill_leftovers(folder)
    if survivors:
        pids = ", ".join(str(process.pid) for process in survivors)
        raise LocalStackError(f"these processes cannot be ended, not even by SIGKILL: {pids}")
    for name in NAMES:
        processes.forget(str(folder), name)
