"""The typer app, made from the table of commands: help screens, and what the quick parser left over."""

import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from chisel.cli.table import BACKEND, COMMANDS, GROUPS, Argument, Command, Option

_HELP = """Run a Python script on GPUs as if it ran here.

chisel python train.py --gpu 4
"""


class _Command(TyperCommand):
    """`--help` is a switch and shown like one."""

    def get_help_option(self, ctx: Any) -> Any:
        return _switch(super().get_help_option(ctx))


class _Group(TyperGroup):
    """The same for what only has commands below it."""

    def get_help_option(self, ctx: Any) -> Any:
        return _switch(super().get_help_option(ctx))


def _switch(option: Any) -> Any:
    if option is not None:
        option.metavar = ""
    return option


def build(run: Callable[[Command, dict[str, object]], int]) -> typer.Typer:
    """The app; `run` carries out a command with its parameters and returns the exit status."""
    app = typer.Typer(
        name="chisel",
        cls=_Group,
        help=_HELP,
        no_args_is_help=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_top_options)
    for command in COMMANDS:
        _add(app, command, run, panel=_panel(command.name))
    groups = {"": app}
    for name, (text, commands) in GROUPS.items():
        epilog = _examples(command.examples[0] for command in commands)
        group = typer.Typer(help=text, no_args_is_help=True, epilog=epilog, cls=_Group)
        for command in commands:
            _add(group, command, run)
        parent, _, own_name = name.rpartition(" ")
        groups[parent].add_typer(group, name=own_name, rich_help_panel=None if parent else _panel(name))
        groups[name] = group
    return app


def _top_options(
    version: Annotated[bool, typer.Option("--version", "-v", metavar="", help="Print the version.")] = False,
    logout: Annotated[bool, typer.Option("--logout", metavar="", help="Forget the stored API keys.")] = False,
) -> None:
    """Shown in the help; answered before typer is loaded."""


def _add(
    app: typer.Typer,
    command: Command,
    run: Callable[[Command, dict[str, object]], int],
    *,
    panel: str | None = None,
) -> None:
    def call(**values: Any) -> None:
        raise typer.Exit(run(command, values))

    parameters = [_argument(argument) for argument in command.arguments]
    parameters += [_option(option) for option in command.options]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    epilog = _examples(command.examples)
    for name in (command.name, *command.aliases):
        hidden = name != command.name
        add = app.command(
            name, cls=_Command, help=command.help, epilog=epilog, hidden=hidden, rich_help_panel=panel
        )
        add(call)


def _examples(lines: Iterable[str]) -> str:
    # Each is a paragraph of its own, or the help screen would join them into one.
    return "\n\n".join(["Examples:", *(f"  {line}" for line in lines)])


def _panel(name: str) -> str:
    return "The backend, and this command" if name in BACKEND else "Jobs"


def _argument(argument: Argument) -> inspect.Parameter:
    shown = typer.Argument(metavar=argument.name.upper(), help=argument.help, show_default=False)
    if argument.many and argument.optional:
        return _parameter(argument.name, Annotated[list[str] | None, shown], None)
    if argument.many:
        return _parameter(argument.name, Annotated[list[str], shown])
    if argument.optional:
        return _parameter(argument.name, Annotated[str | None, shown], None)
    return _parameter(argument.name, Annotated[str, shown])


def _option(option: Option) -> inspect.Parameter:
    if not option.metavar:
        switch = typer.Option(*option.names, metavar="", help=option.help)
        return _parameter(option.key, Annotated[bool, switch], False)
    if option.number:
        shown = typer.Option(*option.names, help=option.help, metavar=option.metavar, min=0)
        kind = int if option.default is not None else int | None
        return _parameter(option.key, Annotated[kind, shown], option.default)
    shown = typer.Option(*option.names, help=option.help, metavar=option.metavar)
    return _parameter(option.key, Annotated[str | None, shown], option.default)


def _parameter(name: str, kind: object, default: object = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
