"""The room that an agent keeps on its disk: with less, it takes on nothing new."""

from pathlib import Path

from chisel_shared.runtime.disk import room
from chisel_shared.runtime.logs import Log

log = Log("chisel.agent.reserve")


class Reserve:
    """Of the disk of `folder`, `reserve_bytes` are for the jobs that run already."""

    def __init__(self, folder: Path, *, reserve_bytes: int) -> None:
        self._folder = folder
        self._reserve_bytes = reserve_bytes
        self._short = False

    def is_there(self) -> bool:
        """Whether there is room for another job; each change is logged."""
        found = room(self._folder)
        short = found.is_short_of(self._reserve_bytes)
        if short != self._short:
            self._short = short
            if short:
                log.warning(
                    "disk_almost_full",
                    free_bytes=found.free_bytes,
                    total_bytes=found.total_bytes,
                    hint="no new jobs are taken until there is room",
                )
            else:
                log.info("disk_has_room_again", free_bytes=found.free_bytes)
        return not short
