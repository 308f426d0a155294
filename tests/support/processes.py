"""Start a server for a test: it dies with the test process, and its log is in the failure."""

import ctypes
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

_LONGEST_LINE = 600
_libc = ctypes.CDLL(None)


def die_with_parent() -> None:
    """In the child, before exec: a killed test run leaves nothing behind (Linux)."""
    _libc.prctl(1, signal.SIGKILL)


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServerLike(Protocol):
    """A server that a test may kill and start again: a process of ours, or a container."""

    def start(self) -> None: ...
    def kill(self) -> None: ...
    def stop(self, number: int = signal.SIGTERM, *, seconds: float = 10.0) -> int: ...
    def running(self) -> bool: ...
    def tail(self, lines: int = 30) -> str: ...
    def wait_until(self, ready: Callable[[], bool], *, seconds: float = 30.0) -> None: ...


class Server:
    """One process, its log file, and the ways to end it."""

    def __init__(self, command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> None:
        self.command, self.log, self.env = command, log, env
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.env,
                preexec_fn=die_with_parent,
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, number: int = signal.SIGTERM, *, seconds: float = 10.0) -> int:
        """Ask it to end; kill it when it does not. Returns its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()

    def wait_for_end(self, *, seconds: float = 30.0) -> None:
        """Return when it has ended by itself."""
        assert self.process is not None
        self.process.wait(seconds)

    def tail(self, lines: int = 30) -> str:
        last = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join(line[:_LONGEST_LINE] for line in last)

    def wait_until(self, ready: Callable[[], bool], *, seconds: float = 30.0) -> None:
        """Poll `ready` until true; fail with the log's tail when the process dies or time runs out."""
        end = time.monotonic() + seconds
        while not ready():
            assert self.running(), f"{self.command[0]} died:\n{self.tail()}"
            assert time.monotonic() < end, f"{self.command[0]} is not ready:\n{self.tail()}"
            time.sleep(0.01)


def port_answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.5):
            return True
    except OSError:
        return False
