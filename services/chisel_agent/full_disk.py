"""Writes that a full disk may keep from being done, where going on without them is better than not."""

from collections.abc import Callable
from typing import ParamSpec

from chisel_shared.runtime.disk import no_space
from chisel_shared.runtime.logs import Log

P = ParamSpec("P")

log = Log("chisel.agent.full_disk")


def unless_full(write: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> bool:
    """Whether `write` was done: not while the disk is full. Other errors are raised."""
    try:
        write(*args, **kwargs)
    except OSError as error:
        if not no_space(error):
            raise
        log.warning("not_written", error=repr(error))
        return False
    return True
