"""The file that remembers API keys: `~/.chisel/credentials.json`, mode 0600 in a folder of mode 0700.

It holds one key a backend, and the backend to use when none is named. No link is followed on the way to
it, others' rights to read it are taken back, and what others could have written is refused.
"""

import os
import stat
from typing import Any, NamedTuple

from chisel import settings
from chisel_shared.contract.errors import BadRequest

NAME = "credentials.json"
_FOLDER_MODE = 0o700
_FILE_MODE = 0o600
_MOST_BYTES = 1 << 20
_POSIX = all(hasattr(os, name) for name in ("O_DIRECTORY", "O_NOFOLLOW", "fchmod", "geteuid"))
"""Whether the system has owners and modes; Windows keeps a user's folder to the user by itself."""


class InsecureCredentials(BadRequest):
    """The credentials file is not safe to use."""


class Stored(NamedTuple):
    """Keys by backend; `backend` is the one that was logged in to last."""

    keys: dict[str, str]
    backend: str | None = None


def path() -> str:
    return os.path.join(settings.home(), NAME)


def read() -> Stored:
    """What is stored. `InsecureCredentials` when it may not be ours, `BadRequest` when it is damaged."""
    folder = _open_folder()
    if folder is None:
        return Stored({})
    try:
        # O_NONBLOCK: a pipe in the file's place must not hold us up.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        descriptor = os.open(_at(folder, NAME), flags, dir_fd=_dir(folder))
    except FileNotFoundError:
        return Stored({})
    except OSError as error:
        raise InsecureCredentials(f"{path()} cannot be read ({error.strerror}): remove it") from error
    finally:
        _close(folder)
    with os.fdopen(descriptor, "rb") as file:
        _check_file(file.fileno())
        content = file.read(_MOST_BYTES)
    return _decoded(content)


def prepare() -> None:
    """Make sure that a key can be stored, before somebody goes and gets one."""
    folder = _open_folder(make=True)
    if folder is not None:
        _close(folder)
    if os.path.lexists(path()):
        read()


def store(url: str, key: str) -> None:
    """Remember `key`, and `url` as the backend to use."""
    _write(Stored({**read().keys, url: key}, url))


def forget(url: str) -> None:
    """Forget the key for `url`, and the backend if it is the one to use."""
    stored = read()
    keys = {one: key for one, key in stored.keys.items() if one != url}
    backend = stored.backend if stored.backend != url else next(reversed(keys), None)
    if keys:
        _write(Stored(keys, backend))
    else:
        clear()


def clear() -> None:
    """Forget everything, whatever state the file is in."""
    folder = _open_folder()
    if folder is None:
        return
    try:
        os.unlink(_at(folder, NAME), dir_fd=_dir(folder))
    except FileNotFoundError:
        return
    finally:
        _close(folder)


def _write(stored: Stored) -> None:
    """Other programs see the old file or the new one, never half of one."""
    import json

    content = json.dumps({"backend": stored.backend, "keys": stored.keys}, indent=2).encode() + b"\n"
    folder = _open_folder(make=True)
    if folder is None:
        raise InsecureCredentials(f"{settings.home()} vanished while a key was being stored")
    aside = f"{NAME}.{os.urandom(6).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(_at(folder, aside), flags, _FILE_MODE, dir_fd=_dir(folder))
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            names = (_at(folder, aside), _at(folder, NAME))
            os.replace(*names, src_dir_fd=_dir(folder), dst_dir_fd=_dir(folder))
        except BaseException:
            os.unlink(_at(folder, aside), dir_fd=_dir(folder))
            raise
    except OSError as error:
        raise BadRequest(f"{path()} cannot be written ({error.strerror})") from error
    finally:
        _close(folder)


# A folder is a descriptor where the system has those, so that nobody exchanges it behind our back.
_Folder = int | str


def _open_folder(*, make: bool = False) -> _Folder | None:
    """The folder, closed to others; None when there is none."""
    home = settings.home()
    try:
        if make:
            os.makedirs(home, mode=_FOLDER_MODE, exist_ok=True)
        if not _POSIX:
            return home if os.path.isdir(home) else None
        descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        what = "is a link" if os.path.islink(home) else f"cannot be opened ({error.strerror})"
        raise InsecureCredentials(f"{home} {what}: make it a folder of your own") from error
    try:
        found = os.fstat(descriptor)
        _check_owner(found, home)
        if stat.S_IMODE(found.st_mode) & 0o077:
            os.fchmod(descriptor, _FOLDER_MODE)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_file(descriptor: int) -> None:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise InsecureCredentials(f"{path()} is not a file: remove it")
    if not _POSIX:
        return
    _check_owner(found, path())
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o022:
        raise InsecureCredentials(
            f"{path()} can be written by other users, who may have changed it: remove it, then `chisel login`"
        )
    if mode & 0o077:
        os.fchmod(descriptor, _FILE_MODE)


def _check_owner(found: os.stat_result, where: str) -> None:
    if found.st_uid != os.geteuid():
        raise InsecureCredentials(f"{where} belongs to another user: remove it")


def _decoded(content: bytes) -> Stored:
    import json

    try:
        stored: Any = json.loads(content)
        keys, backend = stored.get("keys", {}), stored.get("backend")
        if all(isinstance(one, str) for one in (*keys, *keys.values(), backend or "")):
            return Stored(dict(keys), backend or None)
    except (ValueError, AttributeError, TypeError):
        pass  # whatever it is, it is not what we wrote
    raise BadRequest(f"{path()} is damaged: run `chisel --logout`, then `chisel login`")


def _at(folder: _Folder, name: str) -> str:
    return os.path.join(folder, name) if isinstance(folder, str) else name


def _dir(folder: _Folder) -> int | None:
    return None if isinstance(folder, str) else folder


def _close(folder: _Folder) -> None:
    if isinstance(folder, int):
        os.close(folder)
