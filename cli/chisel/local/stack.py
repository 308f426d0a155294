"""Finding the stack of this machine, or starting it.

`data_folder` is asked by every `chisel python` and `find` by those that name no backend, so this file
imports almost nothing; what finds or starts a stack is imported when one is wanted.
"""

import os
import sys

from chisel.local.errors import LocalStackError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

KEY_FILE = "key"
ADMIN_TOKEN_FILE = "admin-token"


class LocalStack:
    """A running stack: where its gateway is, and the key of its one local user."""

    __slots__ = ("key", "url")

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self.key = key


def data_folder() -> str:
    """Everything of the stack lies here: $CHISEL_LOCAL_DIR, or ~/.chisel/local."""
    chosen = os.environ.get("CHISEL_LOCAL_DIR")
    if chosen:
        return os.path.abspath(os.path.expanduser(chosen))
    return os.path.join(os.path.expanduser("~"), ".chisel", "local")


def find() -> LocalStack | None:
    """The stack of this machine when its gateway, and no stranger on its port, answers; else None."""
    from chisel.local import processes, ready, state

    folder = data_folder()
    try:
        known = state.read(folder)
        key = read_key(folder)
    except (LocalStackError, OSError):
        return None
    if known is None or key is None or not processes.is_recorded_alive(folder, "gateway"):
        return None
    if not ready.healthy(known.gateway_port):
        return None
    return LocalStack(known.url, key)


def check_system() -> None:
    """`LocalStackError` where no stack can run, with the way out."""
    if not sys.platform.startswith("linux") or not hasattr(os, "fork"):
        inside = "inside WSL" if sys.platform == "win32" else "in a virtual machine"
        raise LocalStackError(
            f"a backend runs on Linux only: on this system run `chisel up` {inside}, or set"
            " CHISEL_BACKEND_URL to one that runs elsewhere"
        )


def ensure(say: "Callable[[str], None]") -> LocalStack:
    """The stack of this machine, started when it is not running; `say` gets one line about which it was.

    `LocalStackError` when it cannot be started here, with the way out in its message.
    """
    found = find()
    if found is not None:
        say(f"using the local stack at {found.url}")
        return found
    check_system()
    from chisel.local.starting import start

    say(f"starting the local stack in {data_folder()} (`chisel down` stops it)")
    return start().stack


def read_key(folder: str) -> str | None:
    """The local user's API key; None before the stack was ready for the first time."""
    try:
        with open(os.path.join(folder, KEY_FILE), encoding="ascii") as file:
            return file.read().strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None
