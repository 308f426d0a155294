"""A backend's address, and the socket to it."""

import socket
from typing import NamedTuple

from chisel_shared.contract.errors import BadRequest, ServiceError

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is; ssl is loaded for https alone
if TYPE_CHECKING:
    import ssl

CONNECT_SECONDS = 10.0


class Unreachable(ServiceError):
    """Nothing answers at the backend's address."""


class Address(NamedTuple):
    secure: bool
    host: str
    port: int
    path: str
    """What comes before `/api`: empty, or a path that begins with a slash."""

    @property
    def authority(self) -> str:
        """Host and port as a `Host` header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.authority}{self.path}"


def parse(url: str) -> Address:
    """The parts of an http or https address; `BadRequest` when `url` is none."""
    scheme, separator, rest = url.strip().partition("://")
    scheme = scheme.lower()
    authority, slash, path = rest.partition("/")
    host, colon, port = authority.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = authority, ""
    host = host.removeprefix("[").removesuffix("]").lower()
    fits = separator and scheme in ("http", "https") and host and (port.isdecimal() or not port)
    if not fits or any(c in url.strip() for c in "?#@ \t\r\n") or not 0 <= int(port or 1) <= 65535:
        raise BadRequest(
            f"{url!r} is not a backend's address: write it like https://chisel.example.com or"
            " http://127.0.0.1:8000"
        )
    secure = scheme == "https"
    return Address(secure, host, int(port or (443 if secure else 80)), (slash + path).rstrip("/"))


def dial(address: Address, *, seconds: float = CONNECT_SECONDS) -> socket.socket:
    """A connected socket whose operations end after `seconds`; `Unreachable` says what is wrong."""
    try:
        connected = socket.create_connection((address.host, address.port), timeout=seconds)
    except OSError as error:
        raise Unreachable(_sentence(address, error)) from error
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not address.secure:
        return connected
    try:
        return _tls_context().wrap_socket(connected, server_hostname=address.host)
    except OSError as error:  # ssl.SSLError is one
        connected.close()
        raise Unreachable(f"no secure connection to {address}: {error}") from error


def _tls_context() -> "ssl.SSLContext":
    import ssl

    return ssl.create_default_context()


def _sentence(address: Address, error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"the name {address.host} of the backend {address} is not known: check CHISEL_BACKEND_URL"
    if isinstance(error, ConnectionRefusedError):
        why = "the connection was refused"
    elif isinstance(error, TimeoutError):
        why = f"no answer within {CONNECT_SECONDS:.0f} s"
    else:
        why = error.strerror or str(error)
    local = address.host in ("127.0.0.1", "localhost", "::1")
    cure = "start it with `chisel up`" if local else "ask whoever runs it"
    return f"the backend at {address} does not answer ({why}): check CHISEL_BACKEND_URL or {cure}"


def lost(error: OSError) -> str:
    """Why a connection ended, in a few words."""
    if isinstance(error, TimeoutError):
        return "the backend does not answer any more"
    return (error.strerror or str(error) or type(error).__name__).lower()
