"""`chisel doctor`: whether a job could be submitted from here, one check after the other."""

import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from chisel import __version__, auth, credentials, settings
from chisel.address import Address, Unreachable, is_loopback, parse, proxy_variable, reached, secured
from chisel.cli.arguments import Run
from chisel.cli.choices import choose
from chisel.cli.render import Screen
from chisel.client import Client
from chisel_shared.contract.errors import ChiselError, UserError

if TYPE_CHECKING:
    import http.client

_SKEW_SECONDS = 120.0
"""From here on times of logs and `--since` mislead."""


class Check(NamedTuple):
    """`said` is what was found, or what is wrong and what to do next."""

    name: str
    ok: bool
    said: str


class Fault(UserError):
    """Something is not as it must be."""


def doctor(json: bool) -> int:
    screen = Screen()
    checks: list[Check] = []
    patient = _Patient()
    for name, check in patient.checks():
        try:
            done = Check(name, True, check())
        except (ChiselError, RuntimeError, OSError) as error:
            said = "\n".join([str(error), *getattr(error, "__notes__", ())])
            done = Check(name, False, said)
        checks.append(done)
        if not json:
            screen.result(f"{'ok  ' if done.ok else 'fail'}  {done.name:<11} {done.said}")
        if not done.ok:
            break  # what follows stands on it
    if json:
        screen.json([check._asdict() for check in checks])
    return 0 if checks[-1].ok else 1


class _Patient:
    """The checks, each of which may use what those before it found."""

    def __init__(self) -> None:
        self._url = ""
        self._key = ""
        self._socket: socket.socket | None = None

    def checks(self) -> list[tuple[str, Callable[[], str]]]:
        return [
            ("config", self._config),
            ("credentials", self._credentials),
            ("name", self._name),
            ("connection", self._connection),
            ("tls", self._tls),
            ("gateway", self._gateway),
            ("key", self._accepted),
            ("agents", self._agents),
            ("upload", self._upload),
        ]

    @property
    def _address(self) -> Address:
        return parse(self._url)

    def _config(self) -> str:
        choose(Run(""))
        stored = settings.named_backend() or auth.stored_backend()
        local = settings.local_backend() if stored is None else None
        self._url = stored or (local.url if local is not None else "")
        if not self._url:
            raise Fault(
                "no backend is named and none runs here: run `chisel login URL`, set CHISEL_BACKEND_URL,"
                " or start one with `chisel up`"
            )
        return f"the backend is {self._url}"

    def _credentials(self) -> str:
        credentials.read()
        found = auth.find_key(self._url)
        if found is None:
            raise Fault(f"there is no key for {self._url}: run `chisel login {self._url}`")
        self._key = found.key
        return f"a key from {found.source}"

    def _name(self) -> str:
        if (variable := proxy_variable(self._address)) is not None:
            return f"left to the proxy of {variable}"
        try:
            found = socket.getaddrinfo(self._address.host, self._address.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise Fault(
                f"the name {self._address.host} is not known ({error.strerror}): check CHISEL_BACKEND_URL"
            ) from error
        return ", ".join(dict.fromkeys(str(one[4][0]) for one in found))

    def _connection(self) -> str:
        self._socket = reached(self._address)
        variable = proxy_variable(self._address)
        where = "this machine" if is_loopback(self._address.host) else self._address.authority
        return f"to {where}" + (f" through the proxy of {variable}" if variable else "")

    def _tls(self) -> str:
        assert self._socket is not None
        self._socket = secured(self._socket, self._address)
        if self._address.secure:
            return "the certificate is trusted"
        if is_loopback(self._address.host):
            return "not used, and not needed on one machine"
        return "NOT USED: keys and files travel readable to the network; ask for an https address"

    def _gateway(self) -> str:
        import http.client
        import json
        import time
        from email.utils import parsedate_to_datetime

        connection = http.client.HTTPConnection(self._address.host, self._address.port)
        connection.sock = self._socket
        try:
            answer = self._get(connection, "/health")
            date = answer.headers.get("Date")
            skew = parsedate_to_datetime(date).timestamp() - time.time() if date else 0.0
            described = json.loads(self._get(connection, "/api/v1/openapi.json").read())
            version = str(described["info"]["version"])
        except (OSError, ValueError, LookupError, TypeError, http.client.HTTPException) as error:
            raise Fault(f"{self._url} is no Chisel gateway ({error}): check CHISEL_BACKEND_URL") from error
        finally:
            connection.close()
        if abs(skew) > _SKEW_SECONDS:
            raise Fault(f"this clock and the gateway's are {abs(skew):.0f} s apart: set this machine's clock")
        if version.split(".")[:2] != __version__.split(".")[:2]:
            raise Fault(f"it has version {version}, this is {__version__}: install the same version here")
        return f"version {version}, clocks {abs(skew):.0f} s apart"

    def _get(self, connection: "http.client.HTTPConnection", path: str) -> "http.client.HTTPResponse":
        connection.request("GET", self._address.path + path, headers={"Host": self._address.authority})
        answer = connection.getresponse()
        if answer.status != 200:
            raise Unreachable(f"HTTP {answer.status} from {path}")
        if path == "/health":
            answer.read()
        return answer

    def _client(self) -> Client:
        return Client(url=self._url, api_key=self._key)

    def _accepted(self) -> str:
        with self._client() as client:
            client.views(limit=1)
        return "accepted"

    def _agents(self) -> str:
        with self._client() as client:
            kinds = client.gpus()
        if not any(kind.total for kind in kinds):
            raise Fault("no machine with GPUs is there: jobs would wait; ask whoever runs the backend")
        return ", ".join(f"{kind.free} of {kind.total} {kind.model} free" for kind in kinds)

    def _upload(self) -> str:
        from tempfile import TemporaryDirectory

        from chisel.api import Api
        from chisel.bundle import pack
        from chisel.sending import send

        with TemporaryDirectory(prefix="chisel-") as folder:
            tried, cache = os.path.join(folder, "tried"), os.path.join(folder, "cache")
            os.mkdir(tried)
            with open(os.path.join(tried, "doctor"), "wb") as file:
                file.write(os.urandom(1024))
            with pack(tried, cache_folder=cache) as bundle, Api(url=self._url, key=self._key) as api:
                sent = [total for _, total in send(bundle, api)]
        return f"{sent[-1] if sent else 0} bytes sent"
