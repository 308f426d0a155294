"""Files in ./outputs: back on this machine after any end, never outside the folder, whatever is killed."""

import json
import os
import random
import shutil
from pathlib import Path

import pytest

from tests.e2e.scripts import write
from tests.support.cluster import Cluster
from tests.support.source import ROOT

pytestmark = pytest.mark.e2e

WRITE = """
import os, sys
os.makedirs("outputs/plots/deep", exist_ok=True)
open("outputs/model.bin", "wb").write(bytes(range(256)) * 5000)
open("outputs/plots/deep/größe 数.txt", "w").write("1\\n")
open("outputs/empty", "w").close()
open("outputs/run.sh", "w").write("#!/bin/sh\\n")
os.chmod("outputs/run.sh", 0o755)
os.symlink("plots/deep", "outputs/newest")
"""
FILES = {"model.bin", "plots/deep/größe 数.txt", "empty", "run.sh", "newest"}

WAIT = "print('ready', flush=True)\nimport time\ntime.sleep(600)\n"

HOSTILE = """
import os, socket
os.makedirs("outputs/sub")
open("outputs/good.txt", "w").write("good")
os.symlink("/etc/passwd", "outputs/absolute")
os.symlink("../../secret", "outputs/sub/climbs")
os.symlink("sub/../../secret", "outputs/zigzag")
os.symlink("sub", "outputs/inside")
os.mkfifo("outputs/pipe")
open("outputs/back\\\\slash", "w").close()
open(b"outputs/\\xff", "w").close()
"""


def tree(folder: Path) -> set[str]:
    """Everything below `folder` that is no folder, by path."""
    found = set()
    for at, folders, names in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(at, name))]
        found |= {os.path.relpath(os.path.join(at, name), folder) for name in (*names, *links)}
    return found


def check_files(folder: Path) -> None:
    assert tree(folder) == FILES
    assert (folder / "model.bin").read_bytes() == bytes(range(256)) * 5000
    assert (folder / "plots/deep/größe 数.txt").read_text() == "1\n"
    assert os.access(folder / "run.sh", os.X_OK)
    assert os.readlink(folder / "newest") == "plots/deep"


@pytest.mark.parametrize(
    ("more", "options", "status"),
    [("", [], 0), ("sys.exit(3)", [], 3), (WAIT, ["--time-limit", "1s"], 124)],
    ids=["success", "failure", "time limit"],
)
def test_files_come_back_after(
    more: str, options: list[str], status: int, cluster: Cluster, tmp_path: Path
) -> None:
    write(tmp_path, "job.py", WRITE + more)
    done = cluster.run([*options, "python", "job.py"], cwd=tmp_path)
    assert done.returncode == status, done.stderr
    check_files(tmp_path / "outputs")
    assert b"5 files, 1.3 MB, came back into outputs/\n" in done.stderr


def test_files_come_back_after_a_cancel(cluster: Cluster, tmp_path: Path) -> None:
    waiting = WAIT.replace("\n", "\n    ").rstrip()
    last = f"try:\n    {waiting}\nfinally:\n    open('outputs/last', 'w').close()\n"
    write(tmp_path, "job.py", WRITE + last)
    running = cluster.spawn(["python", "job.py", "-a", "cancelled"], cwd=tmp_path)
    running.wait_for_output(b"ready\n")
    assert cluster.run(["cancel", cluster.job("cancelled")["id"]]).returncode == 0
    done = running.finish()
    assert done.returncode == 130, done.stderr
    assert (tmp_path / "outputs" / "last").exists()
    (tmp_path / "outputs" / "last").unlink()
    check_files(tmp_path / "outputs")


