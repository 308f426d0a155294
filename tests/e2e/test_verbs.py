"""The verbs of the command against real services: each finds the job, tells the truth and exits right."""

import json
import os
import re
import signal
from pathlib import Path

import pytest

from tests.e2e.scripts import COUNTER, WITNESS, write
from tests.support.cluster import Cluster, wait_until

pytestmark = pytest.mark.e2e

LINE = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z line \d+\n")


def submitted(cluster: Cluster, folder: Path, name: str, *words: str) -> str:
    """The id of a job that runs on without us."""
    done = cluster.run(["--detach", "-a", name, *words], cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


@pytest.mark.parametrize(
    ("code", "options", "status", "state"),
    [
        ("raise SystemExit(7)", (), 7, "failed"),
        ("import os; os.kill(os.getpid(), 11)", (), 139, "failed"),
        ("import time; print('on', flush=True); time.sleep(600)", ("--time-limit", "1s"), 124, "timed_out"),
        ("pass", (), 0, "succeeded"),
    ],
)
def test_exit_statuses(
    cluster: Cluster, tmp_path: Path, code: str, options: tuple[str, ...], status: int, state: str
) -> None:
    """Of the command that ran it, and of the one that waited for it, alike."""
    write(tmp_path, "job.py", code)
    assert cluster.run([*options, "python", "job.py"], cwd=tmp_path).returncode == status
    waited = cluster.run(["wait", "@last", "--json"])
    assert (waited.returncode, json.loads(waited.stdout)[0]["state"]) == (status, state)
    assert waited.stderr == b""


def test_a_job_is_asked_about_while_it_waits_and_runs(cluster: Cluster, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.mkdir()
    write(tmp_path / "src", "job.py", WITNESS)
    run = ("python", "job.py", str(gate))
    holder = submitted(cluster, tmp_path / "src", "holds", "-g", "8", *run)
    wait_until(lambda: (gate / holder).exists(), seconds=30)
    waits = submitted(cluster, tmp_path / "src", "waits", "-g", "4", *run)
    why = json.loads(cluster.run(["why", waits[:7], "--json"]).stdout)
    assert (why["position"], why["ahead"]) == (1, [])
    assert [job["id"] for job in why["holding"]] == [holder]
    assert (
        why["waiting"]
        == why["job"]["waiting"]
        == "no agent with 4 free A100-80GB GPUs; 0 of 8 are free on agent"
    )
    said = cluster.run(["why", "@last"]).stdout.decode()
    assert f"it waits: {why['waiting']}" in said
    assert holder[:8] in said
    (kind,) = json.loads(cluster.run(["gpus", "--json"]).stdout)
    assert (kind["model"], kind["total"], kind["free"], kind["queued"]) == ("A100-80GB", 8, 0, 1)
    status = cluster.run(["status", holder[:8]]).stdout.decode()
    assert re.search(r"^state +running on agent for ", status, re.MULTILINE)
    listed = [job["id"] for job in json.loads(cluster.run(["list", "--json"]).stdout)]
    assert listed == [waits, holder]
    (gate / "go").touch()
    assert cluster.run(["wait", waits, holder]).returncode == 0
    assert "does not wait" not in cluster.run(["why", waits]).stdout.decode()


def test_a_cancel_says_by_whom_and_why(cluster: Cluster, tmp_path: Path) -> None:
    write(
        tmp_path,
        "job.py",
        "import signal, sys, time\n"
        "def save(*_): print('saved', flush=True); sys.exit(0)\n"
        "signal.signal(signal.SIGUSR1, save)\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n",
    )
    running = cluster.spawn(["python", "job.py", "-a", "saves"], cwd=tmp_path)
    running.wait_for_output(b"ready\n")
    told = cluster.run(["stop", "@last", "--signal", "USR1", "--grace", "5m", "--reason", "wrong data"])
    assert told.returncode == 0
    done = running.finish()
    assert (done.returncode, done.stdout) == (130, b"ready\nsaved\n")
    assert re.search(rb"was cancelled by \S.*: wrong data", done.stderr)
    job = cluster.job("saves")
    assert (job["state"], job["end"]["exit_code"], job["cancel_reason"]) == ("cancelled", 0, "wrong data")


def test_a_kill_hastens_a_cancel(cluster: Cluster, tmp_path: Path) -> None:
    write(
        tmp_path,
        "job.py",
        "import signal, time\nsignal.signal(2, signal.SIG_IGN)\n"
        "print('ready', flush=True)\ntime.sleep(600)\n",
    )
    running = cluster.spawn(["python", "job.py"], cwd=tmp_path)
    running.wait_for_output(b"ready\n")
    cluster.run(["cancel", "@last", "--grace", "1h"])
    cluster.run(["cancel", "@last", "--signal", "KILL"])
    assert running.finish(timeout=30).returncode == 130


def test_a_rerun_is_the_same_job_anew(cluster: Cluster, tmp_path: Path) -> None:
    path = write(tmp_path, "job.py", "import sys; print(sys.argv[1:]); raise SystemExit(4)\n")
    first = cluster.run(["python", "job.py", "a b", "--", "-x", "", "-a", "again"], cwd=tmp_path)
    before = json.loads(cluster.run(["status", "@last", "--json"]).stdout)
    path.write_text("print('edited since')\n")
    again = cluster.run(["rerun", before["id"][:8]])
    assert (again.returncode, again.stdout) == (4, first.stdout)
    after = json.loads(cluster.run(["status", "@last", "--json"]).stdout)
    assert after["id"] != before["id"]
    assert after["argv"] == before["argv"]
    detached = cluster.run(["rerun", "@last", "--detach"]).stdout.decode().strip()
    assert cluster.run(["wait", detached]).returncode == 4


def test_logs_of_a_running_and_of_an_archived_job(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", COUNTER)
    running = cluster.spawn(["python", "job.py", "60", "0.05", "-a", "prints"], cwd=tmp_path)
    running.wait_for_output(b"line 5\n")
    tail = cluster.run(["logs", "@last", "--tail", "2"]).stdout
    first = int(tail.split()[1])
    assert first >= 4
    # What is printed while they are being sent comes too.
    assert tail.startswith(b"line %d\nline %d\n" % (first, first + 1))
    attached = cluster.spawn(["attach", "@last"])
    assert running.finish().returncode == 0
    seen = attached.finish()
    assert seen.returncode == 0
    assert b"line 0\n" not in seen.stdout
    assert seen.stdout.endswith(b"line 58\nline 59\n")
    cluster.wait_for_job("prints", lambda job: job["archived"])
    everything = b"".join(b"line %d\n" % n for n in range(60))
    assert cluster.run(["logs", "@last"]).stdout == everything
    assert cluster.run(["logs", "@last", "--tail", "2"]).stdout == b"line 58\nline 59\n"
    assert cluster.run(["logs", "@last", "--since", "1h", "--tail", "1"]).stdout == b"line 59\n"
    assert cluster.run(["logs", "@last", "--since", "2100-01-01"]).stdout == b""
    assert cluster.run(["logs", "@last", "--stderr"]).stdout == b""
    stamped = cluster.run(["logs", "@last", "--timestamps"]).stdout.splitlines(keepends=True)
    assert len(stamped) == 60
    assert all(LINE.fullmatch(line) for line in stamped)
    assert stamped == sorted(stamped, key=lambda line: line[:24])
    assert stamped[0][:24] < stamped[-1][:24]


def test_ids_that_name_nothing_or_too_much(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", "pass\n")
    assert cluster.run(["python", "job.py"], cwd=tmp_path).returncode == 0
    for verb in ("status", "logs", "wait", "cancel", "why", "rerun", "attach"):
        done = cluster.run([verb, "zzzzzzzzzz"])
        assert (done.returncode, done.stdout) == (125, b""), verb
        assert b"there is no job 'zzzzzzzzzz'" in done.stderr, verb


def test_a_watch_ends_by_ctrl_c(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", COUNTER)
    watching = cluster.spawn(["ps", "--watch", "--json"])
    running = cluster.spawn(["python", "job.py", "20", "0.1", "-a", "watched"], cwd=tmp_path)
    running.wait_for_output(b"line 1\n")
    job = cluster.job("watched")["id"].encode()
    watching.wait_for_output(job)
    assert running.finish().returncode == 0
    watching.wait_for_output(b'"succeeded"')
    os.kill(watching.pid, signal.SIGINT)
    assert watching.finish().returncode == 130
