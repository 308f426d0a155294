"""What a stack remembers from one start to the next: its ports, its passwords, where its sockets lie.

One JSON file of mode 0600, written aside and renamed. Standard library only and nothing heavy:
every `chisel python` reads it.
"""

import json
import os

from chisel.local.errors import LocalStackError

FILE = "stack.json"
PUBLIC_PORT = 8000
MAX_SOCKET_PATH = 100
"""A Unix socket's path must fit in 108 bytes, 104 on macOS."""
_SOCKET_NAME = "/.s.PGSQL.5432"


class State:
    """The remembered facts of one stack. Change a field, then `save`."""

    def __init__(self, facts: dict[str, object]) -> None:
        self.gateway_port = int(str(facts["gateway_port"]))
        self.storage_port = int(str(facts["storage_port"]))
        self.nats_port = int(str(facts["nats_port"]))
        self.service_password = str(facts["service_password"])
        self.agent_password = str(facts["agent_password"])
        self.storage_token = str(facts["storage_token"])
        self.sockets = str(facts["sockets"])
        self.agent_gpus = str(facts.get("agent_gpus", "auto"))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.gateway_port}"

    def save(self, folder: str) -> None:
        """Replace the file whole; a reader sees the old facts or the new ones."""
        write_private(os.path.join(folder, FILE), json.dumps(vars(self), indent=1) + "\n")


def read(folder: str) -> State | None:
    """The state of the stack in `folder`, or None when none was ever started there."""
    path = os.path.join(folder, FILE)
    try:
        with open(path, encoding="utf-8") as file:
            return State(json.load(file))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unusable(folder, error) from error
    except (ValueError, KeyError, TypeError) as error:
        raise LocalStackError(f"{path} is damaged ({error!r}); move {folder} away to begin anew") from error


def unusable(folder: str, error: OSError) -> LocalStackError:
    """What to say when the folder itself is the trouble: no folder, not ours to write, a full disk."""
    why = error.strerror or repr(error)
    at = f" ({error.filename!r})" if isinstance(error.filename, str) and error.filename != folder else ""
    return LocalStackError(
        f"the local stack cannot use {folder}: {why}{at}; make room and access there,"
        " or name another folder in CHISEL_LOCAL_DIR"
    )


def open_folder(folder: str) -> State:
    """The state of the stack in `folder`, made on first use; the folder is nobody else's to read.

    `OSError` when it cannot be made or written, `LocalStackError` for a path no server can be told.
    """
    try:
        folder.encode()
    except UnicodeEncodeError:
        raise LocalStackError(
            f"the path {folder!r} is not UTF-8 text: name another folder in CHISEL_LOCAL_DIR"
        ) from None
    os.makedirs(folder, mode=0o700, exist_ok=True)
    os.chmod(folder, 0o700)
    for name in ("run", "logs", "nats"):
        os.makedirs(os.path.join(folder, name), mode=0o700, exist_ok=True)
    state = read(folder)
    if state is None:
        import secrets

        state = State(
            {
                "gateway_port": free_port(PUBLIC_PORT),
                "storage_port": free_port(),
                "nats_port": free_port(),
                "service_password": secrets.token_hex(24),
                "agent_password": secrets.token_hex(24),
                "storage_token": secrets.token_hex(24),
                "sockets": "",
            }
        )
    sockets = _sockets_folder(folder, state.sockets)
    if sockets != state.sockets or not os.path.exists(os.path.join(folder, FILE)):
        state.sockets = sockets
        state.save(folder)
    return state


def move_taken_ports(state: State, folder: str, ours: set[str]) -> list[str]:
    """Give each part that is not running (`ours` are) another port when a stranger holds its own;
    the new ones are remembered. Returns the parts that moved."""
    moved = []
    for part in ("gateway", "storage", "nats"):
        port = getattr(state, f"{part}_port")
        if part not in ours and not is_free(port):
            setattr(state, f"{part}_port", free_port())
            moved.append(part)
    if moved:
        state.save(folder)
    return moved


def write_private(path: str, text: str, *, durable: bool = True) -> None:
    """Write a file of mode 0600 aside and rename it into place."""
    aside = f"{path}.{os.getpid()}.new"
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.replace(aside, path)


def is_free(port: int) -> bool:
    """Whether one may listen on this loopback port now."""
    import socket

    with socket.socket() as probe:
        # As servers do: a port whose last connections are still in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port(wanted: int = 0) -> int:
    """`wanted` when it is free, else any loopback port that was free a moment ago."""
    import socket

    if wanted and is_free(wanted):
        return wanted
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _sockets_folder(folder: str, remembered: str) -> str:
    """A private folder for Postgres' socket: below `folder`, or a short and plain one when that path is
    too long, or has letters that lists and addresses of sockets give a meaning."""
    below = os.path.join(folder, "run")
    plain = all(letter.isalnum() or letter in "/._-" for letter in below)
    if plain and len(os.fsencode(below + _SOCKET_NAME)) <= MAX_SOCKET_PATH:
        return below
    if remembered and remembered != below and _is_private(remembered):
        return remembered
    import tempfile

    for parent in (None, "/tmp"):
        made = tempfile.mkdtemp(prefix="chisel-", dir=parent)
        if len(os.fsencode(made + _SOCKET_NAME)) <= MAX_SOCKET_PATH:
            return made
        os.rmdir(made)
    raise LocalStackError(
        f"no folder has a path short enough for a socket: set TMPDIR to a short one, not {made}"
    )


def _is_private(folder: str) -> bool:
    """Whether it is still there, a real folder, ours alone: a name below /tmp may have been taken over."""
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    return found.st_mode == 0o040700 and found.st_uid == os.getuid()
