"""More output than is kept, as its user sees it: live, with a reader that is slow, stopped, cut or late, and
from the archive."""

import hashlib
import json
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.scripts import write
from tests.support.cluster import Cluster, running_cluster

pytestmark = pytest.mark.e2e

HEAD, TAIL, PRINTED = 3_000_000, 500_000, 12_000_000
SETTINGS = {"OUTPUT_HEAD_BYTES": str(HEAD), "OUTPUT_TAIL_BYTES": str(TAIL)}
LOUD = f"""
import os, random, sys, time
data = random.Random(5).randbytes({PRINTED})
def put(data):
    while data:
        data = data[os.write(1, data[:70_000]):]
put(data[:{HEAD + 1_000_000}])
os.write(2, b"beyond its head\\n")
while not os.path.exists(sys.argv[1]):
    time.sleep(0.02)
put(data[{HEAD + 1_000_000}:])
sys.exit(3)
"""


@pytest.fixture(scope="module")
def small() -> Iterator[Cluster]:
    """A cluster whose agent keeps little."""
    with running_cluster(agents={}) as running:
        running.add_agent(settings=SETTINGS)
        yield running


def kept() -> bytes:
    data = random.Random(5).randbytes(PRINTED)
    missing = f"{PRINTED - HEAD - TAIL:,}"
    line = b"\n" * (data[HEAD - 1 : HEAD] != b"\n")
    return data[:HEAD] + line + f"[chisel: {missing} bytes were left out here]\n".encode() + data[-TAIL:]


def same(output: bytes) -> bool:
    return hashlib.sha256(output).digest() == hashlib.sha256(kept()).digest()


def test_a_job_that_prints_too_much_from_its_first_line_to_the_archive(
    small: Cluster, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    write(tmp_path / "p", "job.py", LOUD)
    running = small.spawn(["python", "job.py", str(go), "-a", "loud"], cwd=tmp_path / "p")
    stopped = None
    try:
        job = small.wait_for_job("loud", lambda view: view["state"] == "running")
        stopped = small.spawn(["logs", "-f", job["id"]])
        os.kill(stopped.pid, signal.SIGSTOP)
        running.wait_for_error(b"stdout is too long to be kept whole: after 3.0 MB it is not shown any more")
        running.wait_for_error(b"beyond its head\n")
        so_far = small.run(["logs", job["id"]])
        assert len(so_far.stdout) == HEAD
        assert b"too long to be kept whole" in so_far.stderr
        go.touch()
        done = running.finish()
        assert done.returncode == 3
        assert same(done.stdout)
        assert done.stderr.splitlines()[-1] == (
            b"  left out 8.5 MB of stdout (8,500,000 bytes): its beginning and its end, 3.5 MB, are kept"
        )
        late = small.run(["logs", job["id"]])
        assert same(late.stdout)
        assert b"too long to be kept whole" not in late.stderr
        small.wait_for_job("loud", lambda view: view["archived"])
        os.kill(stopped.pid, signal.SIGCONT)
        assert same(stopped.finish().stdout)
    finally:
        if stopped is not None:
            stopped.kill()
    archived = small.run(["logs", job["id"]])
    assert same(archived.stdout)
    assert archived.stderr.splitlines()[-1].startswith(b"  left out 8.5 MB of stdout")
    status = small.run(["status", job["id"]])
    assert b"left out 8.5 MB of stdout (8,500,000 bytes)" in status.stdout
    end = json.loads(small.run(["status", "--json", job["id"]]).stdout)["end"]
    assert (end["stdout_omitted"], end["stderr_omitted"], end["stdout_bytes"]) == (
        PRINTED - HEAD - TAIL,
        0,
        len(kept()),
    )
    last = small.run(["logs", "--tail", "1", job["id"]])
    assert kept().endswith(last.stdout)


def test_a_reader_that_is_cut_again_and_again(small: Cluster, tmp_path: Path) -> None:
    go = tmp_path / "go"
    go.touch()
    write(tmp_path / "p", "job.py", LOUD)
    with small.cutting_proxy(after_bytes=1_000_000) as url:
        done = small.run(
            ["python", "job.py", str(go)], cwd=tmp_path / "p", env={"CHISEL_BACKEND_URL": url}, timeout=100
        )
        assert small.cuts(url) >= 3
    assert done.returncode == 3, done.stderr
    assert same(done.stdout)


@pytest.mark.parametrize("victim", ["agent", "gateway", "storage"])
def test_a_job_beyond_its_head_survives_the_death_of(victim: str, small: Cluster, tmp_path: Path) -> None:
    go = tmp_path / "go"
    write(tmp_path / "p", "job.py", LOUD)
    running = small.spawn(["python", "job.py", str(go)], cwd=tmp_path / "p")
    running.wait_for_error(b"too long to be kept whole")
    small.kill(victim)
    small.start(victim)
    small.wait_ready()
    go.touch()
    done = running.finish()
    assert done.returncode == 3, done.stderr
    assert same(done.stdout)
    assert done.stderr.count(b"too long to be kept whole") == 1
