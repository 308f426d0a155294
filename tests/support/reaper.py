"""Cleaning up after tests, however they end: `python -m tests.support.reaper FOLDER BACKEND`.

It waits for the end of stdin, whose other end a test process holds. When that process was killed,
what it started with its death signal is gone too; jobs, local stacks and containers are not.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chisel.local import jobs
from tests.support.backends import wanted_backend
from tests.support.full_disk import unmount_below


@contextmanager
def reaped(folder: Path, *, keep: bool = False) -> Iterator[None]:
    """Whatever still runs for `folder` at the end is killed, and the folder removed, unless it is to be
    kept."""
    command = [sys.executable, "-m", "tests.support.reaper", str(folder), wanted_backend()]
    if keep:
        command.append("keep")
    process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(30)


def main(folder: Path, backend: str, *, keep: bool) -> None:
    sys.stdin.read()
    jobs.kill_leftovers(folder)
    if backend == "docker":
        from tests.support import containers

        for label in ("nats", "db"):
            containers.remove_all(f"{folder.name}-{label}")
    unmount_below(folder)
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], keep="keep" in sys.argv[3:])
