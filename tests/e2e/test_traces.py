"""Traces on their way from a job to the user: what is seen of them meanwhile, and what survives whom.

The jobs write what the SDK writes, so that they need no torch; `test_reference.py` traces with torch.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.scripts import write
from tests.support.cluster import Cluster

pytestmark = pytest.mark.e2e

SDK = '''
import json, os, pathlib, random, sys, time
traces = pathlib.Path(os.environ["CHISEL_TRACE_DIR"])
traces.mkdir(exist_ok=True)

def begin(stem, call=1):
    facts = {"name": stem, "function": "job." + stem, "call": call, "started_at": time.time()}
    (traces / f".{stem}.open").write_text(json.dumps(facts))

def save(stem, text, call=1):
    (traces / f"{stem}.meta.json").write_text(json.dumps({"trace": stem, "call": call}))
    (traces / f".{stem}.tmp").write_text(text)
    (traces / f".{stem}.tmp").rename(traces / f"{stem}.json")
    (traces / f".{stem}.open").unlink(missing_ok=True)

def events(count):
    """Kernels of 5 us every 10 us, launched just before."""
    found = [{"ph": "X", "cat": "user_annotation", "name": "chisel::step", "pid": 1, "tid": 1, "ts": 0,
              "dur": 10 * count + 10}]
    for n in range(1, count + 1):
        found.append({"ph": "X", "cat": "kernel", "name": "gemm", "pid": 0, "tid": 7, "ts": 10 * n, "dur": 5,
                      "args": {"device": 0, "stream": 7, "correlation": n}})
        found.append({"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "pid": 1, "tid": 1,
                      "ts": 10 * n - 1, "dur": 1, "args": {"correlation": n}})
    return json.dumps({"traceEvents": found})
'''
WAIT_FOR = """
def wait_for(name):
    while not os.path.exists(os.path.join(os.environ["SIGNALS"], name)):
        time.sleep(0.02)
