"""Run a command as a user would, and know to the nanosecond when its output arrived."""

import os
import select
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_READ_BYTES = 1 << 16


@dataclass(slots=True)
class Run:
    """One command, from just before its process is created until it is reaped."""

    wall: float = 0.0
    marker_at: float | None = None
    last_byte_at: float | None = None
    exit_status: int | None = None
    """None when it took too long and was killed."""
    chunks: list[tuple[int, bytes]] = field(default_factory=list)
    """Wall clock in nanoseconds at the arrival, and what arrived."""
    stderr: str = ""

    @property
    def stdout(self) -> bytes:
        return b"".join(data for _, data in self.chunks)


def run(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    marker: bytes | None = None,
    timeout: float = 120.0,
) -> Run:
    """Run `command` to its end with no terminal and no input; times are seconds since its start."""
    result = Run()
    with tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            bufsize=0,
        )
        assert process.stdout is not None
        with process.stdout as pipe:
            _read(pipe.fileno(), result, began=began, marker=marker, timeout=timeout)
        left = max(1.0, began + timeout - time.perf_counter())
        try:
            result.exit_status = process.wait(left)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        result.wall = time.perf_counter() - began
        errors.seek(0)
        result.stderr = errors.read().decode(errors="replace")
    return result


def _read(pipe: int, result: Run, *, began: float, marker: bytes | None, timeout: float) -> None:
    tail = b""
    while (left := began + timeout - time.perf_counter()) > 0:
        if not select.select([pipe], [], [], left)[0]:
            return
        data = os.read(pipe, _READ_BYTES)
        if not data:
            return
        arrived, arrived_ns = time.perf_counter() - began, time.time_ns()
        result.last_byte_at = arrived
        if marker is not None and result.marker_at is None:
            if marker in tail + data:
                result.marker_at = arrived
            tail = (tail + data)[-len(marker) :]
        result.chunks.append((arrived_ns, data))


def must_succeed(result: Run) -> Run:
    """`result`, or an error with what the command said."""
    if result.exit_status != 0:
        raise RuntimeError(f"a measured command ended with {result.exit_status}:\n{result.stderr[-2000:]}")
    return result
