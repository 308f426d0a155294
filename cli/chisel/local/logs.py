"""The log files of a stack: bounded, and read when something fails."""

import os
from pathlib import Path

_MOST_BYTES = 10 << 20
_TAIL_BYTES = 8 << 10


def trim(path: Path) -> None:
    """Keep a log that grew too large as `.1` and begin it anew; its writer appends and goes on."""
    try:
        if path.stat().st_size <= _MOST_BYTES:
            return
        with path.open("rb") as log:
            log.seek(-_MOST_BYTES, os.SEEK_END)
            path.with_name(path.name + ".1").write_bytes(log.read(_MOST_BYTES))
        os.truncate(path, 0)
    except FileNotFoundError:
        return


def tail(path: Path, *, lines: int = 12) -> str:
    """The last lines of a log, as far as there are any."""
    try:
        with path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - _TAIL_BYTES))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
