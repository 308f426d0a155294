"""A command under test: its output is collected while it runs, and may be waited for."""

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import die_with_parent


@dataclass(frozen=True, slots=True)
class Finished:
    """How it ended and everything it wrote."""

    returncode: int
    stdout: bytes
    stderr: bytes


class Command:
    """A running command without a terminal."""

    def __init__(self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=die_with_parent,
        )
        self._arrived = threading.Condition()
        self._written = {1: bytearray(), 2: bytearray()}
        self._open = 2
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=(number, pipe.fileno()), daemon=True)
            for number, pipe in ((1, self._process.stdout), (2, self._process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def running(self) -> bool:
        return self._process.poll() is None

    def wait_for_output(self, expected: bytes, *, timeout: float = 30.0) -> bytes:
        """Everything on stdout so far, once `expected` is part of it."""
        return self._wait_for(1, expected, timeout)

    def wait_for_error(self, expected: bytes, *, timeout: float = 30.0) -> bytes:
        """The same of stderr."""
        return self._wait_for(2, expected, timeout)

    def _wait_for(self, number: int, expected: bytes, timeout: float) -> bytes:
        end = time.monotonic() + timeout
        with self._arrived:
            while expected not in self._written[number]:
                left = end - time.monotonic()
                said = bytes(self._written[2]).decode(errors="replace")
                assert self._open, f"it ended without writing {expected!r}: {said}"
                assert left > 0, f"no {expected!r} within {timeout:g} s: {said}"
                self._arrived.wait(left)
            return bytes(self._written[number])

    def finish(self, *, timeout: float = 60.0) -> Finished:
        """Wait for its end; a command that takes longer is killed and fails the test."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            said = bytes(self._written[2]).decode(errors="replace")
            raise AssertionError(f"still running after {timeout:g} s: {said[-2000:]}") from None
        self._join()
        return Finished(self._process.returncode, bytes(self._written[1]), bytes(self._written[2]))

    def kill(self) -> None:
        """End it if it still runs."""
        self._process.kill()
        self._process.wait()
        self._join()

    def _read(self, number: int, descriptor: int) -> None:
        while part := os.read(descriptor, 1 << 20):
            with self._arrived:
                self._written[number] += part
                self._arrived.notify_all()
        with self._arrived:
            self._open -= 1
            self._arrived.notify_all()

    def _join(self) -> None:
        for reader in self._readers:
            reader.join(5)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
