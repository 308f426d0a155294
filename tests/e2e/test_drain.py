"""Agents are closed, emptied and upgraded while jobs run, and no job is lost to it."""

import hashlib
import json
from pathlib import Path

import pytest

from tests.e2e.operator import Operator
from tests.e2e.scripts import COUNTER, STUBBORN, WITNESS, counter_lines, write
from tests.e2e.test_cancel import alive
from tests.support.cluster import Cluster, wait_until

pytestmark = pytest.mark.e2e

GRACE = {"INTERRUPT_GRACE_SECONDS": "0.5", "TERMINATE_GRACE_SECONDS": "0.5"}

LOUD = """\
import os, sys, time
status, lines, gate = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
for n in range(lines):
    print(f"job {status} line {n:06}", "x" * 200)
    if n == lines // 2:
        sys.stdout.flush()
        while not os.path.exists(gate):
            time.sleep(0.02)
    if n % 100 == 0:
        time.sleep(0.02)
sys.exit(status)
"""
"""Stops in the middle until the gate is open, so that a test knows which half is printed when."""


def loud_lines(status: int, lines: int) -> bytes:
    """What `LOUD` prints."""
    return b"".join(b"job %d line %06d " % (status, n) + b"x" * 200 + b"\n" for n in range(lines))


@pytest.fixture
def operator(own_cluster: Cluster) -> Operator:
    return Operator(own_cluster)


def test_a_cordon_holds_jobs_back_until_it_is_undone(
    own_cluster: Cluster, operator: Operator, tmp_path: Path
) -> None:
    cluster = own_cluster
    write(tmp_path, "job.py", "print('ran')\n")
    refused = cluster.run(["admin", "agents", "cordon", "agent"])
    assert refused.returncode == 125
    assert b"this key may not do 'agents:admin': log in as an admin with chisel login" in refused.stderr
    assert operator.agent("agent")["state"] == "online"
    assert b"nothing runs on it" in operator.run("cordon", "agent", "--reason", "new driver").stderr
    job = cluster.spawn(["python", "job.py", "-g", "8", "-a", "waits"], cwd=tmp_path)
    told = cluster.wait_for_job("waits", lambda view: view["state"] == "queued")
    reason = "no agent with 8 free A100-80GB GPUs; agent, which has 8, is cordoned by ada: new driver"
    assert told["waiting"] == reason
    assert f"it waits: {reason}\n".encode() in cluster.run(["why", told["id"]]).stdout
    (kind,) = json.loads(cluster.run(["gpus", "--json"]).stdout)
    assert (kind["total"], kind["free"], kind["away"], kind["queued"]) == (0, 0, 8, 1)
    # It is the operator's word: neither the agent's next session nor the scheduler's next life ends it.
    cluster.restart("agent")
    log = cluster.folder / "logs" / "scheduler.log"
    cluster.until(lambda: log.read_text().count('"agent_hello"') == 2)
    cluster.kill("scheduler")
    cluster.start("scheduler")
    operator.wait_for("agent", "cordoned")
    assert cluster.job("waits")["state"] == "queued"
    shown = operator.run("ls").stdout.decode()
    assert "cordoned by ada" in shown
    assert "new driver" in shown
    operator.run("uncordon", "agent")
    done = job.finish()
    assert (done.returncode, done.stdout) == (0, b"ran\n"), done.stderr


def test_at_the_deadline_a_job_that_ignores_signals_is_ended_and_its_user_told(
    own_cluster_without_agents: Cluster, tmp_path: Path
) -> None:
    cluster = own_cluster_without_agents
    cluster.add_agent(gpus=1, name="gpu-01", settings=GRACE)
    operator = Operator(cluster)
    write(tmp_path, "job.py", STUBBORN)
    running = cluster.spawn(["python", "job.py", "-a", "stubborn"], cwd=tmp_path)
    pid = int(running.wait_for_output(b"\n"))
    said = operator.run("drain", "gpu-01", "--deadline", "1s", "--reason", "new driver").stderr
    assert b"gpu-01 drains: 1 job runs on it" in said
    done = running.finish()
    job = cluster.job("stubborn")
    assert done.returncode == 125
    assert f"job {job['id']} cancelled: ada drained gpu-01: new driver".encode() in done.stderr
    assert f"run it again: chisel rerun {job['id']}".encode() in done.stderr
    assert (job["state"], job["end"]["reason"], job["cancelled_by"]) == ("cancelled", "drain", "ada")
    wait_until(lambda: not alive(pid))
    operator.wait_for("gpu-01", "drained")


