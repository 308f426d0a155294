"""A stack of the tests' own, driven by the real `chisel`."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from chisel.local import jobs, processes, ready, stack, state, stopping
from tests.support.backends import short_folder
from tests.support.reaper import reaped


class LocalStack:
    """One data folder, and the commands a user would give about it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "stack"
        self.home = folder / "home"
        self.home.mkdir()

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CHISEL_")}
        own = {
            "HOME": str(self.home),
            "CHISEL_LOCAL_DIR": str(self.folder),
            "CHISEL_AGENT_GPUS": "sim:8",
            "CLOUD_SECRET": "the user's cloud secret",
        }
        return {**kept, **own, **(env or {})}

    def spawn(self, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(Path(sys.executable).with_name("chisel")), *arguments],
            cwd=self.home,
            env=self.environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def chisel(
        self, *arguments: str, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        process = self.spawn(*arguments, env=env)
        stdout, stderr = process.communicate(timeout=90)
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)

    def up(self) -> str:
        """`chisel up`, which must succeed; what it said."""
        done = self.chisel("up")
        assert done.returncode == 0, done.stderr
        return done.stdout

    def down(self) -> str:
        """`chisel down`, which must leave nothing; what it said."""
        done = self.chisel("down")
        assert done.returncode == 0, done.stderr
        assert self.left() == []
        return done.stdout

    def left(self) -> list[int]:
        """The pids of everything of the stack that is alive."""
        recorded = stopping.running(self.folder).values()
        return sorted({process.pid for process in (*recorded, *jobs.leftovers(self.folder))})

    @property
    def state(self) -> state.State:
        found = state.read(str(self.folder))
        assert found is not None
        return found

    @property
    def key(self) -> str:
        found = stack.read_key(str(self.folder))
        assert found is not None
        return found

    def process(self, name: str) -> processes.Process:
        found = processes.recorded(str(self.folder), name)
        assert found is not None, name
        return found

    def alive(self, name: str) -> bool:
        return processes.is_recorded_alive(str(self.folder), name)

    def kill(self, name: str) -> int:
        """kill -9; returns the pid it had."""
        process = self.process(name)
        process.signal(signal.SIGKILL)
        self.until(lambda: not process.alive())
        return process.pid

    def is_ready(self) -> bool:
        return ready.missing(self.state.gateway_port, self.key) is None

    def get(self, path: str) -> Any:
        return ready.get_json(self.state.gateway_port, path, key=self.key)

    def status(self) -> Any:
        return json.loads(self.chisel("status", "--json").stdout)

    def until(self, fact: Callable[[], object], *, seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while not fact():
            logs = self.folder / "logs" / "supervisor.log"
            assert time.monotonic() < end, logs.read_text()[-4000:] if logs.exists() else "no log"
            time.sleep(0.02)

    def end(self) -> None:
        self.chisel("down")
        jobs.kill_leftovers(self.folder)


@pytest.fixture
def fresh() -> Iterator[LocalStack]:
    """A stack that was never started."""
    with short_folder() as folder, reaped(folder):
        made = LocalStack(folder)
        yield made
        made.end()


@pytest.fixture(scope="module")
def shared() -> Iterator[LocalStack]:
    """A stack that runs while the tests of a module run."""
    with short_folder() as folder, reaped(folder):
        made = LocalStack(folder)
        made.up()
        yield made
        made.end()
