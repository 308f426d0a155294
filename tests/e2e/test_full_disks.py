"""A full disk, of each part that writes: what was accepted is kept, and all is well once there is room.

How long it took is printed: `pytest -s`.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.scripts import COUNTER, counter_lines, write
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
        ordeal = Ordeal(cluster, tmp_path, lines=100)
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
        ordeal = Ordeal(cluster, tmp_path, lines=150)
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


def test_storage(tmp_path: Path) -> None:
    """Uploads are refused while there is room for output yet; with none at all, output waits on the bus."""
    with cluster_on("storage", 64 * MIB) as cluster:
        disk = cluster.disks["storage"]
        ordeal = Ordeal(cluster, tmp_path, lines=100)
        disk.fill(leave_bytes=2 * MIB)
        write(tmp_path / "new", "job.py", "print('new ran')\n")
        refused = cluster.run(["python", "job.py", "-a", "new"], cwd=tmp_path / "new")
        assert refused.returncode == 125
        assert refused.stderr.decode().endswith(
            "no space left for uploads: ask its operator to make room, then try again\n"
        )
        assert cluster.ill() == ["storage"]
        known = cluster.run(["python", "job.py", "3", "0", "-a", "known"], cwd=tmp_path / "counter")
        assert (known.returncode, known.stdout) == (0, counter_lines(3)), known.stderr
        cluster.wait_for_job("known", lambda view: view["archived"])
        disk.fill()
        late = cluster.run(["python", "job.py", "4", "0", "-a", "late"], cwd=tmp_path / "counter")
        assert (late.returncode, late.stdout) == (0, counter_lines(4)), late.stderr
        cluster.until(lambda: '"archive_failed"' in (cluster.folder / "logs" / "storage.log").read_text())
        assert not cluster.job("late")["archived"]
        disk.clear()
        ended_at = time.monotonic()
        ordeal.until_healed("the disk of storage full", ended_at=ended_at)
        cluster.wait_for_job("late", lambda view: view["archived"])
        tell(f"the disk of storage full: output archived after {time.monotonic() - ended_at:.2f} s")
        again = cluster.run(["python", "job.py", "-a", "new"], cwd=tmp_path / "new")
        assert (again.returncode, again.stdout) == (0, b"new ran\n"), again.stderr
        ordeal.finish()


QUIET = """
import pathlib, sys, time
print("begins", flush=True)
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.05)
print("ends", flush=True)
"""


def test_an_agent(tmp_path: Path) -> None:
    """Who cannot print any more ends, and says why; who is silent goes on; nothing new begins before there
    is room again."""
    with cluster_on("agent-agent", 64 * MIB) as cluster:
        disk = cluster.disks["agent-agent"]
        go = tmp_path / "go"
        write(tmp_path / "quiet", "job.py", QUIET)
        quiet = cluster.spawn(["python", "job.py", str(go), "-a", "quiet"], cwd=tmp_path / "quiet")
        quiet.wait_for_output(b"begins\n")
        write(tmp_path / "loud", "job.py", COUNTER)
        loud = cluster.spawn(["python", "job.py", "100000", "0.01", "-a", "loud"], cwd=tmp_path / "loud")
        loud.wait_for_output(b"line 5\n")
        disk.fill()
        ended = loud.finish()
        assert ended.returncode == 125
        assert "the agent's disk is full" in ended.stderr.decode(), ended.stderr
        assert counter_lines(100_000).startswith(ended.stdout), "up to where it could be kept, to the byte"
        assert cluster.job("loud")["end"]["reason"] == "disk"
        write(tmp_path / "during", "job.py", "print('during ran')\n")
        during = cluster.spawn(["python", "job.py", "-a", "during"], cwd=tmp_path / "during")
        cluster.wait_for_job("during", lambda view: view["state"] == "queued")
        cluster.until(lambda: '"disk_almost_full"' in (cluster.folder / "logs" / "agent.log").read_text())
        disk.clear()
        ended_at = time.monotonic()
        kept = during.finish()
        assert (kept.returncode, kept.stdout) == (0, b"during ran\n"), kept.stderr
        tell(f"the disk of an agent full: what waited was through after {time.monotonic() - ended_at:.2f} s")
        go.touch()
        silent = quiet.finish()
        assert (silent.returncode, silent.stdout) == (0, b"begins\nends\n"), silent.stderr
        cluster.wait_for_job("loud", lambda view: view["archived"])
        assert cluster.run(["logs", cluster.job("loud")["id"]]).stdout == ended.stdout


def test_a_cancel_is_heard_on_a_full_disk_once_there_is_room(tmp_path: Path) -> None:
    with cluster_on("agent-agent", 64 * MIB) as cluster:
        disk = cluster.disks["agent-agent"]
        write(tmp_path, "job.py", QUIET)
        quiet = cluster.spawn(["python", "job.py", str(tmp_path / "go"), "-a", "quiet"], cwd=tmp_path)
        quiet.wait_for_output(b"begins\n")
        disk.fill()
        assert cluster.run(["cancel", cluster.job("quiet")["id"]]).returncode == 0
        cluster.until(lambda: '"not_written"' in (cluster.folder / "logs" / "agent.log").read_text())
        disk.clear()
        quiet.finish()
        assert cluster.job("quiet")["state"] == "cancelled"
