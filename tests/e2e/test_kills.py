"""kill -9 of any one process during a job that prints a counter: no line lost, none doubled."""

from pathlib import Path

import pytest

from tests.e2e.scripts import COUNTER, counter_lines, write
from tests.support.cluster import Cluster

pytestmark = pytest.mark.e2e

LINES = 60


@pytest.mark.parametrize("victim", ["gateway", "scheduler", "storage", "auth", "agent", "nats", "postgres"])
def test_a_running_job_survives_the_death_of(victim: str, own_cluster: Cluster, tmp_path: Path) -> None:
    cluster = own_cluster
    write(tmp_path, "job.py", COUNTER)
    running = cluster.spawn(["python", "job.py", str(LINES), "0.05", "-a", "counter"], cwd=tmp_path)
    running.wait_for_output(b"line 10\n")
    cluster.kill(victim)
    cluster.start(victim)
    done = running.finish(timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == counter_lines(LINES)
    job = cluster.wait_for_job("counter", lambda view: view["archived"])
    assert (job["state"], job["attempt"]) == ("succeeded", 1)
    late = cluster.run(["logs", job["id"]])
    assert late.stdout == counter_lines(LINES)


@pytest.mark.timeout(300)  # the agent looks every 10 s, storage up to 10 s apart: longer on a busy machine
def test_a_store_wiped_after_the_end_and_before_the_archive_is_filled_again(
    own_cluster: Cluster, tmp_path: Path
) -> None:
    cluster = own_cluster
    write(tmp_path, "job.py", COUNTER)
    running = cluster.spawn(["python", "job.py", "30", "0.1", "-a", "wiped"], cwd=tmp_path)
    running.wait_for_output(b"line 5\n")
    cluster.kill("storage")
    assert running.finish().returncode == 0
    cluster.kill("nats")
    cluster.nats.wipe()
    cluster.start("nats")
    cluster.start("storage")
    job = cluster.wait_for_job("wiped", lambda view: view["archived"], seconds=240)
    assert cluster.run(["logs", job["id"]]).stdout == counter_lines(30)
