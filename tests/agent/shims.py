"""A shim without an agent: one attempt's folder, and what starts and reads it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from chisel_agent.launch import (
    Exit,
    Plan,
    make_spools,
    read_exit,
    shim_command,
    write_plan,
)
from chisel_shared.contract.ids import new_id
from tests.agent.facts import eventually

PYTHON = sys.executable


class Job:
    """One attempt's folder, and the shim in it."""

    def __init__(self, root: Path, places: tuple[str, ...]) -> None:
        self.id = new_id()
        self.folder = root / "attempts" / f"{self.id}.1"
        self.folder.mkdir(parents=True)
        (self.folder / "work").mkdir()
        self.places = places
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, code: str = "", *, argv: tuple[str, ...] | None = None, **limits: Any) -> None:
        values: dict[str, Any] = {
            "argv": argv if argv is not None else (PYTHON, "-u", "-c", code),
            "env": {"PATH": "/usr/bin:/bin", "CHISEL_JOB_ID": self.id, "CHISEL_ATTEMPT": "1"},
            "cwd": self.folder / "work",
            "interrupt_grace_seconds": 0.2,
            "terminate_grace_seconds": 0.2,
        }
        write_plan(self.folder, Plan(**(values | limits)))
        make_spools(self.folder)
        command = [*shim_command(Path(PYTHON), self.places), str(self.folder)]
        self.process = subprocess.Popen(command, start_new_session=True)

    def end(self) -> Exit:
        assert self.process is not None
        assert self.process.wait(60) == 0
        exit_ = read_exit(self.folder)
        assert exit_ is not None
        return exit_

    def run(self, code: str = "", **limits: Any) -> Exit:
        self.start(code, **limits)
        return self.end()

    def spool(self, name: str = "stdout") -> bytes:
        return (self.folder / name).read_bytes()

    def printed(self, text: bytes) -> None:
        """Return when the job has printed `text`."""
        eventually(lambda: text in self.spool())

    def pids(self) -> list[int]:
        """Process numbers the job has printed, one a line."""
        return [int(line) for line in self.spool().split()]
