"""`chisel login`, `chisel logout` and `chisel whoami`."""

import sys
from typing import TYPE_CHECKING

from chisel import auth, credentials, settings
from chisel.cli.render import Screen
from chisel_shared.contract.errors import ChiselError, InternalError, Unauthenticated

if TYPE_CHECKING:
    from chisel_shared.contract.messages import Identity


def login(url: str | None, with_key: bool, no_browser: bool, json: bool) -> int:
    screen = Screen()
    backend = settings.Backend(settings.checked_url(url)) if url else settings.backend(screen.say)
    if backend.key is not None and not with_key:
        screen.say(
            f"the local stack at {backend.url} needs no login, its own key is used;"
            f" to log in there as somebody else: chisel login {backend.url}"
        )
        return _tell(screen, backend.url, auth.Found(backend.key, "the local stack"), json=json)
    credentials.prepare()
    before = credentials.read().keys.get(backend.url)
    try:
        key = _typed_key(backend.url) if with_key else _by_browser(backend.url, no_browser=no_browser)
        _identity(backend.url, key)
    except ChiselError as error:
        raise auth.failed(str(error)) from error
    credentials.store(backend.url, key)
    if before is not None and before != key and not with_key:
        _revoke(backend.url, before)  # the key of the last login here, which nobody has any more
    if settings.api_key():
        screen.say(f"{settings.KEY_VARIABLE} is set and comes before the key that is now stored")
    return _tell(screen, backend.url, auth.Found(key, credentials.path()), json=json)


def logout(url: str | None, all: bool, json: bool) -> int:
    screen = Screen()
    stored = credentials.read()
    if all:
        gone = tuple(stored.keys)
    else:
        named = settings.checked_url(url) if url else settings.named_backend() or stored.backend
        gone = (named,) if named in stored.keys else ()
        if named is not None and not gone:
            screen.say(f"there is no stored key for {named}")
    for one in gone:
        why = _revoke(one, stored.keys[one])
        credentials.forget(one)
        screen.say(f"logged out of {one}" if why is None else _kept(one, why))
    if not gone and not stored.keys:
        screen.say("no API key is stored")
    if settings.api_key():
        screen.say(f"{settings.KEY_VARIABLE} is set and goes on being used: unset it")
    if json:
        screen.json(gone)
    return 0


def forget_all() -> int:
    """`chisel --logout`: works whatever state the file is in."""
    screen = Screen()
    try:
        stored = credentials.read().keys
    except ChiselError:
        stored = {}
    for url, key in stored.items():
        why = _revoke(url, key)
        if why is not None:
            screen.say(_kept(url, why))
    auth.clear_credentials()
    screen.say("stored API keys are forgotten")
    return 0


def whoami(json: bool) -> int:
    screen = Screen()
    backend = settings.backend(screen.say)
    found = auth.find_key(backend.url)
    if found is None:
        raise Unauthenticated(f"you are not logged in to {backend.url}: chisel login")
    return _tell(screen, backend.url, found, json=json)


def _by_browser(url: str, *, no_browser: bool) -> str:
    from chisel.login import log_in

    return log_in(url, browser=not no_browser).key


def _typed_key(url: str) -> str:
    if sys.stdin.isatty():
        from getpass import getpass

        try:
            key = getpass(f"API key for {url}: ", stream=sys.stderr)
        except EOFError:
            key = ""
    else:
        key = sys.stdin.readline()
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable():
        raise Unauthenticated("that is no API key")
    return key


def _identity(url: str, key: str) -> "Identity":
    import msgspec

    from chisel.api import Api
    from chisel_shared.contract.messages import Identity

    with Api(url=url, key=key) as api:
        answer = api.get_bytes("/api/v1/whoami")
    try:
        return msgspec.json.decode(answer, type=Identity)
    except msgspec.MsgspecError as error:
        raise InternalError(f"the backend's answer is not Chisel's ({error}): is the URL right?") from error


def _revoke(url: str, key: str) -> str | None:
    """Why the backend did not take its key back; None when it did."""
    try:
        auth.revoke(url, key)
    except ChiselError as error:
        return str(error)
    return None


def _kept(url: str, why: str) -> str:
    return f"the key for {url} is forgotten here but may still be valid there: {why}"


def _tell(screen: Screen, url: str, found: auth.Found, *, json: bool) -> int:
    who = _identity(url, found.key)
    if json:
        from json import dumps

        facts = {
            "user": who.user,
            "project": who.project,
            "backend": url,
            "is_admin": who.is_admin,
            "key_source": found.source,
            "key_id": who.key.id,
            "key_name": who.key.name,
            "key_expires_at": who.key.expires_at,
        }
        screen.result(dumps(facts, indent=2))
        return 0
    from time import localtime, strftime

    until = ""
    if who.key.expires_at is not None:
        until = f", valid until {strftime('%Y-%m-%d', localtime(who.key.expires_at))}"
    role = " (admin)" if who.is_admin else ""
    screen.result(
        f"user     {who.user}{role}\nproject  {who.project}\nbackend  {url}\n"
        f"key      {who.key.name}, from {found.source}{until}"
    )
    return 0
