"""A token kept in a file: the secret a machine shares with itself. Nothing here prints or logs it."""

import os
import secrets
from pathlib import Path

from chisel_auth.tokens import Kind, Token, make, parse
from chisel_shared.runtime.logs import Log

log = Log("chisel.auth.token_file")

_MAX_BYTES = 4_096


class BadTokenFile(Exception):
    """A token file holds something else; refused, because an empty or default secret is no secret."""


def ensure(path: Path, kind: Kind) -> Token:
    """The token in `path`, which is made (mode 0600, whole or not at all) if nothing is there.

    Of several processes that start at once, all return the one whose file was first.
    """
    if not path.exists():
        write_unless_there(path, make(kind).text)
    return _read(path, kind)


def write_unless_there(path: Path, text: str) -> None:
    """Put `text` and a line end in `path` (mode 0600), whole or not at all; a file that is there stays."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            # A link, unlike a rename, never replaces what another process put there first.
            os.link(aside, path)
        except FileExistsError:
            return
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        log.info("secret_file_made", path=str(path))
    finally:
        aside.unlink(missing_ok=True)


def _read(path: Path, kind: Kind) -> Token:
    with path.open() as file:
        token = parse(file.read(_MAX_BYTES).strip())
        mode = os.fstat(file.fileno()).st_mode
    if token is None or token.kind is not kind:
        raise BadTokenFile(f"{path} holds no {kind} token: delete it to have one made")
    if mode & 0o077:
        log.warning("token_file_is_readable_by_others", path=str(path), mode=oct(mode & 0o777))
    return token
