"""The client on systems that lack what POSIX has: nothing that a user runs may need it."""

import os
import subprocess
import sys

import pytest

from tests.cli import elsewhere
from tests.cli.conftest import Command, Done
from tests.cli.gateway import Gateway
from tests.support.source import ROOT, name_of, python_files

LINUX_ONLY = ("cli/chisel/local/",)
"""What a backend on this machine takes. `stack.py` of it is asked by every command."""

ENCODING_NAMED = ("-X", "warn_default_encoding", "-W", "error::EncodingWarning")
"""A text file without one has the system's, which on Windows is not UTF-8."""


def run(chisel: Command, *words: str) -> Done:
    done = subprocess.run(
        [sys.executable, *ENCODING_NAMED, elsewhere.__file__, *words],
        cwd=chisel.project, env=chisel.env, stdin=subprocess.DEVNULL, capture_output=True, check=False,
        timeout=60,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr.decode())


def test_what_is_hidden_is_hidden() -> None:
    code = (
        "from tests.cli import elsewhere; elsewhere.hide()\n"
        "import os, select, signal\n"
        "assert not hasattr(os, 'fork') and not hasattr(select, 'poll') and not hasattr(signal, 'SIGHUP')\n"
        "import fcntl"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "No module named 'fcntl', which not every system has" in done.stderr


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--version"], "0."),
        (["--help"], "python"),
        (["ps", "--help"], "--watch"),
        (["config"], "backend"),
        (["ps", "--json"], "[]"),
        (["whoami", "--help"], "whom"),
    ],
    ids=" ".join,
)
def test_a_command_runs(gateway: Gateway, chisel: Command, words: list[str], shown: str) -> None:
    done = run(chisel, *words)
    assert done.status == 0, done.stderr
    assert shown in done.stdout.decode()


def test_a_job_is_packed_sent_watched_and_its_files_come_back(gateway: Gateway, chisel: Command) -> None:
    (chisel.project / "sub").mkdir()
    (chisel.project / "sub" / "data.txt").write_bytes(b"a\r\nb\n")
    (chisel.project / ".gitignore").write_text("*.log\n")
    (chisel.project / "noise.log").write_text("noise")
    for _ in range(2):  # a second time with what the first remembered
        done = run(chisel, "python", "hello.py")
        assert done.status == 0, done.stderr
        assert done.stdout == b"".join(data for stream, data in gateway.script.pieces if stream == "stdout")
    first, second = gateway.submissions[0].spec, gateway.submissions[-1].spec
    assert first.bundle == second.bundle
    for words in (["ps", "--json"], ["status", "@last", "--json"], ["logs", "@last"], ["cancel", "@last"]):
        done = run(chisel, *words)
        assert done.status == 0, done.stderr


def test_the_same_directory_is_the_same_bundle(gateway: Gateway, chisel: Command) -> None:
    assert run(chisel, "python", "hello.py").status == 0
    assert chisel("python", "hello.py").status == 0
    assert len({submission.spec.bundle for submission in gateway.submissions}) == 1


def test_outputs_are_saved(gateway: Gateway, chisel: Command) -> None:
    assert run(chisel, "python", "hello.py").status == 0
    done = run(chisel, "pull", "@last", "-o", "saved")
    assert done.status == 0, done.stderr


def test_a_key_is_stored_and_forgotten(gateway: Gateway, chisel: Command) -> None:
    code = (
        "from tests.cli import elsewhere; elsewhere.hide()\n"
        "from chisel import credentials\n"
        "credentials.prepare(); credentials.store('http://h', 'key')\n"
        "assert credentials.read().keys == {'http://h': 'key'}\n"
        "credentials.forget('http://h'); assert not credentials.read().keys"
    )
    env = chisel.env | {"PYTHONPATH": os.pathsep.join([chisel.env["PYTHONPATH"], str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [["up"], ["down"], ["status"], ["python", "hello.py"]], ids=" ".join)
def test_where_a_backend_can_run_is_said(chisel: Command, words: list[str]) -> None:
    del chisel.env["CHISEL_BACKEND_URL"], chisel.env["CHISEL_API_KEY"]
    done = run(chisel, *words)
    assert done.status == 125
    assert "a backend runs on Linux" in done.stderr
    assert "CHISEL_BACKEND_URL" in done.stderr


def test_every_module_of_the_client_can_be_imported(chisel: Command) -> None:
    names = [
        name_of(path).removeprefix("cli/").removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        for path in python_files("cli/chisel")
        if not name_of(path).startswith(LINUX_ONLY) and path.name != "__main__.py"
    ]
    assert "chisel.client" in names
    code = (
        "from tests.cli import elsewhere; elsewhere.hide()\n"
        f"import importlib\nfor name in {names}:\n    importlib.import_module(name)"
    )
    env = chisel.env | {"PYTHONPATH": os.pathsep.join([chisel.env["PYTHONPATH"], str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
