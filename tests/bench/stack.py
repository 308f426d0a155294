"""A private embedded stack in a temporary folder, started and stopped by the real commands."""

import json
import os
import shutil
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chisel.local import processes, stack, state
from tests.bench import client, payloads
from tests.bench.machine import family

SLOTS = 4
"""Simulated GPUs of the one agent: as many jobs run at once, and one may ask for all of them."""
_TIMEOUT_SECONDS = 30.0


class Stack:
    """A running stack, what a user's shell around it looks like, and its HTTP API."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scripts = folder / "scripts"
        self.local = folder / "stack"
        self.env = shell_environment(folder)
        payloads.write(self.scripts)

    def up(self) -> float:
        """`chisel up`; how long it took."""
        return client.must_succeed(self.chisel("up")).wall

    def down(self) -> float:
        """`chisel down`; how long it took."""
        return client.must_succeed(self.chisel("down")).wall

    def chisel(self, *arguments: str, marker: bytes | None = None, timeout: float = 120.0) -> client.Run:
        """One `chisel` command in the folder of the scripts."""
        return client.run(
            [command("chisel"), *arguments], env=self.env, cwd=self.scripts, marker=marker, timeout=timeout
        )

    def script(
        self, name: str, *arguments: str, gpus: int = 1, marker: bytes | None = None, timeout: float = 120.0
    ) -> client.Run:
        """`chisel python NAME` to its end, following the output."""
        options = ["--app-name", "bench", "--gpu", str(gpus)]
        return self.chisel("python", f"{name}.py", *arguments, *options, marker=marker, timeout=timeout)

    def warm_up(self) -> None:
        """Two whole jobs: what only a first job pays is not what is measured."""
        for _ in range(2):
            client.must_succeed(self.script("hello", "warm"))

    def processes(self) -> list[int]:
        """Every process of the stack."""
        names = [path.stem for path in (self.local / "run").glob("*.json")]
        known = [processes.recorded(str(self.local), name) for name in names]
        return family(process.pid for process in known if process is not None and process.alive())

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """One call of the HTTP API as the local user; the decoded JSON."""
        facts, key = state.read(str(self.local)), stack.read_key(str(self.local))
        assert facts is not None, "the stack was never started"
        ask = urllib.request.Request(
            f"{facts.url}{path}",
            data=body,
            method=method,
            headers={"Authorization": f"Bearer {key}", **(headers or {})},
        )
        try:
            with urllib.request.urlopen(ask, timeout=_TIMEOUT_SECONDS) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")
            raise RuntimeError(f"{method} {path}: {error.code} {said}") from error
        return json.loads(text) if text else None

    def submit(self, spec: Mapping[str, Any]) -> str:
        """Queue a job over HTTP; its id."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": uuid.uuid4().hex}
        answer = self.request("POST", "/api/v1/jobs", json.dumps(spec).encode(), headers)
        return str(answer["job"]["id"] if "job" in answer else answer["id"])


def command(name: str) -> str:
    """A command of the environment that runs the benchmark."""
    return str(Path(sys.executable).with_name(name))


def shell_environment(folder: Path) -> dict[str, str]:
    """The caller's environment without what would distort a time or lead to another stack:
    no `PYTHON*` switch (bytecode must be cached), no `CHISEL_*`, a home of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "CHISEL_"))}
    home = folder / "home"
    home.mkdir(exist_ok=True)
    return kept | {
        "HOME": str(home),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)]),
        "CHISEL_LOCAL_DIR": str(folder / "stack"),
        "CHISEL_AGENT_GPUS": f"sim:{SLOTS}",
    }


@contextmanager
def private_stack() -> Iterator[Stack]:
    """A stack that has never been started; stopped and deleted at the end. The path is short because
    a Unix socket's must be."""
    folder = Path(tempfile.mkdtemp(prefix="chisel-bench-", dir="/tmp"))
    made = Stack(folder)
    try:
        yield made
    finally:
        made.chisel("down")
        shutil.rmtree(folder, ignore_errors=True)


def wait_for_file(path: Path, seconds: float = 60.0) -> str:
    """The text of a file that a job writes whole, as soon as it is there."""
    end = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > end:
            raise RuntimeError(f"no job has written {path} within {seconds:g} s")
        time.sleep(0.005)
    return path.read_text()
