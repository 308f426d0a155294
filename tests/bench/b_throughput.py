"""B: 500 jobs that do nothing, four at a time: from the first submission to the last end.

The jobs go through the HTTP API from eight threads, as a program would send them; a figure of the
services and the agent, not of 500 client starts. Beside it: bare `python -c pass`, four at a time.
"""

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from chisel_shared.contract.gpus import gpu_type
from tests.bench import payloads
from tests.bench.figures import Figure
from tests.bench.machine import settle
from tests.bench.stack import SLOTS, Stack, command
from tests.support.packs import bundle

JOBS = 500
_SUBMITTERS = 8
_POLL_SECONDS = 0.1
_LIMIT_SECONDS = 300.0


def measure(stack: Stack, repeats: int) -> list[Figure]:
    stack.warm_up()
    spec = _spec(stack)
    rates = []
    fault = ""
    for _ in range(min(repeats, 3)):
        settle()
        began = time.perf_counter()
        with ThreadPoolExecutor(_SUBMITTERS) as pool:
            jobs = set(pool.map(lambda _: stack.submit(spec), range(JOBS)))
        succeeded = _wait(stack, jobs, until=began + _LIMIT_SECONDS)
        rates.append(succeeded / (time.perf_counter() - began))
        if succeeded != JOBS:
            fault = f"only {succeeded} of {JOBS} succeeded"
    settle()
    return [
        Figure(
            letter="B",
            what=f"{JOBS} x an empty script, {SLOTS} at a time",
            unit="jobs/s",
            values=tuple(rates),
            must=20,
            aim=100,
            more_is_better=True,
            fault=fault,
        ),
        Figure(letter="B", what="the same, bare python", unit="jobs/s", values=(_bare(stack),)),
    ]


def _spec(stack: Stack) -> dict[str, object]:
    """What every job asks for; its bundle is stored, its environment built by a first job."""
    made = bundle({"nothing.py": payloads.NOTHING})
    for digest, packed in made.packs.items():
        stack.request("PUT", f"/api/v1/packs/{digest}", packed)
    stack.request("PUT", f"/api/v1/bundles/{made.digest}", made.manifest)
    spec: dict[str, object] = {
        "app_name": "bench",
        "argv": ["python", "nothing.py"],
        "gpu": gpu_type(1).value,
        "bundle": made.digest,
    }
    first = stack.submit(spec)
    if _wait(stack, {first}, until=time.perf_counter() + _LIMIT_SECONDS) != 1:
        raise RuntimeError(f"the first job, {first}, did not succeed")
    return spec


def _wait(stack: Stack, jobs: set[str], *, until: float) -> int:
    """How many succeeded once none is unfinished, or time is over."""
    while time.perf_counter() < until:
        if not stack.request("GET", "/api/v1/jobs?unfinished=true&limit=1")["jobs"]:
            break
        time.sleep(_POLL_SECONDS)
    listed = stack.request("GET", f"/api/v1/jobs?limit={JOBS}")["jobs"]
    return sum(job["id"] in jobs and job["state"] == "succeeded" for job in listed)


def _bare(stack: Stack) -> float:
    def one(_: int) -> None:
        subprocess.run([command("python"), "-c", "pass"], env=stack.env, check=True)

    began = time.perf_counter()
    with ThreadPoolExecutor(SLOTS) as pool:
        list(pool.map(one, range(JOBS)))
    return JOBS / (time.perf_counter() - began)
