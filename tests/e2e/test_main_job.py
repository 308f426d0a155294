"""The main job through the real command: what it prints, what it exits with, what stays readable."""

import json
import signal
from pathlib import Path

import pytest

from tests.e2e.scripts import COUNTER, counter_lines, write
from tests.support.cluster import Cluster

pytestmark = pytest.mark.e2e


def test_stdout_stderr_arguments_and_exit_code_are_the_scripts(cluster: Cluster, tmp_path: Path) -> None:
    write(
        tmp_path,
        "job.py",
        "import sys\nprint('out', sys.argv[1:])\nprint('err', file=sys.stderr)\nsys.exit(7)\n",
    )
    done = cluster.run(["python", "job.py", "--epochs", "3", "two words", "--gpu", "4"], cwd=tmp_path)
    assert done.returncode == 7
    assert done.stdout == b"out ['--epochs', '3', 'two words']\n"
    assert b"err\n" in done.stderr
    assert b"--gpu 4" in done.stderr, "flags taken from behind the script are named"


def test_after_two_dashes_everything_is_the_scripts(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", "import sys\nprint(sys.argv[1:])\n")
    done = cluster.run(["python", "job.py", "--gpu", "2", "--", "--gpu", "4", "-d", "x"], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, b"['--gpu', '4', '-d', 'x']\n")


def test_a_job_finds_what_the_reference_promises(cluster: Cluster, tmp_path: Path) -> None:
    write(
        tmp_path,
        "job.py",
        "import json, os, chisel\n"
        "keys = ['CHISEL_BACKEND_RUN', 'CHISEL_BACKEND_APP_NAME', 'CHISEL_ATTEMPT', 'CHISEL_GPU_COUNT',\n"
        "        'PYTHONUNBUFFERED']\n"
        "print(json.dumps({k: os.environ[k] for k in keys}))\n"
        "assert os.environ['CHISEL_JOB_ID'] and os.path.isdir(os.environ['CHISEL_TRACE_DIR'])\n"
        "assert len(os.environ['CUDA_VISIBLE_DEVICES'].split(',')) == 2\n"
        "assert os.environ['MASTER_ADDR'] and int(os.environ['MASTER_PORT'])\n"
        "ours = ('CHISEL_AGENT', 'CHISEL_API_KEY', 'CHISEL_BACKEND_URL', 'NATS', 'PG')\n"
        "assert not [k for k in os.environ if k.startswith(ours)], os.environ\n"
        "assert sorted(map(int, os.listdir('/proc/self/fd')))[:3] == [0, 1, 2]\n"
        "assert len(os.listdir('/proc/self/fd')) == 4  # and the one that lists them\n"
        "assert chisel.capture_trace and chisel.GPUType.A100_80GB_4.value == 'A100-80GB:4'\n",
    )
    done = cluster.run(["python", "job.py", "-g", "2", "-a", "proud name"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "CHISEL_BACKEND_RUN": "1",
        "CHISEL_BACKEND_APP_NAME": "proud name",
        "CHISEL_ATTEMPT": "1",
        "CHISEL_GPU_COUNT": "2",
        "PYTHONUNBUFFERED": "1",
    }


def test_the_whole_directory_travels_and_imports_work(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path / "pkg" / "inner", "mod.py", "VALUE = open('data.txt').read()\n")
    (tmp_path / "data.txt").write_text("from the laptop")
    write(tmp_path, "job.py", "from pkg.inner.mod import VALUE\nprint(VALUE)\n")
    done = cluster.run(["python", "job.py"], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, b"from the laptop\n")


def test_a_script_in_a_subfolder_runs_where_the_user_stands(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path / "src", "job.py", "import os\nprint(os.path.basename(os.getcwd()), os.listdir('..'))\n")
    done = cluster.run(["python", "job.py", "--upload-dir", ".."], cwd=tmp_path / "src")
    assert (done.returncode, done.stdout) == (0, b"src ['src']\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, 137), (signal.SIGSEGV, 139)])
def test_a_signal_is_128_plus_its_number(
    cluster: Cluster, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    write(tmp_path, "job.py", f"import os\nos.kill(os.getpid(), {int(number)})\n")
    assert cluster.run(["python", "job.py"], cwd=tmp_path).returncode == code


def test_logs_ps_and_json_of_a_finished_job(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", COUNTER)
    done = cluster.run(["python", "job.py", "50", "0", "-a", "readable"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == counter_lines(50)
    listed = cluster.run(["ps", "-a", "--json"])
    job = next(j for j in json.loads(listed.stdout) if j["app_name"] == "readable")
    assert job["state"] == "succeeded"
    for arguments in (["logs", job["id"]], ["logs", "-f", job["id"]], ["logs", job["id"][:6]]):
        late = cluster.run(arguments)
        assert (late.returncode, late.stdout) == (0, counter_lines(50)), late.stderr


def test_output_of_an_archived_job_is_read_from_the_archive(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", COUNTER)
    cluster.run(["python", "job.py", "200", "0", "-a", "archived"], cwd=tmp_path)
    job = cluster.wait_for_job("archived", lambda view: view["archived"])
    late = cluster.run(["logs", job["id"]])
    assert (late.returncode, late.stdout) == (0, counter_lines(200))


def test_traces_are_saved_listed_and_downloaded(cluster: Cluster, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="profiling needs torch, which the test environment installs")
    write(
        tmp_path,
        "job.py",
        "import torch\nfrom chisel import capture_trace\n\n"
        "@capture_trace(trace_name='matrix_ops', record_shapes=True)\n"
        "def multiply(a, b):\n    return torch.mm(a, b)\n\n"
        "for _ in range(2):\n    print(multiply(torch.ones(8, 8), torch.ones(8, 8)).sum().item())\n",
    )
    done = cluster.run(["python", "job.py", "-a", "traced"], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, b"512.0\n512.0\n"), done.stderr
    job = cluster.job("traced")
    listed = cluster.run(["trace", "ls", job["id"]])
    assert b"matrix_ops.json" in listed.stdout
    assert b"matrix_ops.2.json" in listed.stdout
    target = tmp_path / "traces"
    assert cluster.run(["trace", "download", job["id"], "-o", str(target)]).returncode == 0
    for name in ("matrix_ops.json", "matrix_ops.2.json"):
        events = json.loads((target / name).read_text())["traceEvents"]
        assert any(event.get("name") == "aten::mm" for event in events)