"""


def traces(cluster: Cluster, app_name: str) -> list[dict[str, Any]]:
    done = cluster.run(["trace", "ls", cluster.job(app_name)["id"], "--json"])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, list)
    return found


def seen(cluster: Cluster, app_name: str, name: str) -> dict[str, Any]:
    return next((trace for trace in traces(cluster, app_name) if trace["name"] == name), {})


def when(
    cluster: Cluster, app_name: str, name: str, fact: Callable[[dict[str, Any]], object]
) -> dict[str, Any]:
    """The trace, once it is there and `fact` holds of it."""
    cluster.until(lambda: (found := seen(cluster, app_name, name)) and fact(found))
    return seen(cluster, app_name, name)


def test_the_states_of_a_trace_are_seen_while_its_job_runs(cluster: Cluster, tmp_path: Path) -> None:
    code = "begin('step', 2); wait_for('saved'); save('step', events(1000), 2); wait_for('ended')\n"
    write(tmp_path, "job.py", SDK + WAIT_FOR + code)
    running = cluster.spawn(["python", "--env", f"SIGNALS={tmp_path}", "-a", "seen", "job.py"], cwd=tmp_path)
    cluster.until(lambda: cluster.job("seen"))
    recording = when(cluster, "seen", "step.json", lambda trace: trace["state"] == "recording")
    assert (recording["call"], recording["function"], recording["size_bytes"]) == (2, "job.step", 0)
    early = cluster.run(["trace", "download", cluster.job("seen")["id"], "step"], cwd=tmp_path)
    assert early.returncode == 4
    (tmp_path / "saved").touch()
    ready = when(cluster, "seen", "step.json", lambda trace: trace["reading"] == "done")
    assert (ready["state"], ready["events"], ready["call"]) == ("ready", 2001, 2)
    assert ready["stored_bytes"] < ready["size_bytes"] / 5
    (tmp_path / "ended").touch()
    done = running.finish()
    assert done.returncode == 0
    job = cluster.job("seen")["id"]
    last = done.stderr.decode().splitlines()[-1]
    assert last.startswith(f"chisel: 1 trace: chisel trace summary {job} · step: GPU idle "), last
    saved = cluster.run(["trace", "download", job, "-o", "here"], cwd=tmp_path)
    assert saved.returncode == 0, saved.stderr
    data = (tmp_path / "here" / "step.json").read_bytes()
    assert hashlib.sha256(data).hexdigest() == ready["sha256"]
    summary = cluster.get(f"/api/v1/jobs/{job}/traces/step.json/summary")
    assert summary["gpu"]["events"] == 1000
    assert summary["trace"]["sidecar"]["call"] == 2


def test_a_job_that_is_killed_says_what_it_was_recording(cluster: Cluster, tmp_path: Path) -> None:
    code = "save('whole', events(10)); begin('train_step'); print('up', flush=True); time.sleep(600)\n"
    write(tmp_path, "job.py", SDK + code)
    running = cluster.spawn(["python", "-a", "killed", "job.py"], cwd=tmp_path)
    running.wait_for_output(b"up\n")
    assert cluster.run(["cancel", cluster.job("killed")["id"]]).returncode == 0
    done = running.finish()
    last = done.stderr.decode().splitlines()[-1]
    assert last.startswith("chisel: 1 trace: "), last
    assert last.endswith(" · 1 trace lost: train_step was being recorded"), last
    job = cluster.job("killed")
    assert (job["end"]["traces"], job["end"]["traces_lost"]) == (1, 1)
    lost = seen(cluster, "killed", "train_step.json")
    assert (lost["state"], lost["reason"]) == ("lost", "the job was cancelled while it was recorded")
    assert lost["function"] == "job.train_step"


LARGE = """
text = '{"traceEvents": [' + ",".join(
    '{"ph": "i", "s": "t", "cat": "x", "name": "%s", "ts": %d}' % (random.randbytes(100).hex(), n)
    for n in range(300_000)
) + "]}"
save("large", text)
import hashlib
print(hashlib.sha256(text.encode()).hexdigest(), flush=True)
"""


@pytest.mark.parametrize("victim", ["storage", "agent", "gateway"])
@pytest.mark.timeout(240)  # seventy megabytes are made, packed, sent and read on a machine that others use
def test_an_upload_survives_the_death_of(victim: str, own_cluster: Cluster, tmp_path: Path) -> None:
    cluster = own_cluster
    # With a part of it there storage stands still for as long as it takes to see that.
    cluster.arm("storage", "upload.block:delay=5@4")
    write(tmp_path, "job.py", SDK + LARGE)
    running = cluster.spawn(["python", "-a", "large", "job.py"], cwd=tmp_path)
    parts = cluster.folder / "storage" / "parts"
    cluster.until(lambda: any(part.stat().st_size for part in parts.iterdir()), seconds=120)
    cluster.kill(victim)
    assert list(parts.iterdir()), "it was stored before anybody died"
    cluster.start(victim)
    done = running.finish(timeout=120)
    assert done.returncode == 0, done.stderr
    ready = when(cluster, "large", "large.json", lambda trace: trace["reading"] == "done")
    assert (ready["state"], ready["sha256"]) == ("ready", done.stdout.decode().strip())
    assert ready["events"] == 300_000
    assert not list(parts.iterdir())
    saved = cluster.run(["trace", "download", cluster.job("large")["id"]], cwd=tmp_path)
    assert saved.returncode == 0, saved.stderr
    data = (tmp_path / "large.json").read_bytes()
    assert hashlib.sha256(data).hexdigest() == ready["sha256"]


def test_what_was_told_survives_a_bus_that_forgets_everything(own_cluster: Cluster, tmp_path: Path) -> None:
    cluster = own_cluster
    code = "begin('step'); begin('lost'); wait_for('saved'); save('step', events(100))\n"
    write(tmp_path, "job.py", SDK + WAIT_FOR + code)
    running = cluster.spawn(["python", "--env", f"SIGNALS={tmp_path}", "-a", "wiped", "job.py"], cwd=tmp_path)
    cluster.until(lambda: cluster.job("wiped"))
    when(cluster, "wiped", "step.json", lambda trace: trace["state"] == "recording")
    cluster.kill("nats")
    cluster.nats.wipe()
    (tmp_path / "saved").touch()
    cluster.start("nats")
    assert running.finish().returncode == 0
    when(cluster, "wiped", "step.json", lambda trace: trace["reading"] == "done")
    assert seen(cluster, "wiped", "lost.json")["state"] == "lost"


def test_storage_that_is_away_delays_no_states_for_ever(own_cluster: Cluster, tmp_path: Path) -> None:
    """What happened while it was away it hears when it is back."""
    cluster = own_cluster
    code = "begin('lost'); begin('step'); wait_for('saved'); save('step', events(100))\n"
    write(tmp_path, "job.py", SDK + WAIT_FOR + code)
    running = cluster.spawn(["python", "--env", f"SIGNALS={tmp_path}", "-a", "away", "job.py"], cwd=tmp_path)
    cluster.until(lambda: cluster.job("away"))
    when(cluster, "away", "step.json", lambda trace: trace["state"] == "recording")
    cluster.kill("storage")
    (tmp_path / "saved").touch()
    cluster.wait_for_job("away", lambda job: job["state"] == "running")
    cluster.start("storage")
    done = running.finish()
    assert done.returncode == 0, done.stderr
    when(cluster, "away", "step.json", lambda trace: trace["reading"] == "done")
    assert seen(cluster, "away", "lost.json")["reason"] == "its process ended while it was recorded"
