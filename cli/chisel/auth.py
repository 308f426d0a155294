"""Authentication: which API key goes with which backend, and how one is got.

A key is looked for in this order: `CHISEL_API_KEY`, which is never stored; the one that was stored when
logging in (`credentials.py`); the embedded stack's own. Only when there is none is somebody asked to
log in with a browser (`login.py`), and only on a terminal.
"""

import sys
from typing import NamedTuple

from chisel import credentials, settings
from chisel.credentials import InsecureCredentials as InsecureCredentials
from chisel_shared.contract.errors import ChiselError, Unauthenticated

FAILED = "❌ Authentication failed. Unable to get valid API key."


class Found(NamedTuple):
    """A key, and where it came from in a few words."""

    key: str
    source: str


def is_authenticated() -> bool:
    """Whether there is an API key to use: in the environment, stored, or of the embedded stack.

    Asks no server: a key may have been revoked meanwhile.
    """
    return bool(settings.api_key() or credentials.read().keys) or settings.local_backend() is not None


def authenticate(backend_url: str) -> str:
    """The API key for `backend_url`.

    The environment's key, the stored one, the embedded stack's own, or one that somebody gets by logging
    in with a browser, which is stored. `RuntimeError` when there is none: it says so, its notes say why.
    Without a terminal nobody is asked and nothing is waited for.
    """
    url = settings.checked_url(backend_url)
    found = find_key(url)
    if found is not None:
        return found.key
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise failed(
            f"there is no key for {url} and no terminal to ask on: run `chisel login {url}` on one,"
            f" or set {settings.KEY_VARIABLE}"
        )
    from chisel.login import log_in

    try:
        credentials.prepare()
        key = log_in(url, browser=True).key
        credentials.store(url, key)
    except ChiselError as error:
        raise failed(str(error)) from error
    return key


def find_key(url: str) -> Found | None:
    """The key for `url` that is known without asking anybody."""
    if key := settings.api_key():
        return Found(key, settings.KEY_VARIABLE)
    if key := credentials.read().keys.get(url):
        return Found(key, credentials.path())
    local = settings.local_backend()
    if local is not None and local.key and settings.same_backend(local.url, url):
        return Found(local.key, "the local stack")
    return None


def stored_backend() -> str | None:
    """The backend that was logged in to last."""
    return credentials.read().backend


def clear_credentials() -> None:
    """Forget every stored key and backend. The environment's key and the embedded stack's stay, and so
    do the keys at their backends: `chisel logout` revokes them there too."""
    credentials.clear()


def revoke(url: str, key: str) -> None:
    """Have the backend forget `key`; one that it does not know is revoked already."""
    from chisel.api import Api

    try:
        with Api(url=url, key=key) as api:
            api.post_bytes("/api/v1/logout")
    except Unauthenticated:
        return


def failed(why: str) -> RuntimeError:
    """What the reference promises, with the reason as a note."""
    error = RuntimeError(FAILED)
    error.add_note(why)
    return error
