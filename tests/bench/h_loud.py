"""H: one job prints as fast as it can, more than is kept of it, and the bus stops for a while: what the agent
and the shim hold in memory at most, and how long the lines of another job on the same agent take meanwhile.

It prints 2 GB, or as many as CHISEL_BENCH_LOUD_GB says.
"""

import os
import re
import signal
import time
from pathlib import Path
from threading import Event, Thread

from chisel.local import processes
from tests.bench import client
from tests.bench.c2_latency import LINES, latencies
from tests.bench.figures import Figure, percentile
from tests.bench.machine import settle
from tests.bench.stack import Stack

STOPPED_SECONDS = 5.0
HEAD_BYTES, TAIL_BYTES = 1 << 30, 16 << 20  # what agents keep when nobody says otherwise
_LOOK_SECONDS = 0.05


def measure(stack: Stack, repeats: int) -> list[Figure]:
    size = int(float(os.environ.get("CHISEL_BENCH_LOUD_GB", "2")) * 1e9)
    stack.warm_up()
    settle()
    alone = latencies(client.must_succeed(stack.script("stamps")))
    over = Event()
    peaks: dict[str, float] = {"agent": 0.0, "shim": 0.0}
    began = time.monotonic()
    job = (
        stack.chisel("python", "loud.py", str(size), "--detach", "--app-name", "loud").stdout.decode().strip()
    )
    watching = Thread(target=_watch, args=(stack, job, peaks, over))
    watching.start()
    try:
        _stop_the_bus(stack, job)
        beside: list[float] = []
        faults = []
        while (view := stack.request("GET", f"/api/v1/jobs/{job}"))["end"] is None:
            found = latencies(client.must_succeed(stack.script("stamps")))
            beside += found
            if len(found) != LINES:
                faults.append(f"only {len(found)} of {LINES} lines of the other job arrived")
    finally:
        over.set()
        watching.join()
    seconds = time.monotonic() - began
    missing = max(0, size - HEAD_BYTES - TAIL_BYTES)
    if view["end"]["stdout_omitted"] != missing or view["end"]["exit_code"] != 0:
        faults.append(f"it ended as {view['end']}, with {missing} bytes to be left out")
    fault = "; ".join(faults)
    meanwhile = f"while a job prints {size / 1e9:g} GB"

    def figure(what: str, unit: str, value: float, must: float | None = None, note: str = "") -> Figure:
        wrong = fault if must else ""
        return Figure(letter="H", what=what, unit=unit, values=(value,), must=must, note=note, fault=wrong)

    return [
        figure(f"{meanwhile}: the agent's memory at most", "MB", peaks["agent"], must=150),
        figure(f"{meanwhile}: its shim's", "MB", peaks["shim"], must=40),
        figure(f"{meanwhile}: a line of another job, p50", "ms", percentile(beside, 0.5)),
        figure(f"{meanwhile}: a line of another job, p99", "ms", percentile(beside, 0.99)),
        figure("a line of that job alone, p50", "ms", percentile(alone, 0.5)),
        figure("a line of that job alone, p99", "ms", percentile(alone, 0.99)),
        figure(f"{meanwhile}: start to end", "s", seconds, note=f"{STOPPED_SECONDS:g} s without a bus"),
    ]


def _pid(stack: Stack, name: str) -> int:
    found = processes.recorded(str(stack.local), name)
    assert found is not None, f"the stack has no {name}"
    return found.pid


def _stop_the_bus(stack: Stack, job: str) -> None:
    """Once the job has printed a little, for a few seconds."""
    while not any(
        path.stat().st_size > 50_000_000 for path in stack.local.glob(f"agent/attempts/{job}.1/stdout")
    ):
        time.sleep(_LOOK_SECONDS)
    bus = _pid(stack, "nats")
    os.kill(bus, signal.SIGSTOP)
    time.sleep(STOPPED_SECONDS)
    os.kill(bus, signal.SIGCONT)


def _watch(stack: Stack, job: str, peaks: dict[str, float], over: Event) -> None:
    agent = _pid(stack, "agent")
    while not over.wait(_LOOK_SECONDS):
        peaks["agent"] = max(peaks["agent"], _peak_mb(agent))
        for file in stack.local.glob(f"agent/attempts/{job}.1/running"):
            peaks["shim"] = max(peaks["shim"], _peak_mb(int(file.read_text() or 0)))


def _peak_mb(pid: int) -> float:
    """The most memory that a process has held at once; 0 when it is gone."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        found = None
    return int(found[1]) * 1024 / 1e6 if found else 0.0