def test_a_drain_that_is_waited_for_ends_when_the_jobs_have(
    own_cluster: Cluster, operator: Operator, tmp_path: Path
) -> None:
    cluster = own_cluster
    gate = tmp_path / "gate"
    gate.mkdir()
    write(tmp_path / "src", "job.py", WITNESS)
    running = cluster.spawn(["python", "job.py", str(gate), "-a", "finishes"], cwd=tmp_path / "src")
    running.wait_for_output(b"gpus")
    draining = operator.spawn("drain", "agent", "--wait", "--json")
    operator.wait_for("agent", "draining")
    cluster.restart("agent")
    assert operator.agent("agent")["cordon"]["drain"], "the agent's restart is no uncordon"
    (gate / "go").touch()
    done = draining.finish()
    assert done.returncode == 0, done.stderr
    assert b"agent drains: 1 job runs on it" in done.stderr
    assert b"agent is drained: nothing runs on it" in done.stderr
    view = json.loads(done.stdout)
    assert view["jobs"] == 0
    assert running.finish().returncode == 0


def test_a_job_with_retries_goes_on_elsewhere_when_its_agent_is_drained(
    own_cluster_without_agents: Cluster, tmp_path: Path
) -> None:
    cluster = own_cluster_without_agents
    cluster.add_agent(gpus=1, name="first", settings=GRACE)
    operator = Operator(cluster)
    write(tmp_path, "job.py", COUNTER)
    words = ["python", "job.py", "150", "0.05", "-a", "moves", "--retries", "1"]
    running = cluster.spawn(words, cwd=tmp_path)
    running.wait_for_output(b"line 5\n")
    cluster.add_agent(gpus=1, name="second", settings=GRACE)
    operator.run("drain", "first", "--deadline", "1s", "--wait", "--reason", "new driver")
    job = cluster.wait_for_job("moves", lambda view: view["attempt"] == 2)
    done = running.finish()
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(counter_lines(150))
    first = done.stdout.removesuffix(counter_lines(150))
    assert first.startswith(counter_lines(6))
    assert counter_lines(150).startswith(first), "what the first attempt printed, and nothing twice"
    assert b"first is drained by ada: new driver; it will run again" in done.stderr
    job = cluster.job("moves")
    assert (job["state"], job["attempt"], job["agent_name"]) == ("succeeded", 2, "second")


def test_an_agent_is_replaced_under_eight_running_jobs(
    own_cluster: Cluster, operator: Operator, tmp_path: Path
) -> None:
    cluster = own_cluster
    folder = tmp_path / "src"
    write(folder, "job.py", LOUD)
    gate, lines = tmp_path / "gate", 6_000
    running = [
        cluster.spawn(["python", "job.py", str(n), str(lines), str(gate), "-a", f"job-{n}"], cwd=folder)
        for n in range(8)
    ]
    for n, command in enumerate(running):
        command.wait_for_output(b"job %d line 000001" % n)
    operator.run("drain", "agent", "--reason", "upgrade")
    assert cluster.stop("agent") == 0
    gate.touch()  # the rest is printed while no agent is there, and while the next one takes over
    cluster.start("agent")
    for n, command in enumerate(running):
        done = command.finish(timeout=120)
        assert done.returncode == n, done.stderr
        expected = loud_lines(n, lines)
        assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(expected).digest()
        job = cluster.job(f"job-{n}")
        assert (job["attempt"], job["end"]["exit_code"]) == (1, n)
        assert job["end"]["stdout_sha256"] == hashlib.sha256(expected).hexdigest()
    operator.wait_for("agent", "drained")
    assert '"adopted": 8' in (cluster.folder / "logs" / "scheduler.log").read_text()
