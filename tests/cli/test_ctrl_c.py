"""Ctrl-C on a terminal is a question; without one, and for everything else, see test_interrupts."""

import signal

import pytest

from tests.cli.conftest import Command
from tests.cli.gateway import JOB_ID, Gateway
from tests.cli.terminal import CTRL_C, Terminal, on_terminal

QUESTION = b"[c]ancel [d]etach [Enter] keep watching (^C again = cancel)"
RUN = ("python", "hello.py", "-a", "hello")


@pytest.fixture
def endless(gateway: Gateway) -> Gateway:
    gateway.script.pieces = [("stdout", b"running\n")]
    gateway.script.end = None
    return gateway


def interrupt(terminal: Terminal) -> None:
    terminal.wait_for(b"running\r\n")
    terminal.type(CTRL_C)
    terminal.wait_for(f"chisel: job {JOB_ID} still runs\r\n".encode() + QUESTION)


def test_cancel(endless: Gateway, chisel: Command) -> None:
    with on_terminal(chisel, *RUN) as terminal:
        interrupt(terminal)
        assert endless.cancels == 0
        terminal.type(b"c")
        terminal.wait_for(f"job {JOB_ID} was cancelled".encode())
        assert terminal.finish() == 130
    assert endless.cancels == 1


def test_a_job_that_waits_is_not_said_to_run(endless: Gateway, chisel: Command) -> None:
    endless.script.waiting = "2 jobs ahead"
    endless.script.starts = False
    with on_terminal(chisel, *RUN) as terminal:
        terminal.wait_for(b"queued: 2 jobs ahead")
        terminal.type(CTRL_C)
        terminal.wait_for(f"chisel: job {JOB_ID} waits in the queue\r\n".encode() + QUESTION)
        terminal.type(b"c")
        assert terminal.finish() == 130
    assert endless.cancels == 1


def test_detach(endless: Gateway, chisel: Command) -> None:
    with on_terminal(chisel, *RUN) as terminal:
        interrupt(terminal)
        terminal.type(b"xyd")
        terminal.wait_for(f"job {JOB_ID} goes on: chisel logs -f {JOB_ID}".encode())
        assert terminal.finish() == 0
    assert endless.cancels == 0


def test_keep_watching_and_be_asked_again(endless: Gateway, chisel: Command) -> None:
    with on_terminal(chisel, *RUN) as terminal:
        interrupt(terminal)
        terminal.type(b"\r")
        terminal.wait_for(b"keep watching\r\n")
        terminal.type(CTRL_C)
        terminal.wait_for(QUESTION, times=2)
        terminal.type(b"d")
        assert terminal.finish() == 0
    assert endless.cancels == 0


def test_a_second_one_cancels_and_watches_and_a_third_leaves(endless: Gateway, chisel: Command) -> None:
    endless.script.ignores_cancels = True
    with on_terminal(chisel, *RUN) as terminal:
        interrupt(terminal)
        terminal.type(CTRL_C)
        terminal.wait_for(f"cancelling job {JOB_ID}; once more to leave at once".encode())
        assert terminal.is_cooked()
        terminal.type(CTRL_C)
        assert terminal.finish() == 130
    assert endless.cancel_heard.wait(10), "the command did not wait until it was heard"
    assert endless.cancels == 1


def test_a_signal_while_it_asks_leaves_the_terminal_as_it_was(endless: Gateway, chisel: Command) -> None:
    with on_terminal(chisel, *RUN) as terminal:
        interrupt(terminal)
        assert not terminal.is_cooked()
        terminal.process.send_signal(signal.SIGTERM)
        terminal.wait_for(b"was cancelled")
        assert terminal.is_cooked()
        assert terminal.finish() == 143


def test_sigterm_asks_nothing(endless: Gateway, chisel: Command) -> None:
    with on_terminal(chisel, *RUN) as terminal:
        terminal.wait_for(b"running\r\n")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.finish() == 143
        assert QUESTION not in terminal.shown
    assert endless.cancels == 1


@pytest.mark.parametrize(("means", "status", "cancels"), [("cancel", 130, 1), ("detach", 0, 0)])
def test_what_it_means_can_be_said_before(
    endless: Gateway, chisel: Command, means: str, status: int, cancels: int
) -> None:
    with on_terminal(chisel, *RUN, "--on-interrupt", means) as terminal:
        terminal.wait_for(b"running\r\n")
        terminal.type(CTRL_C)
        assert terminal.finish() == status
        assert QUESTION not in terminal.shown
    assert endless.cancels == cancels


def test_a_closed_window_never_cancels(endless: Gateway, chisel: Command) -> None:
    with on_terminal(chisel, *RUN) as terminal:
        terminal.wait_for(b"running\r\n")
        terminal.hang_up()
        assert terminal.process.wait(30) == -signal.SIGHUP
    assert endless.cancels == 0


def test_harmful_escapes_reach_a_file_but_no_terminal(gateway: Gateway, chisel: Command) -> None:
    script = b"\x1b]52;c;ZWNo\x07\x1b[32mgreen\x1b[0m\x1b]0;title\x07 50 %\r100 %\n"
    gateway.script.pieces = [("stdout", script[:8]), ("stdout", script[8:])]
    assert chisel(*RUN).stdout == script
    with on_terminal(chisel, *RUN) as terminal:
        assert terminal.finish() == 0
        assert b"\x1b[32mgreen\x1b[0m 50 %\r100 %\r\n" in terminal.shown
        assert b"\x1b]" not in terminal.shown
    with on_terminal(chisel, "--raw", "-a", "hello", "python", "hello.py") as terminal:
        terminal.wait_for(script.replace(b"\n", b"\r\n"))
