"""A job that may run again does so for the causes its user named, and for no other."""

from pathlib import Path

import pytest

from tests.e2e.scripts import write
from tests.support.cluster import Cluster

pytestmark = pytest.mark.e2e

FLAKY = """\
import os, sys
attempt = int(os.environ["CHISEL_ATTEMPT"])
print("attempt", attempt, flush=True)
sys.exit(int(sys.argv[attempt]))
"""


def test_until_it_succeeds(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", FLAKY)
    done = cluster.run(
        ["python", "--retries", "3", "--retry-on", "exit:75", "-a", "again", "job.py", "75", "75", "0"],
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout) == (0, b"attempt 1\nattempt 2\nattempt 3\n")
    assert b"the job runs again from its beginning, attempt 2" in done.stderr
    assert cluster.job("again")["attempt"] == 3
    late = cluster.run(["logs", cluster.job("again")["id"]])
    assert late.stdout == b"attempt 1\nattempt 2\nattempt 3\n"


def test_until_its_retries_are_used_up(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", FLAKY)
    options = ["--retries", "1", "--retry-on", "any", "-a", "twice"]
    done = cluster.run(["python", *options, "job.py", "3", "4", "5"], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (4, b"attempt 1\nattempt 2\n")


def test_not_for_another_cause(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", FLAKY)
    options = ["--retries", "3", "--retry-on", "exit:75", "--retry-on", "signal", "-a", "once"]
    done = cluster.run(["python", *options, "job.py", "1", "0"], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, b"attempt 1\n")
    assert cluster.job("once")["attempt"] == 1
