"""The calls of the shim that need no shim around them."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from chisel_agent.shim_system import read, rest_of_line


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe2(os.O_NONBLOCK)
    yield reading, writing
    os.close(reading)


def test_a_line_end_that_is_written_apart_comes_with_its_line(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.write(writing, b"epoch 1")
    assert os.read(reading, 100) == b"epoch 1"
    os.write(writing, b"\n")
    assert rest_of_line(reading, 100) == b"\n"
    os.close(writing)


def test_a_prompt_without_an_end_is_not_waited_for(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    assert rest_of_line(reading, 100) == b""
    os.close(writing)
    assert rest_of_line(reading, 100) == b"", "the end of the pipe is for the next read to see"


def test_a_process_that_goes_while_it_is_looked_at_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen(["sleep", "60"])
    real = os.open

    def too_late(path: str, flags: int) -> int:
        descriptor = real(path, flags)
        process.kill()
        process.wait()
        return descriptor

    monkeypatch.setattr(os, "open", too_late)
    assert read(f"/proc/{process.pid}/stat") == b""
