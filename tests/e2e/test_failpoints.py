"""Every failpoint of every service, struck while a job goes through: nothing is lost, nothing runs twice.

The tests are made from the source: a new `failpoint("…")` is tried by its being there.
"""

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.scripts import write
from tests.support.cluster import Cluster, running_cluster
from tests.support.source import last_name, python_files, tree

pytestmark = pytest.mark.e2e

LINES = 40
TRACE = '{"traceEvents": [{"ph": "X", "cat": "cpu_op", "name": "mm", "pid": 1, "tid": 1, "ts": 1, "dur": 5}]}'
JOB = f"""\
import os, sys, time
with open(os.path.join(os.environ["CHISEL_TRACE_DIR"], ".step.tmp"), "w") as trace:
    trace.write({TRACE!r})
os.rename(trace.name, trace.name.replace(".step.tmp", "step.json"))
open(os.path.join(os.environ["WITNESS"], os.environ["CHISEL_ATTEMPT"]), "x").close()
for n in range({LINES}):
    print("line", n, flush=True)
    time.sleep(0.005)
sys.exit(7)
"""
OUTPUT = b"".join(b"line %d\n" % n for n in range(LINES))
NEEDS_A_CANCEL = {"cancel.committed"}


def failpoints() -> list[tuple[str, str]]:
    """(service, name) of every failpoint there is."""
    found = []
    for path in python_files("services"):
        service = path.relative_to(path.parents[len(path.parts) - 1 - path.parts.index("services")]).parts[1]
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and last_name(node.func) == "failpoint":
                (argument,) = node.args
                assert isinstance(argument, ast.Constant)
                found.append((service.removeprefix("chisel_"), str(argument.value)))
    return found


FOUND = failpoints()
IN_JOBS = [(service, name) for service, name in FOUND if name not in NEEDS_A_CANCEL]


@pytest.fixture(scope="module")
def broken() -> Iterator[Cluster]:
    """A cluster whose services these tests break; its agent is called `agent`. What heals it comes by more
    often than where nobody waits for it."""
    with running_cluster(agents={"agent": 2}) as running:
        running.start_with("scheduler", REAP_SECONDS="1", RENEW_SECONDS="1")
        running.start_with("agent", POLL_SECONDS="1", RENEW_SECONDS="1")
        yield running


def test_each_is_there_once() -> None:
    names = [name for _, name in FOUND]
    assert len(names) == len(set(names))
    assert {name.partition(".")[0] for name in names} >= {
        "submit",
        "claim",
        "done",
        "archive",
        "trace",
        "upload",
        "reading",
    }


def run_through(cluster: Cluster, folder: Path, app_name: str, service: str, *, dies: bool = False) -> None:
    """A job while the failpoints of `service` strike; it ends as ever."""
    witness = folder / "witness"
    witness.mkdir()
    write(folder, "job.py", JOB)
    cluster.wait_ready()
    options = ["--env", f"WITNESS={witness}", "-a", app_name]
    running = cluster.spawn(["python", *options, "job.py"], cwd=folder)
    if dies:
        cluster.wait_for_death(service)
        cluster.arm(service, "")
    done = running.finish()
    assert (done.returncode, done.stdout) == (7, OUTPUT), done.stderr.decode()
    archived = cluster.wait_for_job(app_name, lambda job: job["archived"])
    assert (archived["state"], archived["end"]["exit_code"]) == ("failed", 7)
    assert cluster.run(["logs", archived["id"]]).stdout == OUTPUT
    # User code ran in one attempt, whatever other attempts were lost before they ran any.
    assert len(list(witness.iterdir())) == 1
    cluster.until(lambda: trace_of(cluster, archived["id"])["reading"] == "done")
    trace = trace_of(cluster, archived["id"])
    assert (trace["state"], trace["events"]) == ("ready", 1)
    assert trace["sha256"] == hashlib.sha256(TRACE.encode()).hexdigest()
    check_laws(cluster, app_name)


def trace_of(cluster: Cluster, job_id: str) -> Any:
    """The job's one trace."""
    (trace,) = cluster.get(f"/api/v1/jobs/{job_id}/traces")["traces"]
    return trace


def check_laws(cluster: Cluster, app_name: str) -> None:
    """One job, one attempt at a time, a ledger that adds up, and nothing left to say."""
    assert cluster.fetch("select count(*) from scheduler.jobs where spec ->> 'app_name' = $1", app_name) == 1
    assert cluster.fetch("select count(*) from scheduler.attempts where ended_at is null") == 0
    assert cluster.fetch("select sum(gpus_held) from scheduler.agents") == 0
    cluster.until(lambda: cluster.fetch("select count(*) from scheduler.outbox") == 0)
    versions = "select count(*) = max(version) from scheduler.job_events where job_id = $1"
    assert cluster.fetch(versions, cluster.job(app_name)["id"])


@pytest.mark.parametrize(("service", "name"), IN_JOBS, ids=[name for _, name in IN_JOBS])
def test_a_death(broken: Cluster, tmp_path: Path, service: str, name: str) -> None:
    broken.arm(service, f"{name}:kill")
    run_through(broken, tmp_path, f"death at {name}", service, dies=True)


@pytest.mark.parametrize("service", ["gateway", "scheduler", "storage"])
def test_every_place_fails_once(broken: Cluster, tmp_path: Path, service: str) -> None:
    """An error may lead around a later place, so those not met in one job are tried with the next."""
    left = {name for of, name in IN_JOBS if of == service}
    while left:
        broken.arm(service, ",".join(f"{name}:error" for name in left))
        folder = tmp_path / str(len(left))
        folder.mkdir()
        run_through(broken, folder, f"{len(left)} errors of {service}", service)
        met = left & broken.struck(service, "error")
        assert met, f"no job comes by {left}"
        left -= met
    broken.arm(service, "")


def test_answers_that_come_after_their_askers_gave_up(broken: Cluster, tmp_path: Path) -> None:
    names = {name for service, name in IN_JOBS if service == "scheduler" and name.endswith(".committed")}
    broken.arm("scheduler", ",".join(f"{name}:delay=3.5" for name in names))
    run_through(broken, tmp_path, "delays", "scheduler")
    struck = broken.struck("scheduler", "delay")
    broken.arm("scheduler", "")
    assert struck >= names


def test_a_cancel_that_its_scheduler_does_not_survive(broken: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", "import time\nprint('up', flush=True)\ntime.sleep(600)\n")
    broken.arm("scheduler", "cancel.committed:kill")
    broken.wait_ready()
    running = broken.spawn(["python", "-a", "cancelled", "job.py"], cwd=tmp_path)
    running.wait_for_output(b"up\n")
    asking = broken.spawn(["cancel", broken.job("cancelled")["id"]])
    broken.wait_for_death("scheduler")
    broken.arm("scheduler", "")
    assert asking.finish().returncode == 0
    assert running.finish().returncode == 130
    check_laws(broken, "cancelled")
