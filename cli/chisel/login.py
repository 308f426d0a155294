"""Logging in with a browser, on this machine or any other: a code is shown here and allowed there.

The form is that of RFC 8628. Lines for the person go to stderr; a countdown only where it is a terminal.
"""

import sys
import time
from typing import NamedTuple

from chisel import __version__, settings
from chisel.address import Unreachable
from chisel.api import Api
from chisel_shared.contract.errors import InternalError, NotFound, Unauthenticated, Unavailable, UserError

_FASTEST_SECONDS, _SLOWEST_SECONDS = 1.0, 30.0
_SLOWER_SECONDS = 5.0
_LONGEST_SECONDS = 3600.0


class NoBrowserLogin(UserError):
    """This backend has no browser login: get a key from whoever runs it, then `chisel login --with-key`."""


class Granted(NamedTuple):
    """A key, and whose it is."""

    key: str
    user: str
    project: str


def log_in(url: str, *, browser: bool) -> Granted:
    """A key for the backend at `url`, once a person has allowed it. `browser`: try to open one.

    Raises what went wrong: refused, expired, not offered, unreachable.
    """
    begun = _begin(url)
    page, code = _text(begun, "verification_uri_complete"), _text(begun, "user_code")
    if not page.startswith(("https://", "http://")):
        raise _not_chisels()
    opened = browser and settings.has_browser()
    where = (
        "use the page that your browser opens" if opened else "open this page in a browser, on any machine,"
    )
    _say(f"to log in to {url}, {where} and check that it shows {code}:")
    _say(f"  {page}")
    if opened:
        _open(page)
    return _wait(url, begun)


def _begin(url: str) -> dict[str, object]:
    import json

    wish = json.dumps({"machine": _machine(), "client": f"chisel {__version__}"}).encode()
    try:
        with Api(url=url, key="") as api:
            answer = json.loads(api.post_bytes("/api/v1/login", wish))
    except (NotFound, Unauthenticated) as error:
        raise NoBrowserLogin(f"{url} has no browser login: `chisel login --with-key` takes a key") from error
    except ValueError as error:
        raise _not_chisels() from error
    if not isinstance(answer, dict):
        raise _not_chisels()
    return answer


def _wait(url: str, begun: dict[str, object]) -> Granted:
    """Poll until it is decided, at the pace that the backend wants."""
    import json

    body = json.dumps({"device_code": _text(begun, "device_code")}).encode()
    interval = min(_SLOWEST_SECONDS, max(_FASTEST_SECONDS, _number(begun, "interval")))
    deadline = time.monotonic() + min(_LONGEST_SECONDS, _number(begun, "expires_in"))
    countdown = _Countdown(deadline)
    try:
        with Api(url=url, key="") as api:
            while time.monotonic() < deadline:
                countdown.pause(interval)
                try:
                    answer = json.loads(api.post_bytes("/api/v1/login/token", body))
                    status = answer["status"]
                except (Unavailable, Unreachable):
                    continue  # it may be back before the code expires
                except (ValueError, LookupError, TypeError) as error:
                    raise _not_chisels() from error
                match status:
                    case "done":
                        words = (_text(answer, name) for name in ("api_key", "user", "project"))
                        return Granted(*words)
                    case "slow_down":
                        interval = min(_SLOWEST_SECONDS, interval + _SLOWER_SECONDS)
                    case "access_denied":
                        raise Unauthenticated("the login was refused on the page")
                    case "expired_token":
                        break
                    case _:
                        continue
    finally:
        countdown.clear()
    raise Unauthenticated("nobody allowed the login in time, or its code was used already: try again")


class _Countdown:
    """One line that says how long the code still holds, where somebody watches."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._shown = sys.stderr.isatty()

    def pause(self, seconds: float) -> None:
        end = min(time.monotonic() + seconds, self._deadline)
        while (now := time.monotonic()) < end:
            if self._shown:
                minutes, rest = divmod(max(0, round(self._deadline - now)), 60)
                _write(f"\r\x1b[Kchisel: waiting for you, {minutes}:{rest:02} left (Ctrl-C gives up)")
            time.sleep(min(1.0, end - now))

    def clear(self) -> None:
        if self._shown:
            _write("\r\x1b[K")


def _machine() -> str:
    """How this machine is called on the page, and in the list of keys."""
    import getpass
    import socket

    host = socket.gethostname()
    try:
        return f"{getpass.getuser()}@{host}"
    except (KeyError, OSError, ImportError):  # a user without a name
        return host


def _open(page: str) -> None:
    """Beside us: some browsers are waited for until they are closed."""
    import threading
    import webbrowser

    threading.Thread(target=webbrowser.open, args=(page,), daemon=True, name="browser").start()


def _text(answer: dict[str, object], name: str) -> str:
    """A word of the backend's, which is shown on a terminal and must not command it."""
    value = answer.get(name)
    if not isinstance(value, str) or not value.isprintable() or len(value) > 2000:
        raise _not_chisels()
    return value


def _number(answer: dict[str, object], name: str) -> float:
    value = answer.get(name)
    if not isinstance(value, int | float):
        raise _not_chisels()
    return float(value)


def _not_chisels() -> InternalError:
    return InternalError("the backend's answer is not Chisel's: is the URL right?")


def _say(line: str) -> None:
    _write(f"chisel: {line}\n")


def _write(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (OSError, ValueError):
        return  # nobody reads it; waiting goes on
