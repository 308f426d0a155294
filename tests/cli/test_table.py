"""The quick parser and typer read the same table and understand the same lines alike."""

import shlex
from collections.abc import Callable

import pytest

from chisel.cli import app, arguments, guess, main, quick, table
from chisel.cli.table import Command

LINES = [
    "logs abc",
    "logs -f abc",
    "logs abc --follow",
    "ps",
    "ps -a -n 3 --json",
    "ps --limit=3",
    "ps --all --limit 7",
    "cancel a",
    "cancel a b c",
    "trace ls a --json",
    "trace download a",
    "trace download a ops -o out",
    "trace download a --output=out",
    "pull a",
    "pull a plots --force -o out --json",
    "pull a --output=out",
    "up",
    "up --foreground",
    "down",
    "status --json",
    "admin agents ls --json",
    "admin agents cordon gpu-01 --reason odd",
    "admin agents drain gpu-01 --deadline 30m --wait",
    "admin agents uncordon gpu-01",
]

DOUBTFUL = [
    "logs",
    "logs a b",
    "logs --help",
    "logs a --nope",
    "logs --follow=yes a",
    "ps -n",
    "ps -n x",
    "ps -n=3",
    "ps a",
    "cancel",
    "trace download a -o",
    "trace download a -o -x",
    "ps --",
]


def through_typer(words: list[str]) -> tuple[Command, dict[str, object]]:
    called: list[tuple[Command, dict[str, object]]] = []

    def run(command: Command, values: dict[str, object]) -> int:
        called.append((command, values))
        return 0

    app.build(run)(words, standalone_mode=False)
    return called[0]


@pytest.mark.parametrize("line", LINES)
def test_both_read_a_plain_line_alike(line: str) -> None:
    found = table.find(line.split())
    assert found is not None
    command, rest = found
    values = quick.parse(command, rest)
    by_typer, expected = through_typer(line.split())
    assert by_typer is command
    assert values == {key: tuple(v) if isinstance(v, list) else v for key, v in expected.items()}


@pytest.mark.parametrize("line", DOUBTFUL)
def test_what_is_in_doubt_is_left_to_typer(line: str) -> None:
    found = table.find(line.split())
    assert found is not None
    assert quick.parse(*found) is None


def every_command() -> list[Command]:
    return [*table.COMMANDS, *(command for _, group in table.GROUPS.values() for command in group)]


@pytest.mark.parametrize("command", every_command(), ids=lambda command: command.name)
def test_every_command_has_a_function_that_takes_its_parameters(command: Command) -> None:
    module, _, name = command.home.partition(":")
    function: Callable[..., int] = getattr(__import__(f"chisel.cli.{module}", fromlist=[name]), name)
    taken = set(function.__code__.co_varnames[: function.__code__.co_argcount])
    if command is table.PYTHON:
        assert taken == {"words"}
    else:
        assert taken == {argument.name for argument in command.arguments} | {o.key for o in command.options}


def test_help_tells_of_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for command in every_command():
        group = next((n for n, (_, commands) in table.GROUPS.items() if command in commands), None)
        assert main([*(group or "").split(), command.name, "--help"]) == 0
        shown = capsys.readouterr().out
        for option in command.options:
            assert option.names[0] in shown


@pytest.mark.parametrize("group", table.GROUPS)
def test_every_group_shows_an_example_of_each_of_its_commands(
    group: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*group.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    for command in table.GROUPS[group][1]:
        assert command.examples[0] in shown
    assert "<bool>" not in shown


def test_help_of_a_command_may_be_asked_for_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    for line in ("help ps", "ps --help"):
        assert main(line.split()) == 0
        assert "List the jobs" in capsys.readouterr().out


@pytest.mark.parametrize("word", guess.ELSEWHERE)
def test_what_others_call_it_leads_to_a_command_of_ours(word: str) -> None:
    assert word not in table.names()
    assert table.find(guess.ELSEWHERE[word].split()) is not None


@pytest.mark.parametrize("command", every_command(), ids=lambda command: command.name)
def test_every_command_shows_examples_that_it_understands(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    group = next((n for n, (_, commands) in table.GROUPS.items() if command in commands), None)
    assert command.examples
    assert main([*(group or "").split(), command.name, "--help"]) == 0
    shown = capsys.readouterr().out
    for example in command.examples:
        assert example in shown
        chisel, *words = shlex.split(example)
        assert chisel == "chisel"
        if command is table.PYTHON:
            arguments.parse(words)
            continue
        found = table.find(words)
        assert found is not None
        assert found[0] is command
        assert quick.parse(*found) is not None or through_typer(words)[0] is command
