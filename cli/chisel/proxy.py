"""Reaching a backend through a proxy: CONNECT, for https and http alike, so that WebSockets pass too."""

import socket
from typing import NamedTuple

from chisel.address import Address, Unreachable, connect, lost
from chisel_shared.contract.errors import BadRequest

_MOST_ANSWER_BYTES = 1 << 16


class Proxy(NamedTuple):
    """`credentials` is `user:password` as bytes, None where the proxy wants none. `variable` named it."""

    host: str
    port: int
    credentials: bytes | None
    variable: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port} (from {self.variable})"


def parse(variable: str, value: str) -> Proxy:
    """The proxy whose URL, which may lack the scheme, `variable` holds; `BadRequest` for one that we cannot
    speak to."""
    from urllib.parse import unquote_to_bytes, urlsplit

    text = value.strip() if "://" in value else f"http://{value.strip()}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
        parts = None
    # The value is not shown: it may hold a password.
    if parts is None or not host:
        raise BadRequest(f"{variable} is not a proxy's address: write it like http://proxy.example.com:3128")
    if parts.scheme != "http":
        raise BadRequest(
            f"{variable} names a {parts.scheme} proxy, and chisel speaks to http ones: set {variable} to one,"
            " or NO_PROXY to the backend's host"
        )
    credentials = None
    if parts.username is not None:
        user, password = (unquote_to_bytes(part or "") for part in (parts.username, parts.password))
        credentials = user + b":" + password
    return Proxy(host, port or 80, credentials, variable)


def is_excepted(address: Address, exceptions: str) -> bool:
    """Whether NO_PROXY's list names the host: `*`, a name with all below it, an address or a network, each
    perhaps with a port."""
    for one in exceptions.lower().replace(" ", ",").split(","):
        name, port = _split_port(one)
        if port and port != str(address.port):
            continue
        name = name.removeprefix("*").strip("[]")
        if one == "*":
            return True
        bare = name.strip(".")
        if bare and (address.host == bare or address.host.endswith(f".{bare}")):
            return True
        if "/" in name and _in_network(address.host, name):
            return True
    return False


def _split_port(one: str) -> tuple[str, str]:
    if one.startswith("[") or one.count(":") == 1:
        name, _, port = one.rpartition(":")
        if port.isdecimal():
            return name, port
    return one, ""


def _in_network(host: str, network: str) -> bool:
    from ipaddress import ip_address, ip_network

    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:
        return False


def tunnel(proxy: Proxy, address: Address, *, seconds: float) -> socket.socket:
    """A socket through `proxy` that ends at `address`. `Unreachable` says which of the two failed."""
    try:
        connected = connect(proxy.host, proxy.port, seconds=seconds)
    except socket.gaierror as error:
        raise Unreachable(f"the name of the proxy {proxy} is not known: check {proxy.variable}") from error
    except OSError as error:
        raise Unreachable(
            f"the proxy {proxy} does not answer ({lost(error)}): check {proxy.variable}"
        ) from error
    try:
        connected.sendall(_request(proxy, address))
        status = _status(_head(connected))
    except OSError as error:
        connected.close()
        raise Unreachable(f"the proxy {proxy} broke the connection ({lost(error)})") from error
    if status is not None and 200 <= status < 300:
        return connected
    connected.close()
    raise Unreachable(_refusal(proxy, address, status))


def _request(proxy: Proxy, address: Address) -> bytes:
    host = f"[{address.host}]" if ":" in address.host else address.host
    target = f"{host.encode('idna').decode() if not host.isascii() else host}:{address.port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.credentials is not None:
        from base64 import b64encode

        lines.append(f"Proxy-Authorization: Basic {b64encode(proxy.credentials).decode()}")
    return "\r\n".join([*lines, "", ""]).encode()


def _head(connected: socket.socket) -> bytes:
    """The proxy's answer and not one byte more: what follows is the backend's."""
    head = b""
    while not head.endswith(b"\r\n\r\n") and len(head) < _MOST_ANSWER_BYTES:
        byte = connected.recv(1)
        if not byte:
            break
        head += byte
    return head


def _status(head: bytes) -> int | None:
    words = head.split(b"\r\n")[0].split()
    if not head.endswith(b"\r\n\r\n") or len(words) < 2 or not words[0].startswith(b"HTTP/1."):
        return None
    return int(words[1]) if words[1].isdigit() else None


def _refusal(proxy: Proxy, address: Address, status: int | None) -> str:
    if status is None:
        return f"{proxy} answers, but not as an HTTP proxy: check {proxy.variable}"
    if status == 407:
        return (
            f"the proxy {proxy} wants another name and password: write them into {proxy.variable} as"
            " http://NAME:PASSWORD@HOST:PORT"
        )
    if status in (502, 503, 504):
        return f"the proxy {proxy} cannot reach {address} (HTTP {status}): check CHISEL_BACKEND_URL"
    return (
        f"the proxy {proxy} does not let us through to {address} (HTTP {status}): ask whoever runs it,"
        " or name the host in NO_PROXY if it can be reached directly"
    )
