"""The command on a pseudo-terminal: what it shows, what is typed, and how it ends."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

CTRL_C = b"\x03"
_PATIENCE_SECONDS = 30.0


class Terminal:
    """A running command; its session's terminal is ours. `shown` is all it wrote so far."""

    def __init__(self, process: "subprocess.Popen[bytes]", ours: int) -> None:
        self.process = process
        self.ours = ours
        self.shown = b""

    def type(self, keys: bytes) -> None:
        os.write(self.ours, keys)

    def wait_for(self, text: bytes, *, times: int = 1) -> None:
        """Until it has shown `text`."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while self.shown.count(text) < times:
            left = end - time.monotonic()
            assert left > 0 and self._read(left), f"no {text!r} in {self.shown!r}"  # noqa: PT018

    def finish(self) -> int:
        """Until it ends; the exit status."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while self._read(end - time.monotonic()):
            assert time.monotonic() < end, f"still running: {self.shown!r}"
        return self.process.wait(_PATIENCE_SECONDS)

    def hang_up(self) -> None:
        """Take the terminal away, as when its window is closed."""
        os.close(self.ours)
        self.ours = -1

    def is_cooked(self) -> bool:
        """Whether the terminal edits lines and echoes, as a shell expects it."""
        flags = termios.tcgetattr(self.ours)[3]
        return bool(flags & termios.ICANON) and bool(flags & termios.ECHO)

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self.ours], [], [], max(0.0, seconds))
        if not ready:
            return False
        try:
            piece = os.read(self.ours, 65536)
        except OSError:  # how Linux says that nobody has the terminal open any more
            return False
        self.shown += piece
        return bool(piece)


@contextmanager
def on_terminal(
    command: Sequence[str], *, cwd: Path, env: Mapping[str, str], columns: int = 80
) -> Iterator[Terminal]:
    """`command` in a session of its own, so that Ctrl-C typed here is a signal there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env={"TERM": "xterm", "NO_COLOR": "1", **env},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    terminal = Terminal(process, ours)
    try:
        yield terminal
    finally:
        process.kill()
        process.wait()
        if terminal.ours >= 0:
            os.close(terminal.ours)
