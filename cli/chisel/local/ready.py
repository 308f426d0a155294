"""Asking the stack's gateway over HTTP, with nothing but a socket: it is asked on every command."""

import json
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MOST_BYTES = 4 << 20


def call(
    port: int, path: str, *, key: str = "", method: str = "GET", timeout: float = 2.0
) -> "tuple[int, bytes]":
    """One request to the gateway on loopback: (status, body). `OSError` when it does not answer.

    HTTP/1.0, so that the answer ends with the connection and is never chunked.
    """
    head = f"{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\n"
    if key:
        head += f"Authorization: Bearer {key}\r\n"
    answer = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as link:
        link.sendall(head.encode("ascii") + b"\r\n")
        while len(answer) < _MOST_BYTES and (part := link.recv(1 << 16)):
            answer += part
    first, _, rest = bytes(answer).partition(b"\r\n")
    words = first.split(b" ")
    if not first.startswith(b"HTTP/1.") or len(words) < 2 or not words[1].isdigit():
        raise ConnectionError(f"something that is not Chisel answers on port {port}")
    return int(words[1]), rest.partition(b"\r\n\r\n")[2]


def get_json(port: int, path: str, *, key: str = "", method: str = "GET", timeout: float = 2.0) -> "Any":
    """The JSON of a 2xx answer; None for any other, or when nothing answers."""
    try:
        status, body = call(port, path, key=key, method=method, timeout=timeout)
        return json.loads(body) if 200 <= status < 300 else None
    except (OSError, ValueError):
        return None


def healthy(port: int) -> bool:
    """Whether the gateway's process answers at all."""
    try:
        return call(port, "/health", timeout=1.0)[0] == 200
    except OSError:
        return False


def missing(port: int, key: "str | None") -> "str | None":
    """What a first job would still lack, or None when it can be submitted now."""
    if key is None:
        return "the local user's key"
    try:
        if call(port, "/ready")[0] != 200:
            return "the services behind the gateway"
    except OSError:
        return "the gateway"
    found = get_json(port, "/api/v1/agents", key=key)
    if not online_agents(found):
        return "the agent"
    return None


def online_agents(found: "Any") -> "list[dict[str, Any]]":
    """Those agents in an answer of /api/v1/agents that can take work."""
    agents = found.get("agents", []) if isinstance(found, dict) else []
    return [agent for agent in agents if agent.get("state") == "online"]
