"""`python -m tests.bench.hydra [--runs N]`: how soon after its end nothing of a job is left that does
everything to survive, by each way of keeping its processes together, and of one whose shim was killed.
"""

import argparse
import os
import select
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from chisel_agent import places, sandbox
from chisel_agent.launch import request_stop
from chisel_shared.contract.ids import JobId
from chisel_shared.contract.messages import AttemptRef
from tests.agent.shims import Job
from tests.bench.figures import Figure, percentile, table
from tests.support import hydra

WAYS = {
    places.KILL: "cgroup.kill",
    places.FREEZE: "a freezer",
    places.OFF: "no control groups",
}
MUST_MS = 250.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.hydra", description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    runs = parser.parse_args().runs
    figures = []
    for way, name in WAYS.items():
        figures.append(_figure(way, f"end of the script to empty, {name}", _by_itself, runs))
        if way != places.OFF:
            figures.append(_figure(way, f"agent finds a killed shim to empty, {name}", _shim_killed, runs))
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {runs} runs each\n\n{table(figures)}")
    return int(any(figure.holds is False for figure in figures))


def _figure(way: str, what: str, measure: Callable[[Job], float], runs: int) -> Figure:
    values = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            found = places.find(Path(folder), wanted=way)
            if way != places.OFF and not found:
                return Figure(letter="H", what=what, unit="ms", values=(), note="not on this machine")
            job = Job(Path(folder), found)
            try:
                job.start(hydra.SCRIPT)
                job.printed(b"\n")
                values.append(measure(job) * 1000)
            finally:
                request_stop(job.folder, "user", at_once=True)
                if job.process is not None:
                    job.process.wait(30)
                sandbox.sweep(found)
                sandbox.release(found)
    note = f"p95 {percentile(values, 0.95):.0f} ms"
    return Figure(letter="H", what=what, unit="ms", values=tuple(values), must=MUST_MS, note=note)


def _by_itself(job: Job) -> float:
    script = os.pidfd_open(int(job.spool().split()[1]))
    (job.folder / "work/go").touch()
    select.select([script], [], [])
    began = time.perf_counter()
    hydra.until_dead(job.folder / "work")
    took = time.perf_counter() - began
    os.close(script)
    job.end()
    return took


def _shim_killed(job: Job) -> float:
    assert job.process is not None
    job.process.kill()
    job.process.wait()
    began = time.perf_counter()
    left = sandbox.end_leftovers(job.folder, AttemptRef(job_id=JobId(job.id), attempt=1), within_seconds=30)
    assert not left
    hydra.until_dead(job.folder / "work")
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
