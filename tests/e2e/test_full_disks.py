"""A full disk, of each part that writes: what was accepted is kept, and all is well once there is room.

How long it took is printed: `pytest -s`.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.scripts import write
from tests.support.backends import wanted_backend
from tests.support.cluster import Cluster, running_cluster
from tests.support.ordeal import Ordeal, tell

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        wanted_backend() != "embedded", reason="the disks of containers are not this machine's to fill"
    ),
]

MIB = 1 << 20


@contextmanager
def cluster_on(folder: str, size_bytes: int) -> Iterator[Cluster]:
    with running_cluster(agents={"agent": 8}, disks={folder: size_bytes}) as cluster:
        yield cluster


def test_nats(tmp_path: Path) -> None:
    """NATS does not write a stream again of which a write failed: it has to be restarted, here by us, and
    the scheduler says when."""
    with cluster_on("nats/jetstream", 48 * MIB) as cluster:
        disk = cluster.disks["nats/jetstream"]
        ordeal = Ordeal(cluster, tmp_path, lines=150)
        disk.fill()
        cluster.until(cluster.bus_alarm.exists)
        assert cluster.ill() == ["bus"]
        during = ordeal.submit("during")
        cluster.wait_for_job("during", lambda view: view["state"] == "running")
        disk.clear()
        ended_at = time.monotonic()
        cluster.bus_alarm.unlink()
        cluster.until(cluster.bus_alarm.exists)
        cluster.restart("nats")
        ordeal.until_healed("the disk of nats full", ended_at=ended_at)
        assert ordeal.must_have_run_or_been_refused("during", during) == "kept"
        ordeal.finish()


def test_postgres(tmp_path: Path) -> None:
    """With no room for a table, what would have to be kept is refused; with none for its log, Postgres ends,
    and again whenever it is started before there is room."""
    with cluster_on("db", 160 * MIB) as cluster:
        disk = cluster.disks["db"]
        ordeal = Ordeal(cluster, tmp_path, lines=200)
        disk.fill()
        large = ["python", "job.py", os.urandom(8_000).hex(), "-a", "large"]
        write(tmp_path / "large", "job.py", "print('large ran')\n")
        refused = cluster.run(large, cwd=tmp_path / "large")
        assert refused.returncode == 125
        assert refused.stderr.decode().endswith(
            "no space left: ask its operator to make room, then try again\n"
        )
        cluster.fetch("select pg_switch_wal()::text")
        cluster.wait_for_death("postgres")
        cluster.start("postgres")
        cluster.wait_for_death("postgres")
        during = ordeal.submit("during")
        cluster.until(lambda: {"scheduler", "storage"} <= set(cluster.ill()))
        disk.clear()
        ended_at = time.monotonic()
        cluster.start("postgres")
        ordeal.until_healed("the disk of postgres full", ended_at=ended_at)
        tell(f"a submission meanwhile was {ordeal.must_have_run_or_been_refused('during', during)}")
        again = cluster.run(large, cwd=tmp_path / "large")
        assert (again.returncode, again.stdout) == (0, b"large ran\n"), again.stderr
        ordeal.finish()
