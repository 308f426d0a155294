"""Ctrl-C and SIGTERM: what becomes of the job, and of the command."""

import signal
import subprocess

import pytest

from chisel_shared.contract.job import EndReason, JobEnd
from tests.cli.conftest import Command
from tests.cli.gateway import JOB_ID, Gateway


def wait_for(process: "subprocess.Popen[bytes]", line: bytes) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == line


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_cancels_and_waits_for_the_end(
    gateway: Gateway, chisel: Command, number: int, status: int
) -> None:
    gateway.script.pieces = [("stdout", b"running\n")]
    gateway.script.end = None
    with chisel.start("python", "hello.py") as process:
        wait_for(process, b"running\n")
        process.send_signal(number)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == status
    assert gateway.cancels == 1
    assert f"chisel: cancelling job {JOB_ID}; once more to leave at once\n" in stderr.decode()
    assert f"chisel: job {JOB_ID} was cancelled" in stderr.decode()


def test_a_job_that_ended_by_itself_keeps_its_status(gateway: Gateway, chisel: Command) -> None:
    gateway.script.pieces = [("stdout", b"running\n")]
    gateway.script.end = None
    gateway.script.cancelled_end = JobEnd(reason=EndReason.EXIT, exit_code=5)
    with chisel.start("python", "hello.py") as process:
        wait_for(process, b"running\n")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 5


def test_a_second_interrupt_leaves_at_once(gateway: Gateway, chisel: Command) -> None:
    gateway.script.pieces = [("stdout", b"running\n")]
    gateway.script.end = None
    gateway.script.ignores_cancels = True
    with chisel.start("python", "hello.py") as process:
        wait_for(process, b"running\n")
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        while b"once more" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert gateway.cancel_heard.wait(10), "the command did not wait until it was heard"
    assert gateway.cancels == 1


def test_signals_that_come_together_leave_no_job_behind(gateway: Gateway, chisel: Command) -> None:
    gateway.script.pieces = [("stdout", b"running\n")]
    gateway.script.end = None
    with chisel.start("python", "hello.py") as process:
        wait_for(process, b"running\n")
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode in (130, 143)
    assert gateway.cancels == 1


def test_while_there_is_no_job_yet_the_command_just_ends(gateway: Gateway, chisel: Command) -> None:
    gateway.script.refuse = [503] * 10_000
    with chisel.start("python", "hello.py") as process:
        assert process.stderr is not None
        while b"connection lost" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert gateway.submissions == []


def test_leaving_logs_leaves_the_job(gateway: Gateway, chisel: Command) -> None:
    gateway.script.pieces = [("stdout", b"running\n")]
    gateway.script.end = None
    with chisel.start("python", "hello.py") as runner:
        wait_for(runner, b"running\n")
        with chisel.start("logs", "-f", JOB_ID) as watcher:
            wait_for(watcher, b"running\n")
            watcher.send_signal(signal.SIGINT)
            _, stderr = watcher.communicate(timeout=30)
        assert watcher.returncode == 130
        assert f"job {JOB_ID} goes on" in stderr.decode()
        assert gateway.cancels == 0
        runner.send_signal(signal.SIGTERM)
        runner.communicate(timeout=30)


def test_an_ignored_interrupt_stays_ignored(gateway: Gateway, chisel: Command) -> None:
    gateway.script.pieces = [("stdout", b"running\n")]
    gateway.script.end = None
    with chisel.start("python", "hello.py", ignoring=signal.SIGINT) as process:
        wait_for(process, b"running\n")
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 143
