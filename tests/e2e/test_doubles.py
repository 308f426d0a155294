"""Two of what there should be one of: harmless, or the second is refused."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.e2e.scripts import COUNTER, counter_lines, write
from tests.support.cluster import Cluster
from tests.support.processes import Server

pytestmark = pytest.mark.e2e


def test_two_schedulers_share_the_work_and_either_may_die(own_cluster: Cluster, tmp_path: Path) -> None:
    cluster = own_cluster
    cluster.add_scheduler("scheduler-2")
    write(tmp_path, "job.py", COUNTER)
    for number, victim in enumerate(("scheduler", "scheduler-2")):
        names = [f"both-{number}-{job}" for job in range(4)]
        jobs = [cluster.spawn(["python", "job.py", "30", "0.05", "-a", name], cwd=tmp_path) for name in names]
        for job in jobs:
            job.wait_for_output(b"line 3\n")
        cluster.kill(victim)
        for name, job in zip(names, jobs, strict=True):
            done = job.finish()
            assert (done.returncode, done.stdout) == (0, counter_lines(30)), done.stderr
            assert cluster.wait_for_job(name, lambda view: view["archived"])["attempt"] == 1
        cluster.start(victim)
    assert cluster.fetch("select count(*) from scheduler.attempts") == 8
    cluster.until(lambda: cluster.fetch("select count(*) from scheduler.outbox") == 0)


def test_a_second_agent_on_the_same_data_is_refused(own_cluster: Cluster, tmp_path: Path) -> None:
    cluster = own_cluster
    write(tmp_path, "job.py", COUNTER)
    running = cluster.spawn(["python", "job.py", "40", "0.1", "-a", "counter"], cwd=tmp_path)
    running.wait_for_output(b"line 3\n")
    first = cluster.server("agent")
    second = Server([sys.executable, "-m", "chisel_agent"], log=tmp_path / "second.log", env=first.env)
    second.start()
    second.wait_for_end()
    assert second.stop() == 1
    assert "give each agent its own" in second.log.read_text()
    done = running.finish()
    assert (done.returncode, done.stdout) == (0, counter_lines(40)), done.stderr
    assert cluster.job("counter")["attempt"] == 1


def test_an_agent_with_anothers_credentials_waits_until_that_one_has_ended(
    own_cluster: Cluster, tmp_path: Path
) -> None:
    cluster = own_cluster
    write(tmp_path, "job.py", COUNTER)
    running = cluster.spawn(["python", "job.py", "60", "0.1", "-a", "counter"], cwd=tmp_path)
    running.wait_for_output(b"line 3\n")
    first = cluster.server("agent")
    assert first.env is not None
    copy = cluster.folder / "agent-copy"
    copy.mkdir()
    shutil.copy(cluster.folder / "agent-agent" / "credentials.json", copy)
    cluster.add_double("copy", {**first.env, "CHISEL_AGENT_DATA_DIR": str(copy)})
    cluster.until(lambda: '"agent_doubled"' in (cluster.folder / "logs" / "scheduler.log").read_text())
    done = running.finish()
    assert (done.returncode, done.stdout) == (0, counter_lines(60)), done.stderr
    assert cluster.job("counter")["attempt"] == 1
    assert '"welcomed"' not in cluster.server("copy").tail()
    cluster.wait_for_job("counter", lambda view: view["archived"])
    cluster.stop("agent")
    after = cluster.run(["python", "job.py", "3", "0", "-a", "after"], cwd=tmp_path)
    assert (after.returncode, after.stdout) == (0, counter_lines(3)), after.stderr
    cluster.until(lambda: '"welcomed"' in cluster.server("copy").tail())
