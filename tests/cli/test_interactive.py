"""The questions of `chisel python` on a terminal, and the silence without one."""

import shlex
import signal

import pytest

from chisel.cli.arguments import parse
from chisel_shared.contract.messages import GpuKind
from tests.cli.conftest import Command
from tests.cli.gateway import Gateway
from tests.cli.terminal import CTRL_C, Terminal, on_terminal

A100 = GpuKind(model="A100-80GB", total=8, free=6, largest_free=4, largest=8, agents=2)


def answer(terminal: Terminal, question: str, keys: bytes, *, times: int = 1) -> None:
    terminal.wait_for(question.encode(), times=times)
    terminal.type(keys)


def test_enter_runs_what_needs_no_answers(gateway: Gateway, chisel: Command) -> None:
    with on_terminal(chisel, "python", "hello.py", "--gpu", "4", "--epochs", "3") as terminal:
        terminal.wait_for(b"4 GPUs, directory .; Enter runs it, another name asks for the rest")
        answer(terminal, "App name [hello]: ", b"\n")
        assert terminal.finish() == 0
        assert (
            b"the same without questions: chisel python --app-name hello --gpu 4 hello.py -- --epochs 3\r\n"
            in terminal.shown
        )
    spec = gateway.submissions[-1].spec
    assert (spec.app_name, spec.gpu, spec.argv) == (
        "hello", "A100-80GB:4", ("python", "hello.py", "--epochs", "3"),
    )  # fmt: skip


def test_a_name_asks_for_the_rest(gateway: Gateway, chisel: Command) -> None:
    gateway.gpus = (A100,)
    (chisel.project / "requirements.txt").touch()
    with on_terminal(chisel, "python", "hello.py") as terminal:
        answer(terminal, "App name [hello]: ", b"my app\n")
        answer(terminal, "Upload directory [.]: ", b"\n")
        answer(terminal, "Requirements file [requirements.txt]: ", b"\n")
        answer(terminal, "GPUs, 1, 2, 4 or 8 (6 of 8 free now, at most 4 on one machine) [1]: ", b"2\n")
        assert terminal.finish() == 0
        assert b"chisel python --app-name 'my app' --gpu 2 hello.py" in terminal.shown
    spec = gateway.submissions[-1].spec
    assert (spec.app_name, spec.gpu, spec.requirements) == ("my app", "A100-80GB:2", "requirements.txt")


def test_answers_are_checked_at_once(gateway: Gateway, chisel: Command) -> None:
    (chisel.project / "own.txt").touch()
    (chisel.project / "sub").mkdir()
    with on_terminal(chisel, "-i", "-a", "named", "python", "hello.py", "-i") as terminal:
        answer(terminal, "App name [named]: ", b"\n")
        answer(terminal, "Upload directory [.]: ", b"sub\n")
        terminal.wait_for(b"is not inside upload_dir")
        answer(terminal, "Upload directory [.]: ", b".\n", times=2)
        answer(terminal, "Requirements file [none]: ", b"nope.txt\n")
        terminal.wait_for(b"nope.txt does not exist")
        answer(terminal, "Requirements file [none]: ", b"own.txt\n", times=2)
        answer(terminal, "GPUs, 1, 2, 4 or 8 [1]: ", b"3\n")
        terminal.wait_for(b"a job can have 1, 2, 4 or 8 GPUs, not 3")
        answer(terminal, "GPUs, 1, 2, 4 or 8 [1]: ", b"8\n", times=2)
        assert terminal.finish() == 0
    spec = gateway.submissions[-1].spec
    assert (spec.app_name, spec.requirements, spec.gpu) == ("named", "own.txt", "A100-80GB:8")
    assert spec.argv == ("python", "hello.py", "-i")


def test_the_equivalent_command_asks_for_the_same(gateway: Gateway, chisel: Command) -> None:
    words = ["python", "-u", "-i", "--priority=-3", "-c", "print('it')", "a b", "--gpu", "2", "--", "-x"]
    with on_terminal(chisel, *words) as terminal:
        for question in ("App name", "Upload directory", "Requirements file", "GPUs"):
            answer(terminal, f"{question}", b"\n")
        assert terminal.finish() == 0
        line = terminal.shown.partition(b"without questions: ")[2].partition(b"\r\n")[0].decode()
    first = gateway.submissions[-1].spec
    assert parse(shlex.split(line)[1:]).script_args == ("a b", "-x")
    assert chisel(*shlex.split(line)[1:]).status == 0
    assert gateway.submissions[-1].spec == first


@pytest.mark.parametrize("keys", [CTRL_C, b"\x04"])
def test_leaving_a_question_submits_nothing(gateway: Gateway, chisel: Command, keys: bytes) -> None:
    with on_terminal(chisel, "python", "hello.py") as terminal:
        answer(terminal, "App name [hello]: ", keys)
        assert terminal.finish() == 130
        assert b"Traceback" not in terminal.shown
        assert terminal.shown.endswith(b"\n")
    assert gateway.submissions == []


@pytest.mark.parametrize(
    "options",
    [
        ("--app-name", "x"),
        ("--quiet",),
        ("--json",),
        ("--detach",),
    ],
)
def test_what_is_said_is_not_asked_for(gateway: Gateway, chisel: Command, options: tuple[str, ...]) -> None:
    with on_terminal(chisel, *options, "python", "hello.py") as terminal:
        assert terminal.finish() == 0
        assert b"App name" not in terminal.shown


@pytest.mark.parametrize("text", ['app-name = "x"\n', "interactive = false\n"])
def test_a_file_silences_the_questions(gateway: Gateway, chisel: Command, text: str) -> None:
    (chisel.project / "chisel.toml").write_text(text)
    with on_terminal(chisel, "python", "hello.py") as terminal:
        assert terminal.finish() == 0
        assert b"App name" not in terminal.shown


def test_a_script_that_is_not_there_is_said_before_anything_is_asked(
    gateway: Gateway, chisel: Command
) -> None:
    with on_terminal(chisel, "python", "nope.py") as terminal:
        assert terminal.finish() == 2
        assert b"App name" not in terminal.shown


def test_without_a_terminal_nothing_is_asked(gateway: Gateway, chisel: Command) -> None:
    done = chisel("python", "hello.py")
    assert (done.status, "App name" in done.stderr) == (0, False)
    done = chisel("-i", "python", "hello.py")
    assert (done.status, done.stderr) == (2, "chisel: --interactive needs a terminal to ask on\n")


@pytest.mark.parametrize("columns", [80, 20])
def test_every_width_shows_everything(gateway: Gateway, chisel: Command, columns: int) -> None:
    gateway.script.pieces = [("stdout", b"ok\n")]
    with on_terminal(chisel, "python", "hello.py", columns=columns) as terminal:
        answer(terminal, "App name [hello]: ", b"\n")
        assert terminal.finish() == 0
        assert b"ok\r\n" in terminal.shown
        assert b"chisel: exit 0" in terminal.shown


def test_a_question_is_left_when_the_window_closes(gateway: Gateway, chisel: Command) -> None:
    with on_terminal(chisel, "python", "hello.py") as terminal:
        terminal.wait_for(b"App name [hello]: ")
        terminal.hang_up()
        assert terminal.process.wait(30) in (-signal.SIGHUP, 130)
    assert gateway.submissions == []
