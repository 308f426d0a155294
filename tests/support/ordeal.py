"""An outage as a user lives through it: a job prints all the while, another is submitted in the middle."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.scripts import COUNTER, counter_lines, write
from tests.support.cluster import Cluster
from tests.support.commands import Command

REFUSED = 125
_PRINT_SECONDS = 0.1
_HEALED_WITHIN_SECONDS = 60.0
"""When waiting is given up; the time it took is what is reported."""


@dataclass(frozen=True)
class Healed:
    """Seconds from the end of the cause until everything was ready, and until a new job was through."""

    ready: float
    job: float


def tell(line: str) -> None:
    """A line for who runs the tests with `-s`, or looks at what a failed one wrote."""
    sys.stdout.write(line + "\n")


class Ordeal:
    """One cluster, one job that counts, and what becomes of both."""

    def __init__(self, cluster: Cluster, folder: Path, *, lines: int) -> None:
        self.cluster, self._folder, self._lines = cluster, folder, lines
        write(folder / "counter", "job.py", COUNTER)
        command = ["python", "job.py", str(lines), str(_PRINT_SECONDS), "-a", "counter"]
        self._counter = cluster.spawn(command, cwd=folder / "counter")
        self._counter.wait_for_output(b"line 5\n")

    def submit(self, name: str) -> Command:
        """`chisel python` of a directory that was never uploaded; it prints its name."""
        write(self._folder / name, "job.py", f'print("{name} ran")\n')
        return self.cluster.spawn(["python", "job.py", "-a", name], cwd=self._folder / name)

    def must_have_run_or_been_refused(self, name: str, submitted: Command) -> str:
        """What became of a submission made during the outage: `kept`, or `refused` in one sentence, and
        then the same command works."""
        done = submitted.finish(timeout=100)
        if done.returncode == 0:
            assert done.stdout == f"{name} ran\n".encode()
            return "kept"
        said = done.stderr.decode().strip().splitlines()
        assert done.returncode == REFUSED, said
        assert said[-1].startswith("chisel: "), said
        again = self.submit(name).finish()
        assert (again.returncode, again.stdout) == (0, f"{name} ran\n".encode()), again.stderr
        return f"refused: {said[-1]}"

    def until_healed(self, cause: str, *, ended_at: float) -> Healed:
        """Wait for everything to work as before; says how long that took."""
        self.cluster.until(lambda: not self.cluster.ill(), seconds=_HEALED_WITHIN_SECONDS)
        ready = time.monotonic() - ended_at
        done = self.submit("after").finish()
        assert (done.returncode, done.stdout) == (0, b"after ran\n"), done.stderr
        healed = Healed(ready=ready, job=time.monotonic() - ended_at)
        tell(f"{cause}: ready after {healed.ready:.2f} s, a new job through after {healed.job:.2f} s")
        return healed

    def finish(self) -> Any:
        """The job that counted has printed every line once, to its follower and for later; its view."""
        done = self._counter.finish(timeout=_PRINT_SECONDS * self._lines + 60)
        assert done.returncode == 0, done.stderr
        assert done.stdout == counter_lines(self._lines)
        job = self.cluster.wait_for_job("counter", lambda view: view["archived"], seconds=60)
        assert (job["state"], job["attempt"]) == ("succeeded", 1)
        assert self.cluster.run(["logs", job["id"]]).stdout == counter_lines(self._lines)
        return job


def outlast(
    ordeal: Ordeal, cause: str, *, begin: Callable[[], None], end: Callable[[], None], seconds: float
) -> Healed:
    """Begin the outage, submit in the middle of it, end it after `seconds`, and see everything heal."""
    begin()
    began = time.monotonic()
    during = ordeal.submit("during")
    time.sleep(max(0.0, began + seconds - time.monotonic()))
    end()
    healed = ordeal.until_healed(cause, ended_at=time.monotonic())
    tell(f"{cause}: a submission meanwhile was {ordeal.must_have_run_or_been_refused('during', during)}")
    return healed
