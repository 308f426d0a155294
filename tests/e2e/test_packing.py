"""What a directory costs the second time, and what an upload that was killed has achieved."""

import json
import random
from pathlib import Path

import pytest

from tests.e2e.scripts import write
from tests.support.cluster import Cluster

pytestmark = pytest.mark.e2e


def uploads(cluster: Cluster) -> tuple[int, int]:
    """How many manifests and packs storage has taken since it was started."""
    log = (cluster.folder / "logs" / "storage.log").read_text()
    events = [json.loads(line)["event"] for line in log.splitlines() if line.startswith("{")]
    return events.count("manifest_stored"), events.count("pack_stored")


def since(cluster: Cluster, before: tuple[int, int]) -> tuple[int, int]:
    manifests, packs = uploads(cluster)
    return manifests - before[0], packs - before[1]


def test_unchanged_nothing_is_sent_and_of_one_change_only_that(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", "print(open('data/7').read(), open('large', 'rb').read()[-3:])\n")
    (tmp_path / "data").mkdir()
    for number in range(40):
        (tmp_path / "data" / str(number)).write_text(f"content {number}")
    large = random.Random(6).randbytes(10 << 20)
    (tmp_path / "large").write_bytes(large + b"end")
    before = uploads(cluster)
    done = cluster.run(["python", "job.py"], cwd=tmp_path)
    assert done.stdout == b"content 7 b'end'\n"
    assert since(cluster, before) == (1, 3)  # two chunks of the large file, one pack of all the others
    before = uploads(cluster)
    assert cluster.run(["python", "job.py"], cwd=tmp_path).stdout == b"content 7 b'end'\n"
    assert since(cluster, before) == (0, 0)
    (tmp_path / "data" / "7").write_text("changed")
    assert cluster.run(["python", "job.py"], cwd=tmp_path).stdout == b"changed b'end'\n"
    assert since(cluster, before) == (1, 1)


def test_a_killed_upload_is_gone_on_with(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", "import os; print(sum(os.path.getsize(n) for n in os.listdir('.')))\n")
    chance = random.Random(7)
    total = 12 * (8 << 20)
    for number in range(12):
        (tmp_path / f"part-{number}").write_bytes(chance.randbytes(8 << 20))
    total += (tmp_path / "job.py").stat().st_size
    before = uploads(cluster)
    killed = cluster.spawn(["python", "job.py"], cwd=tmp_path)
    cluster.until(lambda: since(cluster, before)[1] >= 2)
    killed.kill()
    done = cluster.run(["python", "job.py"], cwd=tmp_path)
    assert done.stdout == f"{total}\n".encode()
    # One may have been on its way when the command died, and then it is there or it is sent again.
    assert since(cluster, before)[1] in (13, 14)


def test_a_queued_job_is_immune_to_later_edits(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "wait.py", "import time\ntime.sleep(600)\n")
    write(tmp_path, "job.py", "print(open('data').read())\n")
    (tmp_path / "data").write_text("as submitted")
    blocking = cluster.spawn(["python", "wait.py", "-a", "blocks", "--gpu", "8"], cwd=tmp_path)
    cluster.wait_for_job("blocks", lambda job: job["state"] == "running")
    queued = cluster.spawn(["python", "job.py", "-a", "queued", "--gpu", "8"], cwd=tmp_path)
    cluster.wait_for_job("queued", lambda job: job["state"] == "queued")
    (tmp_path / "data").write_text("edited")
    write(tmp_path, "job.py", "print('edited')\n")
    cluster.run(["cancel", cluster.job("blocks")["id"]])
    assert queued.finish().stdout == b"as submitted\n"
    blocking.finish()
