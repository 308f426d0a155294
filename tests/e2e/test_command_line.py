"""The command line of a job is the one that plain python would get, byte for byte."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.scripts import WITNESS, write
from tests.support.cluster import Cluster

pytestmark = pytest.mark.e2e

ECHO = "import json, os, sys\nprint(json.dumps([os.fsencode(word).hex() for word in sys.argv[1:]]))\n"

WORDS = [
    "", " ", "two words", "tab\tand\nline", "'single'", '"double"', "back\\slash", "$HOME `id` $(id)", "*",
    "--epochs=3", "--name=", "=", "-", "--", "-x=1", "ünï 日本語 🙂", "\udcff raw \udc80", "\x01\x1b[31m",
    "-i", "names.txt", "-d", "--gpu", "4", "-r", "--", "-a", "~",
]  # fmt: skip


def plain(folder: Path, *words: str) -> bytes:
    """What python prints for the same words."""
    return subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, check=True).stdout


@pytest.mark.parametrize("ours", [("python", "echo.py", "--"), ("--gpu", "2", "python", "echo.py")])
def test_every_word_arrives_as_it_was(cluster: Cluster, tmp_path: Path, ours: tuple[str, ...]) -> None:
    write(tmp_path, "echo.py", ECHO)
    done = cluster.run([*ours, *WORDS], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(plain(tmp_path, "echo.py", *WORDS))


def test_a_module_finds_what_it_would_find_here(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path / "package", "__init__.py", "")
    write(tmp_path / "package", "other.py", "NAME = 'other'\n")
    write(
        tmp_path / "package",
        "module.py",
        "import os, sys\nfrom package.other import NAME\n"
        "print(NAME, __name__, sys.argv[1:], sys.path[0] == os.getcwd(), os.listdir('.'))\n",
    )
    words = ("-m", "package.module", "a", "-m")
    done = cluster.run(["python", *words], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, plain(tmp_path, *words)), done.stderr


def test_code_runs_where_the_files_are(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "beside.py", "NAME = 'beside'\n")
    code = "import sys, beside\nprint(beside.NAME, sys.argv, repr(sys.path[0]), sys.flags.optimize)\n"
    done = cluster.run(["python", "-O", "-c", code, "", "x y"], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, plain(tmp_path, "-O", "-c", code, "", "x y")), done.stderr


def test_a_time_limit_ends_the_job(cluster: Cluster, tmp_path: Path) -> None:
    done = cluster.run(["python", "--time-limit", "1s", "-c", "import time; time.sleep(600)"], cwd=tmp_path)
    assert done.returncode == 124
    assert b"it reached its time limit" in done.stderr


def test_priority_decides_who_starts_first(cluster: Cluster, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.mkdir()
    (gate / "go").touch()
    (tmp_path / "full").mkdir()
    folder = write(tmp_path / "src", "job.py", WITNESS).parent
    full = cluster.spawn(["python", "job.py", str(tmp_path / "full"), "-g", "8", "-a", "full"], cwd=folder)
    full.wait_for_output(b"gpus")
    ids = {}
    for name, priority in (("late", "-3"), ("first", "7"), ("middle", "0")):
        options = ["--detach", "--priority", priority, "--name", name, "-g", "8", "--retries", "1"]
        done = cluster.run(["python", *options, "job.py", str(gate)], cwd=folder)
        assert done.returncode == 0, done.stderr
        ids[name] = done.stdout.decode().strip()
    (tmp_path / "full" / "go").touch()
    assert full.finish().returncode == 0
    for job_id in ids.values():
        assert cluster.run(["wait", job_id]).returncode == 0
    started = {name: cluster.get(f"/api/v1/jobs/{job_id}")["started_at"] for name, job_id in ids.items()}
    assert started["first"] < started["middle"] < started["late"]


def test_a_scripts_metadata_are_its_requirements(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "requirements.txt", "no-such-package-at-all\n")
    write(
        tmp_path,
        "job.py",
        "# /// script\n# requires-python = '>=3.11'\n# dependencies = ['msgspec']\n# ///\n"
        "import msgspec\nprint('ok')\n",
    )
    done = cluster.run(["python", "job.py"], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, b"ok\n"), done.stderr
    write(tmp_path, "job.py", "# /// script\n# requires-python = '>=4'\n# dependencies = []\n# ///\n")
    done = cluster.run(["python", "job.py"], cwd=tmp_path)
    assert done.returncode == 125
    assert b"the script requires Python >=4, and this agent runs jobs with 3." in done.stderr
