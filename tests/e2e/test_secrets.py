"""Variables and secrets through the real command: what a job finds, and where a value is never found."""

import base64
import hashlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.scripts import write
from tests.support.cluster import Cluster

pytestmark = pytest.mark.e2e

CANARY = b"canary-7d0e2a91"
PRINT = """\
import hashlib, json, os, sys
print(json.dumps({name: os.environ.get(name) for name in sys.argv[1:]}), flush=True)
"""
HASH = """\
import hashlib, os, sys
print(*[hashlib.sha256(os.environb[os.fsencode(name)]).hexdigest() for name in sys.argv[1:]], flush=True)
"""
CHISEL = str(Path(sys.executable).with_name("chisel"))


def sha(value: bytes) -> bytes:
    return hashlib.sha256(value).hexdigest().encode()


def piped(cluster: Cluster, arguments: list[str], value: bytes) -> subprocess.CompletedProcess[bytes]:
    """`chisel ARGUMENTS` with `value` on its stdin."""
    return subprocess.run(
        [CHISEL, *arguments], input=value, env=cluster.environment(), capture_output=True, timeout=60
    )


def typed(cluster: Cluster, arguments: list[str], keys: bytes) -> tuple[int, bytes]:
    """`chisel ARGUMENTS` on a terminal of its own, on which `keys` are typed once it asks."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(CHISEL, [CHISEL, *arguments], cluster.environment())
    shown = b""
    while b"not shown: " not in shown:
        shown += os.read(terminal, 1024)
    os.write(terminal, keys)
    try:
        while part := os.read(terminal, 1024):
            shown += part
    except OSError:  # how a terminal says that its last process has gone
        pass
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown


def test_variables_reach_the_job_as_they_are(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", PRINT)
    odd = {"A": "", "B": "x=y=z", "C": "zwei\nZeilen\tund é 漢", "D": "  'q' \"$HOME\" ", "E": "-x"}
    flags = [word for name, value in odd.items() for word in ("--env", f"{name}={value}")]
    done = cluster.run(
        [*flags, "--env", "FROM_SHELL", "--env=A2=1", "python", "job.py", *odd, "FROM_SHELL", "A2", "OTHER"],
        cwd=tmp_path,
        env={"FROM_SHELL": "of the shell\n", "OTHER": "stays here"},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == odd | {"FROM_SHELL": "of the shell\n", "A2": "1", "OTHER": None}


def test_stacks_are_asked_for_by_a_variable(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", PRINT)
    for flags, value in ((["--trace-stacks", "--env", "A=1"], "1"), ([], None)):
        done = cluster.run([*flags, "python", "job.py", "CHISEL_TRACE_STACKS"], cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {"CHISEL_TRACE_STACKS": value}


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--env", "NOWHERE"], b"the shell has no variable NOWHERE; write --env NOWHERE=VALUE"),
        (["--env", "CHISEL_JOB_ID=x"], b"CHISEL_JOB_ID is set by Chisel in every job"),
        (["--env", "CUDA_VISIBLE_DEVICES=0"], b"CUDA_VISIBLE_DEVICES is set by Chisel"),
        (["--env", "1A=x"], b"'1A' cannot name a variable"),
        (["--env", "BAD"], b"the value of BAD is not UTF-8 text"),
        (["--env", "A=" + "x" * 40_000], b"may take 32 KiB together"),
        (["--env", "A=1", "--secret", "A"], b"A is given twice"),
        (["--secret", "PATH=TOKEN"], b"PATH is no place for a secret"),
    ],
)
def test_variables_that_cannot_be_set(
    cluster: Cluster, tmp_path: Path, flags: list[str], sentence: bytes
) -> None:
    write(tmp_path, "job.py", PRINT)
    done = cluster.run([*flags, "python", "job.py"], cwd=tmp_path, env={"BAD": "\udcff"})
    assert done.returncode == 2
    assert sentence in done.stderr


def test_what_no_frame_can_carry_is_refused_before_the_upload(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", PRINT)
    flags = ["--env", "A=" + "\x01" * 12_000]  # six times as long once it is JSON
    done = cluster.run([*flags, "python", "job.py"], cwd=tmp_path)
    assert done.returncode == 125
    assert b"a job's may take 64" in done.stderr
    assert b"uploading" not in done.stderr


def test_a_secret_is_in_the_jobs_environment_and_nowhere_else(own_cluster: Cluster, tmp_path: Path) -> None:
    cluster = own_cluster
    write(tmp_path, "job.py", HASH)
    value = CANARY + b" \xff\n=\xc3\xa9"
    assert piped(cluster, ["secret", "set", "TOKEN"], value + b"\n").returncode == 0
    (tmp_path / "key").write_bytes(value + b"\n")
    kept = cluster.run(["secret", "set", "FILE", "--from-file", "key"], cwd=tmp_path)
    assert kept.returncode == 0, kept.stderr
    (tmp_path / "key").unlink()
    names = ("TOKEN", "ELSE", "FILE")
    done = cluster.run(
        [
            "--secret",
            "TOKEN",
            "--secret=ELSE=TOKEN",
            "--secret",
            "FILE",
            "-a",
            "secretive",
            "python",
            "job.py",
            *names,
        ],
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [sha(value), sha(value), sha(value + b"\n")]
    cluster.wait_for_job("secretive", lambda view: view["archived"])
    listed = cluster.run(["secret", "ls", "--json"])
    assert [(one["name"], one["version"]) for one in json.loads(listed.stdout)] == [("FILE", 1), ("TOKEN", 1)]
    assert b"TOKEN" in cluster.run(["secret", "ls"]).stdout
    cluster.stop("postgres")  # what was in its memory is on its disk now
    forms = [CANARY, *(base64.b64encode(b"x" * pad + value)[4:20] for pad in range(3)), CANARY.hex().encode()]
    files = [path for path in cluster.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    places = {path.relative_to(cluster.folder).parts[0] for path in files}
    assert {"logs", "db", "nats", "agent-agent", "storage", "secrets-key"} <= places
    assert not [(path, form) for path in files for form in forms if form in path.read_bytes()]
    cluster.start("postgres")
    cluster.wait_ready()


def test_a_secret_typed_on_a_terminal_is_not_shown_and_the_next_job_has_the_new_value(
    cluster: Cluster, tmp_path: Path
) -> None:
    write(tmp_path, "job.py", HASH)
    for value in (b"first " + CANARY, b"second " + CANARY):
        status, shown = typed(cluster, ["secret", "set", "TYPED"], value + b"\n")
        assert status == 0, shown
        assert CANARY not in shown
        done = cluster.run(["python", "job.py", "TYPED", "--secret", "TYPED"], cwd=tmp_path)
        assert done.stdout.strip() == sha(value), done.stderr
    status, shown = typed(cluster, ["secret", "set", "TYPED"], b"\x03")
    assert status == 130
    gone = cluster.run(["secret", "rm", "TYPED"])
    assert gone.returncode == 0, gone.stderr
    refused = cluster.run(["python", "job.py", "TYPED", "--secret", "TYPED"], cwd=tmp_path)
    assert refused.returncode == 125
    assert b"this project has no secret TYPED: chisel secret set TYPED" in refused.stderr
    assert b"uploading" not in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "value", "sentence"),
    [
        (["TOKEN=hunter2"], b"", b"a value on the command line would stay in the shell's history"),
        (["no-name"], b"x", b"'no-name' cannot name a secret"),
        (["EMPTY"], b"\n", b"is empty, which is no secret"),
        (["LARGE"], b"x" * 50_000, b"a secret can have 48 KiB"),
        (["FILE", "--from-file", "nowhere"], b"", b"nowhere cannot be read"),
    ],
)
def test_secrets_that_cannot_be_kept(
    cluster: Cluster, arguments: list[str], value: bytes, sentence: bytes
) -> None:
    done = piped(cluster, ["secret", "set", *arguments], value)
    assert done.returncode in (2, 125)
    assert sentence in done.stderr
    assert b"hunter2" not in done.stderr
