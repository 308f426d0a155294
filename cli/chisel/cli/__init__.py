"""The command. `main` finds the verb and loads only what that verb needs.

Open `table.py` for what there is, then the verb's own file: parse, one verb of `chisel.client`,
render. `arguments.py` parses `chisel python`, `quick.py` the plain forms of the other verbs, and
`app.py` makes from the same table the typer app that shows help and explains mistakes. Only
`render.py` prints.
"""

import os
import sys

OK, MISUSE, INTERRUPTED, BROKEN_PIPE = 0, 2, 130, 141

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is; `chisel version` must not load it
if TYPE_CHECKING:
    from chisel.cli.table import Command


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` and return the exit status; without `argv`, this process's own
    command line, and end the process with it."""
    if argv is not None:
        return _main(argv)
    _keep_standard_descriptors()
    if sys.platform == "win32":
        from chisel.cli.windows import prepare_console

        prepare_console()
    status = _main(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            continue  # closed, or its reader is gone
    # Taking the interpreter apart costs a fifth of a short command, and nothing here needs it.
    os._exit(status)


def _main(words: list[str]) -> int:
    if words in (["version"], ["--version"], ["-v"]):
        from chisel.cli.about import version

        return version()
    try:
        return _dispatch(words)
    except KeyboardInterrupt:
        return INTERRUPTED


def _keep_standard_descriptors() -> None:
    """Open what the caller closed, as with `>&-`: otherwise a connection gets the number of stdout, and
    the script's output is written into it."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one


def _dispatch(words: list[str]) -> int:
    from chisel.cli import table

    if words[:1] == ["--logout"]:
        from chisel.cli.login import forget_all

        return _guarded(forget_all, {})
    if _is_run(words):
        from chisel.cli.run import run

        return _guarded(run, {"words": words})
    found = table.find(words)
    if found is not None:
        from chisel.cli.quick import parse

        command, rest = found
        values = parse(command, rest) if command is not table.PYTHON else None
        if values is not None:
            return execute(command, values)
    elif words and words[0] not in (*table.GROUPS, "help", "--help", "-h"):
        return _unknown(words)
    if words[:1] in ([], ["help"]):
        words = [*words[1:], "--help"]
    return _typer(words)


def _is_run(words: list[str]) -> bool:
    """Whether this is `chisel [options] python …`, unless it only asks for help."""
    if words[:1] == ["python"]:
        return words[1:2] not in ([], ["--help"], ["-h"])
    return words[:1] != [] and words[0].startswith("-") and "python" in words


def execute(command: "Command", values: dict[str, object]) -> int:
    """Carry out a command of the table."""
    module, _, function = command.home.partition(":")
    home = __import__(f"chisel.cli.{module}", fromlist=[function])
    return _guarded(getattr(home, function), values)


def _guarded(function: object, values: dict[str, object]) -> int:
    """Call a command; what it cannot do becomes a sentence and an exit status."""
    from chisel.cli.render import OutputClosed, Screen
    from chisel.cli.values import UsageError
    from chisel_shared.contract.errors import ChiselError

    assert callable(function)
    try:
        return int(function(**values))
    except ChiselError as error:
        Screen().error(str(error))
        return error.exit_code
    except (AssertionError, UsageError) as error:
        Screen().error(str(error))
        return MISUSE
    except OutputClosed:
        return BROKEN_PIPE
    except RuntimeError as error:
        from chisel.auth import FAILED
        from chisel_shared.contract.job import OWN_FAILURE

        if str(error) != FAILED:
            raise
        Screen().error("\n".join([FAILED, *getattr(error, "__notes__", ())]))
        return OWN_FAILURE


def _unknown(words: list[str]) -> int:
    from chisel.cli.guess import unknown
    from chisel.cli.render import Screen

    Screen().error(unknown(words))
    return MISUSE


def _typer(words: list[str]) -> int:
    from chisel.cli.app import build

    try:
        build(execute)(words, prog_name="chisel")
    except SystemExit as stop:  # how click says that it is done
        return stop.code if isinstance(stop.code, int) else OK
    except OSError as error:  # a help screen that could not be written
        from chisel.cli.about import unwritten

        return unwritten(error)
    return OK
