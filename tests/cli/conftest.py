"""A gateway of the tests' own, and the real command against it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.gateway import KEY, Gateway, running

ROOT = Path(__file__).parents[2]


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with running() as started:
        yield started


@dataclass(frozen=True)
class Done:
    status: int
    stdout: bytes
    stderr: str


class Command:
    """`chisel` as a user of its own: a home, a project and no settings but those of the test."""

    def __init__(self, *, home: Path, project: Path, url: str) -> None:
        self.home, self.project = home, project
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("cli", "shared")),
            "CHISEL_BACKEND_URL": url,
            "CHISEL_API_KEY": KEY,
            "LC_ALL": "C.UTF-8",
        }

    def start(
        self, *words: str, ignoring: int | None = None, stdout: int = subprocess.PIPE
    ) -> "subprocess.Popen[bytes]":
        """Start it, with a signal ignored as by a shell's `&`."""
        return subprocess.Popen(
            [sys.executable, "-m", "chisel", *words],
            cwd=self.project,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            preexec_fn=None if ignoring is None else lambda: signal.signal(ignoring, signal.SIG_IGN),
        )

    def __call__(self, *words: str) -> Done:
        with self.start(*words) as process:
            stdout, stderr = process.communicate(timeout=60)
        return Done(process.returncode, stdout, stderr.decode())


@pytest.fixture
def chisel(gateway: Gateway, tmp_path: Path) -> Command:
    project = tmp_path / "project"
    project.mkdir()
    (tmp_path / "home").mkdir()
    (project / "hello.py").write_text("print('hello')\n")
    return Command(home=tmp_path / "home", project=project, url=gateway.url)


@pytest.fixture
def offline(chisel: Command) -> Command:
    """Nobody is there who could be asked."""
    chisel.env["CHISEL_BACKEND_URL"] = "http://127.0.0.1:1"
    return chisel
