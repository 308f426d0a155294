"""What `chisel python` can be asked for beside its script."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chisel_shared.contract.job import EndReason, JobEnd
from tests.cli.conftest import Command
from tests.cli.gateway import JOB_ID, Gateway


def test_a_detached_job_prints_its_id_alone(gateway: Gateway, chisel: Command) -> None:
    gateway.script.end = None
    done = chisel("python", "hello.py", "--detach")
    assert (done.status, done.stdout) == (0, f"{JOB_ID}\n".encode())
    assert (
        f"chisel: follow it with chisel logs -f {JOB_ID}, end it with chisel cancel {JOB_ID}" in done.stderr
    )
    assert gateway.cancels == 0
    done = chisel("python", "--detach", "-q", "hello.py")
    assert (done.status, done.stdout, done.stderr) == (0, f"{JOB_ID}\n".encode(), "")


def test_what_a_job_may_take_travels_with_it(gateway: Gateway, chisel: Command) -> None:
    options = ("--time-limit", "1h30m", "--retries=2", "--priority", "-5", "--name", "night")
    chisel("python", *options, "hello.py", "-q")
    spec = gateway.submissions[-1].spec
    assert (spec.time_limit_seconds, spec.retries, spec.priority, spec.app_name) == (5400, 2, -5, "night")
    assert spec.argv == ("python", "hello.py", "-q")


def test_what_lets_a_job_run_again_travels_with_it(gateway: Gateway, chisel: Command) -> None:
    options = ("--retries=2", "--retry-on", "exit:75", "--retry-on=signal", "--lease", "1h")
    chisel("python", *options, "hello.py", "-q")
    spec = gateway.submissions[-1].spec
    assert (spec.retries, spec.retry_on, spec.lease_seconds) == (2, ("exit:75", "signal"), 3_600)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--retries", "1", "--retry-on", "sometimes"), "a job can be retried on lost, exit, signal"),
        (("--retry-on", "exit"), "--retry-on needs --retries COUNT"),
        (("--lease", "1h"), "--lease needs --retries COUNT"),
    ],
)
def test_what_cannot_let_a_job_run_again(chisel: Command, options: tuple[str, ...], said: str) -> None:
    done = chisel("python", *options, "hello.py")
    assert done.status == 2
    assert said in done.stderr


def test_a_module_and_code(gateway: Gateway, chisel: Command) -> None:
    chisel("python", "-m", "package.module", "a", "--gpu", "2")
    spec = gateway.submissions[-1].spec
    assert (spec.argv, spec.app_name) == (("python", "-m", "package.module", "a"), "package.module")
    chisel("-q", "python", "-u", "-c", "print(1)\n", "", "--", "-c")
    spec = gateway.submissions[-1].spec
    assert (spec.argv, spec.app_name) == (("python", "-u", "-c", "print(1)\n", "", "--", "-c"), "code")


def test_words_that_are_not_utf8_keep_their_bytes(gateway: Gateway, chisel: Command) -> None:
    subprocess.run(
        [sys.executable, "-m", "chisel", "python", "hello.py", b"\xff\xfe", "ü"],
        cwd=chisel.project, env=chisel.env, check=True, capture_output=True,
    )  # fmt: skip
    spec = gateway.submissions[-1].spec
    assert spec.argv == ("python", "hello.py", "\ufffd\ufffd", "ü")
    assert spec.exact_argv == (b"python", b"hello.py", b"\xff\xfe", "ü".encode())


def test_the_job_as_json_is_all_of_stdout(gateway: Gateway, chisel: Command) -> None:
    gateway.script.pieces = [("stdout", b"the script's\n")]
    gateway.script.end = JobEnd(reason=EndReason.EXIT, exit_code=3)
    done = chisel("--json", "python", "hello.py")
    assert done.status == 3
    job = json.loads(done.stdout)
    assert (job["id"], job["state"], job["end"]["exit_code"]) == (JOB_ID, "failed", 3)
    assert "the script's\n" in done.stderr


def test_the_job_as_json_in_a_file(gateway: Gateway, chisel: Command, tmp_path: Path) -> None:
    gateway.script.pieces = [("stdout", b"the script's\n")]
    done = chisel("python", "hello.py", "--result", str(tmp_path / "job.json"))
    assert (done.status, done.stdout) == (0, b"the script's\n")
    assert json.loads((tmp_path / "job.json").read_bytes())["state"] == "succeeded"
    assert os.listdir(tmp_path / "project") == ["hello.py"]
    done = chisel("python", "hello.py", "--result", str(tmp_path / "nowhere" / "job.json"))
    assert done.status == 125
    assert "cannot be written (No such file or directory); the job is not affected" in done.stderr


def test_a_detached_job_as_json(gateway: Gateway, chisel: Command) -> None:
    gateway.script.end = None
    job = json.loads(chisel("--json", "--detach", "python", "hello.py").stdout)
    assert (job["id"], job["end"]) == (JOB_ID, None)


def test_quiet_leaves_errors(gateway: Gateway, chisel: Command) -> None:
    gateway.script.pieces = [("stderr", b"the script's\n")]
    assert chisel("-q", "python", "hello.py").stderr == "the script's\n"
    assert "does not exist" in chisel("-q", "python", "nope.py").stderr


def test_names_left_to_the_script_are_told(gateway: Gateway, chisel: Command) -> None:
    done = chisel("python", "hello.py", "--name", "resnet", "--json")
    assert "chisel left --name and --json to the script; put it before the script" in done.stderr
    assert gateway.submissions[-1].spec.argv == ("python", "hello.py", "--name", "resnet", "--json")
