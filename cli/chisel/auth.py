"""Authentication: which API key goes with which backend, and the file that remembers it.

`~/.chisel/credentials.json`, mode 0600 in a folder of mode 0700, holds one key a backend and the
backend to use when none is named. A key in `CHISEL_API_KEY` always comes first and is never stored.
"""

import os
import stat
import sys
from typing import Any

from chisel import settings
from chisel_shared.contract.errors import BadRequest, ChiselError, Unauthenticated

FAILED = "❌ Authentication failed. Unable to get valid API key."

_FOLDER_MODE = 0o700
_FILE_MODE = 0o600


class InsecureCredentials(BadRequest):
    """The credentials file is not safe to use."""


def is_authenticated() -> bool:
    """Whether there is an API key to use: in the environment, stored, or of the embedded stack.

    Asks no server: a key may have been revoked meanwhile.
    """
    return bool(settings.api_key() or _read().get("keys")) or settings.local_backend() is not None


def authenticate(backend_url: str) -> str:
    """The API key for `backend_url`.

    The environment's key, the stored one, the embedded stack's own, or one asked for on the terminal,
    checked and stored. `RuntimeError` when there is none: it says so, its notes say why.
    """
    url = settings.checked_url(backend_url)
    key = known_key(url)
    if key is not None:
        return key
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise _failed(f"there is no key for {url} and no terminal to ask on: set {settings.KEY_VARIABLE}")
    key = _ask(url)
    _check(url, key)
    _store(url, key)
    return key


def known_key(url: str) -> str | None:
    """The key for `url` that is known without asking anybody."""
    key = settings.api_key() or _read().get("keys", {}).get(url)
    if isinstance(key, str) and key:
        return key
    local = settings.local_backend()
    return local.key if local is not None and settings.same_backend(local.url, url) else None


def stored_backend() -> str | None:
    """The backend that was authenticated to last."""
    url = _read().get("backend")
    return url if isinstance(url, str) and url else None


def clear_credentials() -> None:
    """Forget every stored key and backend. The environment's key and the embedded stack's stay."""
    try:
        os.unlink(_path())
    except FileNotFoundError:
        return


def _ask(url: str) -> str:
    from getpass import getpass

    try:
        key = getpass(f"API key for {url}: ", stream=sys.stderr).strip()
    except EOFError:
        key = ""
    if not key:
        raise RuntimeError(FAILED)
    return key


def _check(url: str, key: str) -> None:
    from chisel.api import Api

    try:
        with Api(url=url, key=key) as api:
            api.get_bytes("/api/v1/jobs?limit=1")
    except Unauthenticated as error:
        raise _failed(f"{url} does not accept this key") from error
    except ChiselError as error:
        raise _failed(str(error)) from error


def _failed(why: str) -> RuntimeError:
    error = RuntimeError(FAILED)
    error.add_note(why)
    return error


def _path() -> str:
    return os.path.join(settings.home(), "credentials.json")


def _read() -> dict[str, Any]:
    """What is stored; nothing when there is no file or it is not ours."""
    try:
        # O_NOFOLLOW: whoever could put a link here must not choose which file is read.
        descriptor = os.open(_path(), os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InsecureCredentials(f"{_path()} cannot be read ({error.strerror}): remove it") from error
    with os.fdopen(descriptor, "rb") as file:
        _close_to_others(file.fileno(), _path(), _FILE_MODE)
        content = file.read()
    import json

    try:
        stored = json.loads(content)
    except ValueError:
        stored = None
    if not isinstance(stored, dict) or not isinstance(stored.get("keys", {}), dict):
        raise BadRequest(f"{_path()} is damaged: run `chisel --logout`, then authenticate again")
    return stored


def _store(url: str, key: str) -> None:
    """Remember `key`; other programs see the old file or the new one, never half of one."""
    import json

    folder = settings.home()
    os.makedirs(folder, mode=_FOLDER_MODE, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)) if os.name == "posix" else -1
    if descriptor >= 0:
        try:
            _close_to_others(descriptor, folder, _FOLDER_MODE)
        finally:
            os.close(descriptor)
    stored = _read()
    keys = {**stored.get("keys", {}), url: key}
    content = json.dumps({"backend": url, "keys": keys}, indent=2).encode() + b"\n"
    aside = f"{_path()}.{os.getpid()}"
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, _path())
    except BaseException:
        os.unlink(aside)
        raise


def _close_to_others(descriptor: int, path: str, mode: int) -> None:
    """Take other users' rights away; `InsecureCredentials` when the owner is somebody else."""
    if os.name != "posix":
        return
    found = os.fstat(descriptor)
    if found.st_uid != os.geteuid():
        raise InsecureCredentials(f"{path} belongs to another user: remove it")
    if stat.S_IMODE(found.st_mode) & 0o077:
        os.fchmod(descriptor, mode)
