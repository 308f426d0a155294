"""The tests' own user of the command, on a pseudo-terminal."""

import sys
from contextlib import AbstractContextManager

from tests.cli.conftest import Command
from tests.support import terminal
from tests.support.terminal import CTRL_C as CTRL_C
from tests.support.terminal import Terminal as Terminal


def on_terminal(chisel: Command, *words: str, columns: int = 80) -> AbstractContextManager[Terminal]:
    """`chisel WORDS` in a session of its own, so that Ctrl-C typed here is a signal there."""
    command = [sys.executable, "-m", "chisel", *words]
    return terminal.on_terminal(command, cwd=chisel.project, env=chisel.env, columns=columns)
