"""Agents of different sizes share the work by themselves."""

import re
from pathlib import Path

import pytest

from tests.e2e.scripts import COUNTER, WITNESS, counter_lines, write
from tests.support.cluster import Cluster

pytestmark = pytest.mark.e2e


@pytest.fixture
def three(own_cluster_without_agents: Cluster) -> Cluster:
    """A cluster with agents of 8, 2 and 1 simulated GPUs."""
    for name, gpus in (("eight", 8), ("two", 2), ("one", 1)):
        own_cluster_without_agents.add_agent(gpus=gpus, name=name)
    return own_cluster_without_agents


def test_eight_gpus_run_4_2_1_and_1_at_once(cluster: Cluster, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.mkdir()
    folder = tmp_path / "src"
    write(folder, "job.py", WITNESS)
    jobs = [
        cluster.spawn(["python", "job.py", str(gate), "-g", str(gpus), "-a", f"share-{gpus}"], cwd=folder)
        for gpus in (4, 2, 1, 1)
    ]
    seen: list[int] = []
    for job, gpus in zip(jobs, (4, 2, 1, 1), strict=True):
        line = job.wait_for_output(b"\n").decode()
        found = re.match(r"gpus (\d) ([\d,]+)", line)
        assert found, line
        indices = [int(index) for index in found[2].split(",")]
        assert int(found[1]) == len(indices) == gpus
        seen += indices
    assert sorted(seen) == list(range(8)), "every GPU belongs to exactly one job"
    (gate / "go").touch()
    assert [job.finish().returncode for job in jobs] == [0, 0, 0, 0]


def test_an_eight_gpu_job_lands_on_the_agent_that_has_eight(three: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", "pass\n")
    for round_ in range(3):
        done = three.run(["python", "job.py", "-g", "8", "-a", f"big-{round_}"], cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert three.job(f"big-{round_}")["agent_name"] == "eight"


def test_small_jobs_leave_the_large_agent_whole(three: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", "pass\n")
    done = three.run(["python", "job.py", "-g", "1", "-a", "small"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert three.job("small")["agent_name"] == "one"


def test_a_new_agent_has_work_within_a_second(own_cluster_without_agents: Cluster, tmp_path: Path) -> None:
    cluster = own_cluster_without_agents
    cluster.add_agent(gpus=1, name="busy")
    gate = tmp_path / "gate"
    gate.mkdir()
    folder = tmp_path / "src"
    write(folder, "job.py", WITNESS)
    first = cluster.spawn(["python", "job.py", str(gate), "-a", "first"], cwd=folder)
    first.wait_for_output(b"gpus")
    second = cluster.spawn(["python", "job.py", str(gate), "-a", "second"], cwd=folder)
    cluster.wait_for_job("second", lambda view: view["state"] == "queued")
    cluster.add_agent(gpus=1, name="fresh")
    second.wait_for_output(b"gpus")
    job = cluster.job("second")
    assert job["agent_name"] == "fresh"
    # Both by the scheduler's clock: how quickly this test gets to look is no part of it.
    assert job["started_at"] - cluster.registered_at("fresh") <= 1.0
    (gate / "go").touch()
    assert (first.finish().returncode, second.finish().returncode) == (0, 0)


def test_a_stopped_agent_hands_its_running_job_to_its_successor(own_cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", COUNTER)
    running = own_cluster.spawn(["python", "job.py", "60", "0.05", "-a", "handed"], cwd=tmp_path)
    running.wait_for_output(b"line 10\n")
    assert own_cluster.stop("agent") == 0
    own_cluster.start("agent")
    done = running.finish(timeout=60)
    assert (done.returncode, done.stdout) == (0, counter_lines(60)), done.stderr
    assert own_cluster.job("handed")["attempt"] == 1


def test_a_job_that_no_agent_could_run_is_refused_with_what_exists(
    own_cluster_without_agents: Cluster, tmp_path: Path
) -> None:
    own_cluster_without_agents.add_agent(gpus=2, name="two")
    write(tmp_path, "job.py", "pass\n")
    done = own_cluster_without_agents.run(["python", "job.py", "-g", "8"], cwd=tmp_path)
    assert done.returncode == 125
    assert b"8" in done.stderr
    assert b"the largest has 2" in done.stderr
