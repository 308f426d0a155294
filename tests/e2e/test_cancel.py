"""A job can be cancelled in every state, and nothing of it stays alive."""

import json
import os
import signal
from pathlib import Path

import pytest

from tests.e2e.scripts import COUNTER, STUBBORN, WITNESS, write
from tests.support.cluster import Cluster, wait_until

pytestmark = pytest.mark.e2e


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_queued_job(cluster: Cluster, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.mkdir()
    write(tmp_path / "src", "job.py", WITNESS)
    full = cluster.spawn(["python", "job.py", str(gate), "-g", "8", "-a", "full"], cwd=tmp_path / "src")
    full.wait_for_output(b"gpus")
    waiting = cluster.spawn(["python", "job.py", str(gate), "-g", "8", "-a", "waits"], cwd=tmp_path / "src")
    job = cluster.wait_for_job("waits", lambda view: view["state"] == "queued")
    assert cluster.run(["cancel", job["id"]]).returncode == 0
    assert waiting.finish().returncode == 130
    assert cluster.job("waits")["state"] == "cancelled"
    (gate / "go").touch()
    assert full.finish().returncode == 0


def test_a_running_job_and_the_command_that_watches_it(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", COUNTER)
    running = cluster.spawn(["python", "job.py", "10000", "0.05", "-a", "stopme"], cwd=tmp_path)
    running.wait_for_output(b"line 3\n")
    assert cluster.run(["cancel", cluster.job("stopme")["id"]]).returncode == 0
    done = running.finish()
    assert done.returncode == 130
    job = cluster.job("stopme")
    assert (job["state"], job["end"]["reason"]) == ("cancelled", "user")


def test_a_job_that_installs_its_requirements(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", "pass\n")
    # A build backend that never ends stands for a long installation.
    write(
        tmp_path / "slow",
        "pyproject.toml",
        '[build-system]\nrequires = []\nbuild-backend = "forever"\nbackend-path = ["."]\n',
    )
    witness = tmp_path / "witness"
    write(
        tmp_path / "slow",
        "forever.py",
        f"import os, time\nopen({str(witness)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)\n",
    )
    (tmp_path / "requirements.txt").write_text("--no-index\n./slow\n")
    running = cluster.spawn(["python", "job.py", "-a", "installing"], cwd=tmp_path)
    wait_until(lambda: witness.exists() and witness.read_text() != "", seconds=30)
    assert cluster.job("installing")["state"] == "preparing"
    assert cluster.run(["cancel", cluster.job("installing")["id"]]).returncode == 0
    assert running.finish().returncode == 130
    wait_until(lambda: not alive(int(witness.read_text())), seconds=10)


def test_a_job_that_ignores_every_polite_signal(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", STUBBORN)
    running = cluster.spawn(["python", "job.py", "-a", "stubborn"], cwd=tmp_path)
    pid = int(running.wait_for_output(b"\n"))
    cluster.run(["cancel", cluster.job("stubborn")["id"]])
    assert running.finish(timeout=40).returncode == 130
    assert not alive(pid)


@pytest.mark.parametrize(
    ("asked", "error"), [((), "KeyboardInterrupt"), (("--signal", "TERM"), "SystemExit")]
)
def test_a_job_inside_a_capture_leaves_its_trace(
    cluster: Cluster, tmp_path: Path, asked: tuple[str, ...], error: str
) -> None:
    pytest.importorskip("torch", reason="profiling needs torch, which the test environment installs")
    write(
        tmp_path,
        "job.py",
        "import torch\nfrom chisel import capture_trace\n\n@capture_trace\ndef train():\n"
        "    x = torch.ones(8, 8)\n    x @ x\n    print('inside', flush=True)\n"
        "    while True:\n        x + x\n\ntrain()\n",
    )
    name = f"captured-{error}"
    running = cluster.spawn(["python", "job.py", "-a", name], cwd=tmp_path)
    running.wait_for_output(b"inside\n")
    job = cluster.job(name)
    assert cluster.run(["cancel", job["id"], *asked]).returncode == 0
    assert running.finish(timeout=60).returncode == 130
    target = tmp_path / "traces"
    assert cluster.run(["trace", "download", job["id"], "train.json", "-o", str(target)]).returncode == 0
    loaded = json.loads((target / "train.json").read_bytes())
    assert (loaded["chisel_ended_by"], loaded["chisel_error"]) == ("signal", error)
    assert {"aten::mm", "aten::add"} <= {event["name"] for event in loaded["traceEvents"]}


def test_a_finished_job_keeps_its_end(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", "pass\n")
    assert cluster.run(["python", "job.py", "-a", "finished"], cwd=tmp_path).returncode == 0
    cluster.run(["cancel", cluster.job("finished")["id"]])
    assert cluster.job("finished")["state"] == "succeeded"


def test_children_that_hide_do_not_outlive_the_job(cluster: Cluster, tmp_path: Path) -> None:
    write(
        tmp_path,
        "job.py",
        "import os, signal, sys, time\n"
        "read, write = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "    if os.fork():\n"
        "        os._exit(0)\n"
        "    os.write(write, str(os.getpid()).encode())\n"
        "    time.sleep(600)\n"
        "print(os.read(read, 20).decode(), flush=True)\n",
    )
    done = cluster.run(["python", "job.py"], cwd=tmp_path, timeout=30)
    assert done.returncode == 0
    assert not alive(int(done.stdout))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_the_command_without_a_terminal_cancels(
    cluster: Cluster, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    write(tmp_path, "job.py", COUNTER)
    name = f"interrupted-{int(number)}"
    running = cluster.spawn(["python", "job.py", "10000", "0.05", "-a", name], cwd=tmp_path)
    running.wait_for_output(b"line 3\n")
    os.kill(running.pid, number)
    assert running.finish().returncode == code
    assert cluster.job(name)["state"] == "cancelled"
