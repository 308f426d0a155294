"""Every command below `chisel trace`, on traces that a real job saved and real services carried and read."""

import base64
import gzip
import json
from pathlib import Path
from urllib.request import urlopen

import msgspec
import pytest

from chisel_shared.traces.report import Diff, Memory, Ranks, Summary
from tests.cli.test_trace_commands import made
from tests.cli.test_trace_slice import stepped
from tests.e2e.scripts import write
from tests.support.cluster import Cluster

pytestmark = pytest.mark.e2e

SCRIPT = """
import base64, json, os, pathlib, sys
folder = pathlib.Path(os.environ["CHISEL_TRACE_DIR"])
folder.mkdir(exist_ok=True)
for name, text in json.loads(pathlib.Path(sys.argv[1]).read_text()).items():
    stem = name.removesuffix(".json")
    call = int(stem.rpartition(".")[2]) if stem[-1].isdigit() and ".rank" not in stem else 1
    (folder / f"{stem}.meta.json").write_text(json.dumps({"trace": stem.partition(".")[0], "call": call}))
    (folder / f".{stem}.tmp").write_bytes(base64.b64decode(text))
    (folder / f".{stem}.tmp").rename(folder / name)
"""


def job(cluster: Cluster, folder: Path, app_name: str, traces: dict[str, bytes]) -> str:
    """The id of a job that saved these traces, of which all are read."""
    write(folder, "save.py", SCRIPT)
    packed = {name: base64.b64encode(data).decode() for name, data in traces.items()}
    (folder / f"{app_name}.json").write_text(json.dumps(packed))
    done = cluster.run(["python", "-a", app_name, "save.py", f"{app_name}.json"], cwd=folder)
    assert done.returncode == 0, done.stderr
    job_id = str(cluster.job(app_name)["id"])
    cluster.until(
        lambda: all(
            trace["reading"] == "done"
            for trace in json.loads(cluster.run(["trace", "ls", job_id, "--json"]).stdout)
        )
    )
    return job_id


def step(wall: float) -> dict[str, bytes]:
    """Three calls, of which the first is cold."""
    return {
        "step.json": made(wall=wall + 500).data(),
        "step.2.json": made(wall=wall).data(),
        "step.3.json": made(wall=wall + 1).data(),
    }


def test_a_jobs_traces_are_listed_shown_compared_and_saved(cluster: Cluster, tmp_path: Path) -> None:
    before = job(cluster, tmp_path, "before", step(1000.0))
    after = job(cluster, tmp_path, "after", step(1300.0))
    listed = cluster.run(["trace", "ls", after]).stdout.decode()
    assert listed.count("ready (cold)") == 1
    assert listed.count("step") == 3

    shown = cluster.run(["trace", "summary", f"{after}/step.2"])
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.decode().startswith("step · call 2")
    found = msgspec.json.decode(
        cluster.run(["trace", "summary", f"{after}/step.2", "--json"]).stdout, type=Summary
    )
    assert found.gpu.busy_us == 500.0

    memory = cluster.run(["trace", "memory", f"{after}/step.2", "--json"]).stdout
    assert msgspec.json.decode(memory, type=tuple[Memory, ...])[0].peak_allocated_bytes == 4096

    compared = cluster.run(["trace", "diff", before, after, "--json"])
    (diff,) = msgspec.json.decode(compared.stdout, type=list[Diff])
    assert [len(side.traces) for side in (diff.a, diff.b)] == [2, 2]  # without the cold ones
    assert diff.wall_change == pytest.approx(0.3, abs=0.001)
    assert cluster.run(["trace", "diff", before, after, "--fail-over", "5%"]).returncode == 1
    assert cluster.run(["trace", "diff", after, before, "--fail-over", "5%"]).returncode == 0

    saved = cluster.run(["trace", "download", after, "step.3", "--gz"], cwd=tmp_path)
    assert saved.returncode == 0, saved.stderr
    assert gzip.decompress((tmp_path / "step.3.json.gz").read_bytes()) == step(1300.0)["step.3.json"]
    local = cluster.run(["trace", "summary", "step.3.json.gz", "-q"], cwd=tmp_path)
    server = cluster.run(["trace", "summary", f"{after}/step.3", "-q"])
    assert (local.returncode, local.stdout) == (0, server.stdout)
    assert cluster.run(["trace", "summary", f"{after}/nothing"]).returncode == 3


def test_ranks_slices_and_cut_traces(cluster: Cluster, tmp_path: Path) -> None:
    whole = stepped().data()
    traces = {f"train.rank{rank}.json": made(rank=rank, late=200.0 * rank).data() for rank in (0, 1)}
    job_id = job(cluster, tmp_path, "parts", {**traces, "steps.json": whole, "cut.json": whole[:-400]})
    ranks = msgspec.json.decode(cluster.run(["trace", "ranks", job_id, "--json"]).stdout, type=Ranks)
    assert (ranks.straggler, [rank.wait_us for rank in ranks.ranks]) == (1, [200.0, 0.0])
    part = cluster.run(["trace", "slice", f"{job_id}/steps", "--steps", "1", "-o", "one.json"], cwd=tmp_path)
    assert part.returncode == 0, part.stderr
    one = msgspec.json.decode(
        cluster.run(["trace", "summary", "one.json", "--json"], cwd=tmp_path).stdout, type=Summary
    )
    assert one.gpu.events == 1
    cut = cluster.run(["trace", "summary", f"{job_id}/cut"])
    assert cut.returncode == 4
    assert b"cut off" in cut.stderr


def test_a_trace_is_opened_in_the_backends_own_copy_of_perfetto(cluster: Cluster, tmp_path: Path) -> None:
    job_id = job(cluster, tmp_path, "seen-here", {"step.json": made().data()})
    opened = cluster.spawn(["trace", "open", f"{job_id}/step", "--offline", "--no-browser"])
    try:
        url = opened.wait_for_output(b"\n").decode().strip()
        page = urlopen(url, timeout=10).read().decode()
        assert f'data-ui="{cluster.url}/perfetto/index.html#!/viewer?mode=embedded"' in page
        assert gzip.decompress(urlopen(f"{url}step.json.gz", timeout=10).read()) == made().data()
        answer = urlopen(f"{cluster.url}/perfetto/index.html", timeout=10)
        assert b"Perfetto UI" in answer.read()
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    finally:
        opened.kill()