def test_a_job_that_writes_nothing_makes_no_folder(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", "print(1)")
    done = cluster.run(["python", "job.py", "-a", "nothing"], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, b"1\n")
    assert tree(tmp_path) == {"job.py"}
    pulled = cluster.run(["pull", cluster.job("nothing")["id"]], cwd=tmp_path)
    assert pulled.returncode == 0
    assert b"wrote nothing into ./outputs" in pulled.stderr
    assert tree(tmp_path) == {"job.py"}


def test_no_pull_then_pull_and_one_path(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", WRITE)
    done = cluster.run(["python", "job.py", "-a", "kept", "--no-pull"], cwd=tmp_path)
    job = cluster.job("kept")["id"]
    assert f"chisel pull {job}".encode() in done.stderr
    assert not (tmp_path / "outputs").exists()
    one = cluster.run(["pull", job, "plots", "-o", "there"], cwd=tmp_path)
    assert one.returncode == 0, one.stderr
    assert tree(tmp_path / "there") == {"plots/deep/größe 数.txt"}
    assert one.stdout.decode() == "there/plots/deep/größe 数.txt\n"
    whole = cluster.run(["pull", job, "--json"], cwd=tmp_path)
    said = json.loads(whole.stdout)
    assert {file["path"] for file in said["files"]} == FILES
    assert {file["outcome"] for file in said["files"]} == {"saved"}
    check_files(tmp_path / "outputs")
    again = json.loads(cluster.run(["pull", job, "--json"], cwd=tmp_path).stdout)
    assert {file["outcome"] for file in again["files"]} == {"unchanged"}
    missing = cluster.run(["pull", job, "nope"], cwd=tmp_path)
    assert (missing.returncode, missing.stdout) == (125, b"")
    assert b"wrote no nope into ./outputs" in missing.stderr


def test_only_what_is_new_or_changed_comes_back_and_your_own_files_stay(
    cluster: Cluster, tmp_path: Path
) -> None:
    write(tmp_path, "job.py", "import sys; open('outputs/r.txt', 'a').write(sys.argv[1])")
    (tmp_path / "outputs").mkdir()
    write(tmp_path / "outputs", "kept.txt", "mine")
    write(tmp_path / "outputs", "r.txt", "mine ")
    first = cluster.run(["python", "job.py", "one", "-a", "first"], cwd=tmp_path)
    assert b"1 file, 8 B, came back into outputs/\n" in first.stderr
    beside = f"r.txt.{cluster.job('first')['id']}"
    assert f"outputs/r.txt is yours and stays; the job's is outputs/{beside}".encode() in first.stderr
    assert (tmp_path / "outputs" / beside).read_text() == "mine one"
    assert (tmp_path / "outputs" / "r.txt").read_text() == "mine "
    (tmp_path / "outputs" / "r.txt").unlink()
    cluster.run(["python", "job.py", "two"], cwd=tmp_path)
    cluster.run(["python", "job.py", " three"], cwd=tmp_path)
    assert (tmp_path / "outputs" / "r.txt").read_text() == "two three"
    assert tree(tmp_path / "outputs") == {"kept.txt", "r.txt", beside}
    write(tmp_path / "outputs", "r.txt", "edited")
    forced = cluster.run(["pull", "@last", "r.txt", "--force"], cwd=tmp_path)
    assert forced.returncode == 0, forced.stderr
    assert (tmp_path / "outputs" / "r.txt").read_text() == "two three"


def test_a_hostile_tree_stays_where_it_belongs(cluster: Cluster, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    write(project, "job.py", HOSTILE)
    done = cluster.run(["python", "job.py"], cwd=project)
    assert done.returncode == 0, done.stderr
    assert tree(project) == {"job.py", "outputs/good.txt", "outputs/inside"}
    for said in (b"absolute", b"sub/climbs", b"zigzag", b"pipe: neither file nor folder", b"not UTF-8"):
        assert said in done.stderr, done.stderr
    assert tree(tmp_path) == {f"project/{path}" for path in tree(project)}


def test_links_of_this_machine_are_not_followed(cluster: Cluster, tmp_path: Path) -> None:
    project, outside = tmp_path / "project", tmp_path / "outside"
    (project / "outputs").mkdir(parents=True)
    outside.mkdir()
    (outside / "file").write_text("mine")
    write(
        project,
        "job.py",
        "import os, shutil; shutil.rmtree('outputs', True); os.makedirs('outputs/sub')\n"
        "open('outputs/sub/x', 'w').write('theirs'); open('outputs/file', 'w').write('theirs')\n",
    )
    cluster.run(["python", "job.py", "--no-pull", "-a", "links"], cwd=project)
    (project / "outputs" / "sub").symlink_to(outside)
    (project / "outputs" / "file").symlink_to(outside / "file")
    pulled = cluster.run(["pull", cluster.job("links")["id"]], cwd=project)
    assert pulled.returncode == 125
    assert b"'sub/x' did not come back: it needs a folder where" in pulled.stderr
    assert tree(outside) == {"file"}
    assert (outside / "file").read_text() == "mine"
    cluster.run(["pull", cluster.job("links")["id"], "file", "--force"], cwd=project)
    assert (outside / "file").read_text() == "mine"
    assert (project / "outputs" / "file").read_text() == "theirs"
    os.rename(project / "outputs", project / "away")
    (project / "outputs").symlink_to(outside)
    refused = cluster.run(["pull", cluster.job("links")["id"]], cwd=project)
    assert refused.returncode == 125
    assert b"is a link, and nothing is written through it" in refused.stderr
    assert tree(outside) == {"file"}


BIG = """
import os, random
os.makedirs("outputs")
for number in range(40):
    open(f"outputs/{number:02}.bin", "wb").write(random.Random(number).randbytes(2_000_000))
"""


@pytest.mark.parametrize("victim", ["storage", "agent", "gateway"])
def test_a_kill_in_the_middle_of_the_upload_loses_and_doubles_nothing(
    victim: str, own_cluster: Cluster, tmp_path: Path
) -> None:
    cluster = own_cluster
    write(tmp_path, "job.py", BIG)
    running = cluster.spawn(["python", "job.py", "-a", "big"], cwd=tmp_path)
    stored = cluster.folder / "storage" / "files"
    cluster.until(lambda: sum(len(names) for _, _, names in os.walk(stored)) >= 5)
    cluster.kill(victim)
    cluster.start(victim)
    done = running.finish(timeout=90)
    assert done.returncode == 0, done.stderr
    assert b"40 files, 80.0 MB, came back into outputs/\n" in done.stderr
    assert tree(tmp_path / "outputs") == {f"{number:02}.bin" for number in range(40)}
    for number in range(40):
        expected = random.Random(number).randbytes(2_000_000)
        assert (tmp_path / "outputs" / f"{number:02}.bin").read_bytes() == expected
    job = cluster.wait_for_job("big", lambda view: view["archived"])
    assert (job["attempt"], job["end"]["outputs"], job["end"]["outputs_bytes"]) == (1, 40, 80_000_000)
    attempts = cluster.folder / "agent-agent" / "attempts"
    cluster.until(lambda: not any(attempts.iterdir()))


def test_the_example_of_the_documentation_does_what_the_page_says(cluster: Cluster, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "howto" / "outputs.md").read_text()
    shutil.copy(ROOT / "docs" / "examples" / "outputs" / "fit.py", tmp_path)
    done = cluster.run(["python", "fit.py", "-a", "fit"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = done.stdout.decode() + done.stderr.decode()
    for line in ("x = ", "came back into outputs/"):
        (shown,) = [one for one in page.splitlines() if line in one and not one.startswith("$")]
        assert f"{shown}\n" in said
    assert tree(tmp_path / "outputs") == {"losses.csv", "model.json", "logs/fit.txt"}
    pulled = cluster.run(["pull", "@last", "logs", "-o", "results"], cwd=tmp_path)
    assert pulled.stdout == b"results/logs/fit.txt\n"


def test_what_is_over_the_cap_is_said_and_changes_nothing(
    own_cluster_without_agents: Cluster, tmp_path: Path
) -> None:
    cluster = own_cluster_without_agents
    cluster.add_agent(settings={"OUTPUTS_LIMIT_BYTES": "1000000"})
    write(tmp_path, "job.py", WRITE)
    done = cluster.run(["python", "job.py", "-a", "capped"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert tree(tmp_path / "outputs") == FILES - {"model.bin"}
    said = b"left out: model.bin: more than the 1,000,000 bytes that one job may send back"
    assert said in done.stderr
    assert said in cluster.run(["pull", "@last"], cwd=tmp_path).stderr
    assert cluster.job("capped")["state"] == "succeeded"


def test_files_that_cannot_be_saved_are_kept_and_the_exit_says_so(cluster: Cluster, tmp_path: Path) -> None:
    code = "import os, sys; os.path.isfile('outputs') and os.unlink('outputs'); os.makedirs('outputs')\n"
    write(tmp_path, "job.py", code + "open('outputs/a', 'w').close()\nsys.exit(int(sys.argv[1]))\n")
    (tmp_path / "outputs").write_text("a file of the user's own")
    for script, command in ((0, 125), (3, 3)):
        done = cluster.run(["python", "job.py", str(script), "-a", "blocked"], cwd=tmp_path)
        assert done.returncode == command, done.stderr
        assert b"not all files came back" in done.stderr
        assert f"chisel pull {cluster.job('blocked')['id']}".encode() in done.stderr
    pulled = cluster.run(["pull", "@last", "-o", "there"], cwd=tmp_path)
    assert pulled.returncode == 0, pulled.stderr
    assert tree(tmp_path / "there") == {"a"}
