"""The real command as its user meets it: exit status, stdout and stderr."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import chisel as package
from chisel_shared.contract import frames
from chisel_shared.contract.job import EndReason, JobEnd
from tests.cli.conftest import Command
from tests.cli.gateway import JOB_ID, Gateway
from tests.cli.terminal import on_terminal


def lines(text: str) -> list[str]:
    """What chisel itself said."""
    return [line for line in text.splitlines() if line.startswith("chisel")]


def test_a_script_runs(gateway: Gateway, chisel: Command) -> None:
    gateway.script.pieces = [("stdout", b"hello\n\xff\x00"), ("stderr", b"warning\n")]
    done = chisel("python", "hello.py", "--gpu", "4", "--epochs", "3")
    assert (done.status, done.stdout) == (0, b"hello\n\xff\x00")
    assert re.sub(r"\d+ B|\d\.\d s", "N", done.stderr).splitlines() == [
        "chisel took --gpu 4; use -- to pass it to the script",
        f"chisel: job {JOB_ID} · hello · 4 x A100-80GB",
        "chisel: running on gpu-01 (4 x A100-80GB)",
        "warning",
        "chisel: exit 0 · ran N",
    ]
    spec = gateway.submissions[-1].spec
    assert spec.argv == ("python", "hello.py", "--epochs", "3")
    assert (spec.app_name, spec.gpu, spec.workdir, spec.requirements) == ("hello", "A100-80GB:4", ".", None)
    assert list(gateway.unpacked(spec.bundle)) == ["hello.py"]


def test_where_the_user_is_and_what_is_installed(gateway: Gateway, chisel: Command) -> None:
    (chisel.project / "requirements.txt").write_text("numpy\n")
    sub = chisel.project / "sub"
    sub.mkdir()
    chisel.project = sub
    done = chisel("-d", "..", "-a", "my job", "python", "../hello.py", "--gpu", "2")
    assert done.status == 0
    spec = gateway.submissions[-1].spec
    assert spec.argv == ("python", "../hello.py", "--gpu", "2")
    assert (spec.app_name, spec.workdir, spec.requirements) == ("my job", "sub", "requirements.txt")
    assert spec.gpu == "A100-80GB:1"


@pytest.mark.parametrize(
    ("end", "status", "says"),
    [
        (JobEnd(reason=EndReason.EXIT, exit_code=3), 3, "chisel: exit 3"),
        (JobEnd(reason=EndReason.SIGNAL, signal=9), 137, "failed: the script was ended by signal 9"),
        (JobEnd(reason=EndReason.OOM), 137, "ran out of memory"),
        (JobEnd(reason=EndReason.TIME_LIMIT), 124, "it reached its time limit"),
        (JobEnd(reason=EndReason.AGENT_LOST), 125, "not your script; run it again: chisel rerun"),
        (
            JobEnd(reason=EndReason.DEPS, detail="ERROR: No matching distribution\nfound for nope"),
            125,
            "  ERROR: No matching distribution\n  found for nope\n  mend the requirements and",
        ),
    ],
)
def test_the_status_is_the_scripts(
    gateway: Gateway, chisel: Command, end: JobEnd, status: int, says: str
) -> None:
    gateway.script.end = end
    done = chisel("python", "hello.py")
    assert done.status == status
    assert says in done.stderr


def test_output_that_is_too_long_is_said_to_be(gateway: Gateway, chisel: Command) -> None:
    gateway.script.pieces = [("stdout", b"h" * 5_000), ("stdout", b""), ("stdout", b"\nend\n")]
    gateway.script.end = JobEnd(
        reason=EndReason.EXIT, exit_code=2, stdout_bytes=5_005, stdout_omitted=1_234_567_890
    )
    done = chisel("python", "hello.py")
    assert (done.status, done.stdout) == (2, b"h" * 5_000 + b"\nend\n")
    assert lines(done.stderr)[2] == (
        "chisel: stdout is too long to be kept whole: after 5.0 kB it is not shown any more; its last part"
        " follows when the job has ended"
    )
    assert done.stderr.splitlines()[-1] == (
        "  left out 1.2 GB of stdout (1,234,567,890 bytes): its beginning and its end, 5.0 kB, are kept"
    )


def test_bytes_survive_lost_connections(gateway: Gateway, chisel: Command) -> None:
    data = os.urandom(1_000_000)
    gateway.script.pieces = [("stdout", data), ("stderr", b"e" * 1000), ("stdout", data)]
    gateway.script.cut_after = [0, 300_000, 1_200_000, 5]
    done = chisel("python", "hello.py")
    assert done.status == 0
    assert done.stdout == data + data
    assert done.stderr.count("e" * 1000) == 1
    assert "connection lost" in done.stderr
    assert "chisel: reconnected\n" in done.stderr


def test_a_file_that_vanishes_while_packing_ends_it(gateway: Gateway, chisel: Command) -> None:
    (chisel.project / "data").touch()
    # The file goes at what is said between looking through the directory and opening its files.
    code = (
        "import os; from chisel.cli import main, run;"
        "run._tell_packing = lambda *told: os.unlink('data'); main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "python", "hello.py"],
        cwd=chisel.project, env=chisel.env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 125
    assert lines(done.stderr)[-1].endswith("data vanished while it was being packed: run the command again")
    assert not gateway.submissions


def test_every_reason_to_wait_is_said_once(gateway: Gateway, chisel: Command) -> None:
    gateway.script.waiting = "2 jobs ahead"
    gateway.script.queue = ["2 jobs ahead", "1 job ahead", "2 jobs ahead", "1 job ahead"]
    said = [line for line in lines(chisel("python", "hello.py").stderr) if "queued" in line]
    assert said == ["chisel: queued: 2 jobs ahead", "chisel: queued: 1 job ahead"]


REFUSED = [
    ("python nope.py", 2, r"chisel: the script /.*/nope\.py does not exist\n"),
    ("python .", 2, r"chisel: the script /.* is a directory, not a file\n"),
    ("python -d sub hello.py", 2, r"chisel: Script /\S+/hello\.py is not inside upload_dir /\S+/sub\n"),
    ("python hello.py -r nope.txt", 2, r"the requirements file /.*/nope\.txt does not exist\n"),
    ("python --gpu 3 hello.py", 2, r"chisel: a job can have 1, 2, 4 or 8 GPUs, not 3\n"),
    ("python hello.py --gpu", 2, r"chisel: --gpu needs a value: --gpu COUNT\n"),
    ("python -i hello.py", 2, r"chisel: --interactive needs a terminal to ask on\n"),
    (
        "--gpu 4 hello.py",
        2,
        r"chisel: `python` is missing .*: chisel --gpu 4 python hello\.py\n",
    ),
    ("--gpu 4", 2, r"chisel: `python` is missing .*: chisel OPTIONS python SCRIPT\n"),
    ("--verison", 2, r"chisel: there is no option --verison: "),
    (
        "run hello.py --lr 1",
        2,
        r"no command run: did you mean `chisel python hello\.py --lr 1`\?\n",
    ),
    ("run python hello.py", 2, r"did you mean `chisel python hello\.py`\?\n"),
    ("submit", 2, r"did you mean `chisel python`\?\n"),
    ("squeue --me", 2, r"did you mean `chisel ps`\?\n"),
    ("cancle 1", 2, r"chisel: there is no command cancle: did you mean `chisel cancel`\?\n"),
    ("hello.py", 2, r"did you mean `chisel python hello\.py`\?\n"),
    ("xyzzy", 2, r"`chisel --help` lists what there is\n"),
    ("logs zzz", 125, r"chisel: there is no such job\n"),
    ("cancel zzz", 125, r"chisel: there is no job zzz\n"),
    ("logs a/b", 125, r"chisel: 'a/b' is not a job's id\n"),
    ("trace download zzz", 3, r"chisel: there is no job zzz\n"),
    ("ps --limit x", 2, r"(?s)Error.*--limit"),
    ("cancel", 2, r"Missing argument 'JOBS"),
    ("python", 2, r"Missing argument 'SCRIPT'"),
]


@pytest.mark.parametrize(("line", "status", "says"), REFUSED, ids=[line for line, _, _ in REFUSED])
def test_what_cannot_be_done_is_one_sentence(chisel: Command, line: str, status: int, says: str) -> None:
    (chisel.project / "sub").mkdir()
    done = chisel(*line.split())
    assert done.status == status
    assert done.stdout == b""
    assert re.search(says, done.stderr), done.stderr
    assert "Traceback" not in done.stderr


def test_a_backend_that_is_down(chisel: Command) -> None:
    chisel.env["CHISEL_BACKEND_URL"] = "http://127.0.0.1:1"
    for words in (["python", "hello.py"], ["ps"], ["cancel", "x"], ["logs", "x"]):
        done = chisel(*words)
        assert done.status == 125
        assert "chisel: the backend at http://127.0.0.1:1 does not answer (the connection was refused)" in (
            done.stderr
        )


def test_a_wrong_key(chisel: Command) -> None:
    chisel.env["CHISEL_API_KEY"] = "wrong"
    for words in (["python", "hello.py"], ["ps"]):
        done = chisel(*words)
        assert (done.status, lines(done.stderr)[-1]) == (125, "chisel: nobody knows this key")


def test_no_key_and_nobody_to_ask(chisel: Command) -> None:
    del chisel.env["CHISEL_API_KEY"]
    done = chisel("python", "hello.py")
    assert done.status == 125
    assert lines(done.stderr)[-1] == ("chisel: ❌ Authentication failed. Unable to get valid API key.")
    assert "set CHISEL_API_KEY" in done.stderr


def test_a_stranger_on_the_port(chisel: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        chisel.env["CHISEL_BACKEND_URL"] = f"http://127.0.0.1:{server.getsockname()[1]}"
        with chisel.start("python", "hello.py") as process:
            taken, _ = server.accept()
            with taken:
                taken.recv(1 << 16)
                taken.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
                _, stderr = process.communicate(timeout=30)
    assert process.returncode == 125
    assert b"is the URL right?" in stderr


def test_a_refused_job(gateway: Gateway, chisel: Command) -> None:
    gateway.script.failures = [frames.Failure("no_such_gpus", "no agent has 8 A100-80GB; the largest has 2")]
    done = chisel("python", "hello.py", "-g", "8")
    assert done.status == 125
    assert lines(done.stderr)[-1] == "chisel: no agent has 8 A100-80GB; the largest has 2"


def test_a_reader_that_leaves_is_no_error(gateway: Gateway, chisel: Command) -> None:
    gateway.script.pieces = [("stdout", b"line\n" * 200_000)]
    gateway.script.end = None
    with chisel.start("python", "hello.py") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"line\n"
        process.stdout.close()
        stderr = process.stderr.read().decode()
        assert process.wait(30) == 141
    assert lines(stderr)[-1] == (
        f"chisel: the output is closed; job {JOB_ID} goes on: chisel logs -f {JOB_ID}"
    )
    assert gateway.cancels == 0


@pytest.mark.parametrize(
    "words", [["python", "hello.py"], ["version"], ["--help"]], ids=lambda words: words[0]
)
def test_a_full_disk_is_said(gateway: Gateway, chisel: Command, words: list[str]) -> None:
    gateway.script.pieces = [("stdout", b"line\n")]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "chisel", *words],
            cwd=chisel.project, env=chisel.env, stdout=full, stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
    assert done.returncode == 125
    assert b"stdout cannot be written (No space left on device)" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("descriptor", [0, 1, 2])
def test_a_closed_descriptor_never_becomes_the_connection(
    gateway: Gateway, chisel: Command, descriptor: int
) -> None:
    gateway.script.pieces = [("stdout", b"line\n"), ("stderr", b"line\n")]
    command = f"exec {sys.executable} -m chisel python hello.py {descriptor}>&-"
    done = subprocess.run(
        ["sh", "-c", command], cwd=chisel.project, env=chisel.env, capture_output=True, check=False
    )
    assert done.returncode == 0
    assert done.stdout == (b"" if descriptor == 1 else b"line\n")


def test_logs_show_everything_and_follow_to_the_status(gateway: Gateway, chisel: Command) -> None:
    gateway.script.pieces = [("stdout", b"all of it\n")]
    gateway.script.end = JobEnd(reason=EndReason.EXIT, exit_code=7)
    chisel("python", "hello.py")
    done = chisel("logs", JOB_ID)
    assert (done.status, done.stdout) == (0, b"all of it\n")
    assert not gateway.follows[-1].live
    done = chisel("logs", "-f", "@last")
    assert (done.status, done.stdout) == (7, b"all of it\n")


def test_jobs_are_listed_and_cancelled(gateway: Gateway, chisel: Command) -> None:
    assert chisel("ps").stderr == "chisel: there is no job yet\n"
    chisel("python", "hello.py", "-a", "train")
    done = chisel("ps")
    heading, row = done.stdout.decode().splitlines()
    assert heading.split() == ["JOB", "NAME", "GPUS", "STATE", "WHERE", "TIME"]
    assert row.startswith(f"{JOB_ID[:8]}  train  1 x A100-80GB  succeeded (exit:0)  gpu-01  ")
    listed = json.loads(chisel("ps", "-a", "-n", "1", "--json").stdout)
    assert [job["id"] for job in listed] == [JOB_ID]
    done = chisel("cancel", JOB_ID, "zzz")
    assert done.status == 125
    assert done.stderr.splitlines() == [
        f"chisel: job {JOB_ID} has ended: succeeded (exit:0)",
        "chisel: zzz: there is no job zzz",
    ]


def test_traces_are_listed_and_saved(gateway: Gateway, chisel: Command, tmp_path: Path) -> None:
    chisel("python", "hello.py")
    assert "has saved no trace" in chisel("trace", "ls", JOB_ID).stderr
    gateway.script.traces = {"ops.json": b"{}" * 1000, "train.json": b"{}"}
    assert [line.split() for line in chisel("trace", "ls", "@last").stdout.decode().splitlines()] == [
        ["TRACE", "CALL", "EVENTS", "SIZE", "GPU", "BUSY", "WALL", "STATE"],
        ["ops.json", "1", "-", "2.0", "kB", "-", "-", "ready"],
        ["train.json", "1", "-", "2", "B", "-", "-", "ready"],
    ]
    done = chisel("trace", "download", JOB_ID, "ops", "-o", str(tmp_path / "out"))
    assert done.stdout.decode() == f"{tmp_path}/out/ops.json\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["ops.json"]
    assert chisel("trace", "download", JOB_ID).status == 0
    assert (chisel.project / "train.json").read_bytes() == b"{}"
    assert "has no trace nope" in chisel("trace", "download", JOB_ID, "nope").stderr


@pytest.mark.parametrize("words", [["version"], ["--version"], ["-v"]])
def test_the_version(chisel: Command, words: list[str]) -> None:
    done = chisel(*words)
    assert (done.status, done.stdout) == (0, f"chisel {package.__version__}\n".encode())


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_help(chisel: Command, words: list[str]) -> None:
    done = chisel(*words)
    assert done.status == 0
    for name in (b"python", b"logs", b"ps", b"cancel", b"trace", b"up", b"down", b"status", b"--logout"):
        assert name in done.stdout


def test_a_scripts_own_help_is_the_scripts(gateway: Gateway, chisel: Command) -> None:
    assert chisel("python", "hello.py", "--help").status == 0
    assert gateway.submissions[-1].spec.argv == ("python", "hello.py", "--help")
    assert b"--upload-dir" in chisel("python", "--help").stdout
    assert len(gateway.submissions) == 2


def test_logging_out(chisel: Command) -> None:
    folder = chisel.home / ".chisel"
    folder.mkdir()
    (folder / "credentials.json").write_text("damaged")
    done = chisel("--logout")
    assert (done.status, done.stderr) == (0, "chisel: stored API keys are forgotten\n")
    assert list(folder.iterdir()) == []


def test_on_a_terminal_our_lines_never_continue_the_scripts(gateway: Gateway, chisel: Command) -> None:
    gateway.script.pieces = [("stdout", b"50 %")]
    chisel.env["NO_COLOR"] = ""
    with on_terminal(chisel, "python", "hello.py", "-a", "x") as terminal:
        assert terminal.finish() == 0
        assert b"50 %\r\n\x1b[2mchisel: exit 0" in terminal.shown
    chisel.env["NO_COLOR"] = "1"
    with on_terminal(chisel, "python", "hello.py", "-a", "x") as terminal:
        assert terminal.finish() == 0
        assert b"\x1b" not in terminal.shown


def test_a_large_upload_has_a_bar_on_a_terminal_and_leaves_no_trace_of_it(
    gateway: Gateway, chisel: Command
) -> None:
    (chisel.project / "weights").write_bytes(os.urandom(9 << 20))
    gateway.script.pieces = [("stdout", b"hello\n")]
    with on_terminal(chisel, "python", "hello.py", "-a", "x") as terminal:
        terminal.wait_for("chisel: uploading ━".encode())
        terminal.wait_for(b"/9.5 MB")
        assert b"/100 bytes" not in terminal.shown
        assert terminal.finish() == 0
        assert b"hello\r\n" in terminal.shown
        assert "━" not in terminal.shown.decode().rpartition("chisel: job")[2]
    done = chisel("python", "hello.py")
    assert "━" not in done.stderr


def test_in_a_file_our_lines_wait_for_the_end_of_the_scripts(gateway: Gateway, chisel: Command) -> None:
    gateway.script.pieces = [("stderr", b"half a "), ("stderr", b"line\nand "), ("stderr", b"another")]
    gateway.script.cut_after = [7]
    done = chisel("python", "hello.py")
    said = done.stderr[done.stderr.index("half") :].splitlines()
    assert said[0] == "half a line"
    assert said[1].startswith("chisel: connection lost")
    assert said[2:4] == ["chisel: reconnected", "and another"]
    assert said[4].startswith("chisel: exit 0")
