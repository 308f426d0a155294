"""The supervisor's process: `python -m chisel.local.daemon FOLDER [--foreground]`."""

import os
import sys
from collections.abc import Collection
from pathlib import Path

from chisel.local import children, processes, state, supervisor
from chisel.local.jobs import end_all as end_jobs


def main(arguments: list[str]) -> None:
    """Supervise the stack in the folder named first until told to stop."""
    foreground = "--foreground" in arguments
    folder = Path(arguments[0])
    os.closerange(3, 1 << 16)
    os.umask(0o077)
    os.chdir(folder)
    while (watched := _supervisor(folder, keeper=not foreground).run()) is not None:
        supervisor.keep(watched)


def _supervisor(folder: Path, *, keeper: bool) -> supervisor.Supervisor:
    known = state.open_folder(str(folder))
    everything = children.children(folder, known)
    running = {child.name for child in everything if processes.is_recorded_alive(str(folder), child.name)}
    state.move_taken_ports(known, str(folder), running)

    def repair(name: str, running: Collection[str]) -> Collection[str]:
        """A part that keeps failing may have lost its port to a stranger: then it gets another one,
        and everybody who was told the old one starts anew."""
        moved = state.move_taken_ports(known, str(folder), set(running))
        return children.SERVICES if moved else ()

    return supervisor.Supervisor(
        folder=folder,
        children=everything,
        keeper=keeper,
        prepare=children.prepare,
        repair=repair,
        before_stop=lambda: end_jobs(folder),
    )


if __name__ == "__main__":
    main(sys.argv[1:])
