"""The shim, run for real: as the agent starts it, but without an agent."""

import hashlib
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chisel_agent import shim_tail
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
    end = job.run(code)
    assert replace(end, detail="") == expected


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


NUMBERS = b"".join(b"line %08d\n" % n for n in range(200_000))
PRINT_NUMBERS = """
import os, sys
data = b"".join(b"line %08d\\n" % n for n in range(200_000))
for at in range(0, len(data), 50_001):
    os.write(1, data[at : at + 50_001])
"""


def test_of_too_much_output_head_and_tail_are_kept(job: Job) -> None:
    end = job.run(PRINT_NUMBERS + "os.write(2, b'short'); sys.exit(4)", head_bytes=100_000, tail_bytes=30_000)
    missing = len(NUMBERS) - 130_000
    notice = b"\n[chisel: %s bytes were left out here]\n" % f"{missing:,}".encode()
    expected = NUMBERS[:100_000] + notice + NUMBERS[-30_000:]
    assert job.spool() == expected
    assert end == Exit(
        reason="exit", exit_code=4, stdout_bytes=len(expected), stderr_bytes=5, stdout_omitted=missing
    )


@pytest.mark.parametrize("over", [-1, 0, 1])
def test_output_that_head_and_tail_hold_together_is_whole(job: Job, over: int) -> None:
    """And the first byte too much is the first that is missing."""
    head, tail = 100_000, len(NUMBERS) - 100_000 - over
    end = job.run(PRINT_NUMBERS, head_bytes=head, tail_bytes=tail)
    notice = b"\n[chisel: 1 byte was left out here]\n" if over > 0 else b""
    assert job.spool() == NUMBERS[:head] + notice + NUMBERS[head + max(0, over) :]
    assert (end.exit_code, end.stdout_omitted) == (0, max(0, over))


def test_too_much_output_takes_no_more_of_the_disk_while_it_goes_on(job: Job) -> None:
    code = "try:\n    while True: print('x' * 1000)\nexcept KeyboardInterrupt: print('bye')"
    job.start(code, head_bytes=10_000, tail_bytes=20_000)
    tail = job.folder / "stdout.tail"
    eventually(lambda: tail.exists() and shim_tail.left_out(str(job.folder / "stdout")) > 5_000_000)
    assert (job.folder / "stdout").stat().st_size == 10_000
    assert tail.stat().st_size == shim_tail.HEADER_BYTES + 20_000 + shim_tail.SLACK_BYTES
    request_stop(job.folder, "user")
    end = job.end()
    assert (end.reason, end.stdout_bytes) == ("user", len(job.spool()))
    assert job.spool().endswith(b"bye\n")
    assert end.stdout_omitted > 5_000_000


def test_more_output_than_a_full_disk_takes_ends_it_and_says_so(job: Job) -> None:
    (job.folder / "stdout.tail").symlink_to("/dev/full")
    end = job.run("while True: print('x' * 1000)", head_bytes=10_000, tail_bytes=20_000)
    assert end.reason == "disk"
    assert end.detail == "its output could not be kept: No space left on device"


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
        command = [*shim_command(Path(PYTHON), ()), str(job.folder)]
        assert subprocess.run(command, check=False).returncode == 3
        assert job.spool() == b"once\n"
        if kept == "exit":
            (job.folder / "exit").unlink()  # as if a shim had been killed


def test_there_is_one_shim_per_folder(job: Job) -> None:
    job.start("import time; print('ready'); time.sleep(60)")
    job.printed(b"ready\n")
    assert is_running(job.folder)
    command = [*shim_command(Path(PYTHON), ()), str(job.folder)]
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
