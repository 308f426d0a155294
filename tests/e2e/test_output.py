"""Output that is hard to carry arrives byte for byte."""

import hashlib
from pathlib import Path

import pytest

from tests.e2e.scripts import write
from tests.support.cluster import Cluster

pytestmark = pytest.mark.e2e

INVALID = bytes(range(256)) * 33 + b"\xff\xfe no end of line"


def test_bytes_that_are_no_text(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", f"import sys\nsys.stdout.buffer.write({INVALID!r})\n")
    assert cluster.run(["python", "job.py"], cwd=tmp_path).stdout == INVALID


def test_a_line_of_100_megabytes(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", "import sys\nfor _ in range(100):\n    sys.stdout.write('x' * 1_000_000)\n")
    done = cluster.run(["python", "job.py"], cwd=tmp_path, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout) == 100_000_000
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(b"x" * 100_000_000).digest()


def test_a_script_that_prints_nothing(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", "pass\n")
    done = cluster.run(["python", "job.py"], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, b"")


def test_both_streams_are_whole_when_they_are_mixed(cluster: Cluster, tmp_path: Path) -> None:
    write(
        tmp_path,
        "job.py",
        "import sys\nfor n in range(5000):\n    print('out', n)\n    print('err', n, file=sys.stderr)\n",
    )
    done = cluster.run(["python", "job.py"], cwd=tmp_path)
    assert done.stdout.splitlines() == [b"out %d" % n for n in range(5000)]
    assert [line for line in done.stderr.splitlines() if line.startswith(b"err ")] == [
        b"err %d" % n for n in range(5000)
    ]


def test_a_reader_that_loses_its_connection_goes_on_at_its_offset(cluster: Cluster, tmp_path: Path) -> None:
    write(
        tmp_path,
        "job.py",
        "import time\nfor n in range(60):\n"
        "    print('line', n, 'y' * 2000, flush=True)\n    time.sleep(0.05)\n",
    )
    with cluster.cutting_proxy(after_bytes=20_000) as url:
        done = cluster.run(["python", "job.py"], cwd=tmp_path, env={"CHISEL_BACKEND_URL": url})
        assert cluster.cuts(url) >= 3, "the proxy must have cut the connection for this to prove anything"
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"".join(b"line %d %s\n" % (n, b"y" * 2000) for n in range(60))
