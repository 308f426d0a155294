"""`chisel up`, `down` and `status`: the backend on this machine."""

from chisel.local.stack import check_system
from chisel_shared.contract.errors import UserError


class NoLocalStack(UserError):
    """A backend on this machine needs the extra `local`: pip install 'chisel-gpu[local]'"""


def up(foreground: bool) -> int:
    _require()
    from chisel.local import commands

    return commands.up(foreground=foreground)


def down() -> int:
    check_system()
    from chisel.local import commands

    return commands.down()


def status(json: bool) -> int:
    check_system()
    from chisel.local import commands

    return commands.status(json=json)


def _require() -> None:
    check_system()
    from chisel.settings import has_embedded_stack

    if not has_embedded_stack():
        raise NoLocalStack
