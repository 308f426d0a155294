"""A backend's address, and the socket to it."""

import os
import socket
from typing import NamedTuple

from chisel_shared.contract.errors import BadRequest, ServiceError

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is; ssl is loaded for https alone
if TYPE_CHECKING:
    import ssl

CA_VARIABLE = "CHISEL_CA_FILE"
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
    """A connected socket whose operations end after `seconds`; `Unreachable` says what is wrong.

    The environment names proxies and certificates: see `proxy_variable` and `_tls_context`.
    """
    return secured(reached(address, seconds=seconds), address)


def reached(address: Address, *, seconds: float = CONNECT_SECONDS) -> socket.socket:
    """A socket that ends at the backend, through a proxy where one is wanted; nothing is encrypted yet."""
    variable = proxy_variable(address)
    if variable is not None:
        from chisel.proxy import parse as parse_proxy
        from chisel.proxy import tunnel

        return tunnel(parse_proxy(variable, os.environ[variable]), address, seconds=seconds)
    try:
        return connect(address.host, address.port, seconds=seconds)
    except OSError as error:
        raise Unreachable(_sentence(address, error)) from error


def connect(host: str, port: int, *, seconds: float) -> socket.socket:
    """A socket to whichever address of `host` answers first."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    if len(found) == 1:
        family, kind, protocol, _, there = found[0]
        connected = socket.socket(family, kind, protocol)
        try:
            connected.settimeout(seconds)
            connected.connect(there)
        except BaseException:
            connected.close()
            raise
    else:
        from chisel.race import first

        connected = first(found, seconds=seconds)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected


def secured(connected: socket.socket, address: Address) -> socket.socket:
    """`connected`, encrypted where the address wants it and the other side proves that it is the host."""
    if not address.secure:
        return connected
    try:
        return _tls_context().wrap_socket(connected, server_hostname=address.host)
    except OSError as error:  # ssl.SSLError is one
        connected.close()
        raise Unreachable(_tls_sentence(address, error)) from error
    except BaseException:
        connected.close()
        raise


def proxy_variable(address: Address) -> str | None:
    """The variable that names the proxy for `address`; None where it is to be reached directly.

    They are curl's: HTTPS_PROXY or HTTP_PROXY by the address's scheme, then ALL_PROXY, small letters first;
    NO_PROXY names what is reached directly. This machine itself is never looked for behind a proxy.
    """
    for name in ("HTTPS_PROXY" if address.secure else "HTTP_PROXY", "ALL_PROXY"):
        for variable in (name.lower(), name):
            if os.environ.get(variable, "").strip() and not is_loopback(address.host):
                from chisel.proxy import is_excepted

                exceptions = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
                return None if is_excepted(address, exceptions) else variable
    return None


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine, which no proxy stands before."""
    return host in ("localhost", "::1") or host.startswith("127.") or host.endswith(".localhost")


def _tls_context() -> "ssl.SSLContext":
    """Trusts what the system trusts, or the file SSL_CERT_FILE names instead (OpenSSL reads that itself),
    and the certificates in CHISEL_CA_FILE too."""
    import ssl

    context = ssl.create_default_context()
    # From Python 3.13 on, form counts as well as trust, and the authorities that companies make for
    # themselves often lack what no earlier Python asked for: what is good on one is good on every one.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    file = os.environ.get(CA_VARIABLE, "").strip()
    if file:
        try:
            context.load_verify_locations(file)
        except OSError as error:  # ssl.SSLError is one
            why = "holds no certificates in PEM form" if isinstance(error, ssl.SSLError) else error.strerror
            raise BadRequest(f"{file}, which {CA_VARIABLE} names, cannot be used: {why}") from error
    return context


def _tls_sentence(address: Address, error: OSError) -> str:
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        cure = (
            "set CHISEL_CA_FILE to the file with the certificate of its authority"
            if error.verify_code in _NO_ISSUER
            else "check CHISEL_BACKEND_URL or ask whoever runs it"
        )
        return f"the certificate of {address} is not trusted ({error.verify_message.rstrip('.')}): {cure}"
    if isinstance(error, ssl.SSLError) and error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
        return f"{address} does not speak TLS: is it http:// instead of https://?"
    if isinstance(error, TimeoutError):
        return f"no secure connection to {address}: it took longer than {CONNECT_SECONDS:.0f} s"
    return f"no secure connection to {address}: {lost(error)}"


_NO_ISSUER = (18, 19, 20, 21)
"""OpenSSL's numbers for chains that end in a certificate nobody here knows."""


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
