"""The examples of the documentation, each through the real command: what a reader copies must work."""

import importlib.util

import pytest

from tests.support.cluster import Cluster
from tests.support.source import ROOT

pytestmark = pytest.mark.e2e

EXAMPLES = ROOT / "docs" / "examples"
NEEDS_TORCH = {"local_development.py", "matrix_ops.py", "safe_ops.py", "type_hints.py"}

# What each prints, or a part of it; the scripts themselves end with something else than 0 when wrong.
PRINTS = {
    "authentication.py": "",
    "authentication_failed.py": "❌ Authentication failed. Unable to get valid API key.",
    "command_line.py": "After 10 epochs at 0.001",
    "conditional.py": "🚀 Running on cloud GPU!\nBatch size: 4096",
    "decorator_parameters.py": "my_function was called",
    "detect_environment.py": "🚀 Running on cloud GPU!\nJob ID: ",
    "gpu_types.py": "A100_80GB_4 = A100-80GB:4",
    "local_development.py": "Result: tensor(",
    "matrix_ops.py": "Product: [[2.0, 2.0, 2.0]",
    "multiple_functions.py": "Slope: 0.289\nSquared error: 58.618",
    "safe_ops.py": "Raised to the caller: TypeError",
    "script_outside.py": "is not inside upload_dir",
    "type_hints.py": "Doubled: [0, 2, 4, 6]",
}


def test_every_example_is_run_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} - {"ddp.py"} == set(PRINTS)


@pytest.mark.parametrize("name", sorted(PRINTS))
def test_an_example_runs_on_a_backend(cluster: Cluster, name: str) -> None:
    if name in NEEDS_TORCH:
        _need_torch()
    done = cluster.run(["python", name, "-a", name.removesuffix(".py").replace("_", "-")], cwd=EXAMPLES)
    assert done.returncode == 0, done.stderr.decode()
    assert PRINTS[name] in done.stdout.decode()


def test_script_arguments_reach_the_example(cluster: Cluster) -> None:
    arguments = ["python", "command_line.py", "--app-name", "training", "--gpu", "2", "--epochs", "50"]
    done = cluster.run(arguments, cwd=EXAMPLES)
    assert done.stdout.decode() == "After 50 epochs at 0.001: x = 0.904747\n", done.stderr.decode()


def test_three_traced_functions_leave_three_traces(cluster: Cluster) -> None:
    _need_torch()
    done = cluster.run(["python", "multiple_functions.py", "-a", "three-traces"], cwd=EXAMPLES)
    assert done.returncode == 0, done.stderr.decode()
    listed = cluster.run(["trace", "ls", cluster.job("three-traces")["id"]]).stdout.decode()
    for name in ("preprocess.json", "train.json", "evaluate.json"):
        assert name in listed


def test_two_ranks_meet_on_the_jobs_own_port(cluster: Cluster) -> None:
    _need_torch()
    done = cluster.run(["python", "ddp.py", "--gpu", "2", "-a", "ddp"], cwd=EXAMPLES, timeout=110)
    assert done.returncode == 0, done.stderr.decode()
    lines = sorted(done.stdout.decode().splitlines())
    assert lines[0] == "rank 0: all-reduce over 2 ranks gave 1"
    assert [line.partition(":")[0] for line in lines] == ["rank 0", "rank 0", "rank 1", "rank 1"]


@pytest.mark.timeout(300)
def test_digits_are_learnt_with_requirements_that_were_not_there(cluster: Cluster) -> None:
    _need_torch()
    assert importlib.util.find_spec("sklearn") is None, "the example must bring scikit-learn itself"
    done = cluster.run(
        ["python", "digits.py", "-a", "digits", "--seed", "7"], cwd=EXAMPLES / "digits", timeout=280
    )
    assert done.returncode == 0, done.stderr.decode()
    accuracy = float(done.stdout.decode().rpartition("accuracy ")[2])
    assert accuracy >= 0.95
    listed = cluster.run(["trace", "ls", cluster.job("digits")["id"]]).stdout.decode()
    assert "train_epoch.json" in listed
    assert "evaluate.json" in listed


def _need_torch() -> None:
    pytest.importorskip(
        "torch", reason="this example computes with torch, which the test environment installs"
    )
