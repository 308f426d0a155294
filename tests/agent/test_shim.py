"""The shim, run for real: as the agent starts it, but without an agent."""

import hashlib
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from chisel_agent.launch import (
    Exit,
    boottime,
    is_running,
    request_stop,
    shim_command,
    write_lease,
    write_shipped,
)
from tests.agent.facts import eventually
from tests.agent.shims import PYTHON, Job


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("pass", Exit(reason="exit", exit_code=0)),
        ("raise SystemExit(7)", Exit(reason="exit", exit_code=7)),
        ("import os; os.kill(os.getpid(), 9)", Exit(reason="signal", signal=9)),
        ("import os; os.kill(os.getpid(), 15)", Exit(reason="signal", signal=15)),
        ("import os; os.abort()", Exit(reason="signal", signal=6)),
    ],
)
def test_the_end_is_recorded_as_it_was(job: Job, code: str, expected: Exit) -> None:
    assert job.run(code) == expected


def test_both_streams_are_kept_byte_by_byte(job: Job) -> None:
    code = r"import os; os.write(1, bytes(range(256)) * 3); os.write(2, b'\xff\xfe\0 not utf-8')"
    end = job.run(code)
    assert job.spool() == bytes(range(256)) * 3
    assert job.spool("stderr") == b"\xff\xfe\0 not utf-8"
    assert (end.stdout_bytes, end.stderr_bytes) == (768, 13)


def test_a_hundred_megabytes_without_a_newline(job: Job) -> None:
    code = "import os\nfor n in range(100): os.write(1, bytes([n]) * 1_000_000)"
    end = job.run(code)
    expected = hashlib.sha256()
    for n in range(100):
        expected.update(bytes([n]) * 1_000_000)
    assert end == Exit(reason="exit", exit_code=0, stdout_bytes=100_000_000)
    assert hashlib.sha256(job.spool()).digest() == expected.digest()


def test_the_job_inherits_nothing(job: Job) -> None:
    code = (
        "import os, signal\n"
        "fds = sorted(int(n) for n in os.listdir('/proc/self/fd'))\n"
        "print([n for n in fds if os.path.exists(f'/proc/self/fd/{n}')])\n"
        "print(os.readlink('/proc/self/fd/0'), sorted(os.environ), os.getpid() == os.getsid(0))\n"
        "ignored = [n for n in range(1, 32) if signal.getsignal(n) is signal.SIG_IGN]\n"
        "print(ignored, signal.pthread_sigmask(0, ()))"
    )
    assert job.run(code).exit_code == 0
    lines = job.spool().decode().splitlines()
    assert lines[0] == "[0, 1, 2]"
    assert lines[1] == "/dev/null ['CHISEL_ATTEMPT', 'CHISEL_JOB_ID', 'LC_CTYPE', 'PATH'] True"
    # Python itself ignores these two.
    assert lines[2] == f"[{int(signal.SIGPIPE)}, {int(signal.SIGXFSZ)}] set()"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"argv": ("no-such-program",)}, "no-such-program: No such file or directory"),
        ({"argv": ("/etc/passwd",)}, "/etc/passwd: Permission denied"),
        ({"argv": ()}, "the job: "),
        ({"cwd": Path("/no/such/folder")}, "its working directory: No such file or directory"),
    ],
)
def test_what_cannot_be_started_says_why(job: Job, fields: dict[str, Any], says: str) -> None:
    end = job.run(**fields)
    assert end.reason == "start"
    assert says in end.detail


def test_the_time_limit_stops_it(job: Job) -> None:
    end = job.run("import time; time.sleep(60)", time_limit_seconds=0.2)
    assert end.reason == "time_limit"


def test_a_lease_that_ends_kills_at_once(job: Job) -> None:
    write_lease(job.folder, boottime() + 0.5)
    end = job.run("import signal, time; signal.signal(2, signal.SIG_IGN); time.sleep(60)")
    assert end == Exit(reason="lease_expired", signal=signal.SIGKILL)


