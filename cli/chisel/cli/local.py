"""`chisel up`, `down` and `status`: the backend on this machine."""

from chisel.cli.values import UsageError
from chisel.local.stack import check_system
from chisel_shared.contract.errors import UserError


class NoLocalStack(UserError):
    """a backend on this machine needs the extra `local`: pip install 'chisel-gpu[local]'"""


def up(foreground: bool, json: bool) -> int:
    _require()
    if foreground and json:
        raise UsageError("--json is what `chisel up` prints at its end, and with --foreground it has none")
    from chisel.local import commands

    return commands.up(foreground=foreground, json=json)


def down(json: bool) -> int:
    check_system()
    from chisel.local import commands

    return commands.down(json=json)


def status(json: bool) -> int:
    check_system()
    from chisel.local import commands

    return commands.status(json=json)


def _require() -> None:
    check_system()
    from chisel.settings import has_embedded_stack

    if not has_embedded_stack():
        raise NoLocalStack