def test_a_renewed_lease_lets_it_run(job: Job) -> None:
    write_lease(job.folder, boottime() + 0.5)
    job.start("import time; print('ready'); time.sleep(1.0)")
    job.printed(b"ready\n")
    write_lease(job.folder, boottime() + 60)
    assert job.end() == Exit(reason="exit", exit_code=0, stdout_bytes=6)


def test_a_lease_that_ended_before_the_start_prevents_it(job: Job) -> None:
    write_lease(job.folder, boottime() - 1)
    assert job.run("print('never')") == Exit(reason="lease_expired")


def test_more_output_than_allowed_ends_it_at_the_limit(job: Job) -> None:
    end = job.run("while True: print('x' * 1000)", output_limit_bytes=500_000)
    assert end.reason == "output_limit"
    assert end.stdout_bytes + end.stderr_bytes == 500_000
    assert len(job.spool()) + len(job.spool("stderr")) == 500_000


def test_a_job_far_ahead_of_what_was_shipped_waits(job: Job) -> None:
    code = "import os\nfor _ in range(40): os.write(1, b'x' * 1_000_000)\nos.write(2, b'through')"
    job.start(code, backlog_bytes=1_000_000)
    eventually(lambda: len(job.spool()) > 1_000_000)
    size = -1
    while size != len(job.spool()):  # until the pipe is full and it stands still
        size = len(job.spool())
        time.sleep(0.3)
    assert size < 10_000_000
    assert job.spool("stderr") == b""
    write_shipped(job.folder, size, 0)
    eventually(lambda: len(job.spool()) > size)
    write_shipped(job.folder, 1 << 40, 0)
    assert job.end() == Exit(reason="exit", exit_code=0, stdout_bytes=40_000_000, stderr_bytes=7)


def test_a_job_that_waits_for_shipping_can_be_stopped(job: Job) -> None:
    job.start("while True: print('x' * 1000)", backlog_bytes=1_000_000)
    eventually(lambda: len(job.spool()) > 1_000_000)
    request_stop(job.folder, "user")
    assert job.end().reason == "user"


def test_a_folder_that_was_removed_does_not_keep_it_alive(job: Job) -> None:
    job.start("print('ready'); import time; time.sleep(0.5)")
    job.printed(b"ready\n")
    shutil.rmtree(job.folder)
    assert job.process is not None
    assert job.process.wait(20) == 0


def test_user_code_never_runs_twice(job: Job) -> None:
    job.run("print('once')")
    for kept in ("exit", "running"):
        command = [*shim_command(Path(PYTHON), ""), str(job.folder)]
        assert subprocess.run(command, check=False).returncode == 3
        assert job.spool() == b"once\n"
        if kept == "exit":
            (job.folder / "exit").unlink()  # as if a shim had been killed


def test_there_is_one_shim_per_folder(job: Job) -> None:
    job.start("import time; print('ready'); time.sleep(60)")
    job.printed(b"ready\n")
    assert is_running(job.folder)
    command = [*shim_command(Path(PYTHON), ""), str(job.folder)]
    assert subprocess.run(command, check=False).returncode == 3
    request_stop(job.folder, "user")
    job.end()
    assert not is_running(job.folder)


def test_it_does_not_end_with_the_signals_of_a_service_stop(job: Job) -> None:
    job.start("import time; print('ready'); time.sleep(0.5); print('done')")
    job.printed(b"ready\n")
    assert job.process is not None
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        job.process.send_signal(number)
    assert job.end() == Exit(reason="exit", exit_code=0, stdout_bytes=11)


def test_the_agent_is_rung_when_there_is_news(job: Job) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
        bell.bind(str(job.folder.parent.parent / "doorbell"))
        bell.settimeout(20)
        job.start("input_ = open('go', 'x'); print('line')")
        assert bell.recv(100) == job.folder.name.encode()
        job.end()
        assert bell.recv(100) == job.folder.name.encode()


def test_a_doorbell_nobody_answers_does_not_hold_it_up(job: Job) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
        bell.bind(str(job.folder.parent.parent / "doorbell"))
        job.start("for n in range(2000): print(n)")
        assert job.end().exit_code == 0
        assert job.spool() == b"".join(b"%d\n" % n for n in range(2000))
        assert bell.recv(100) == job.folder.name.encode()
