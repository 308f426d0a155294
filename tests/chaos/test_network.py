"""A link does to its connections what it is told: to real sockets, with a real server behind it."""

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.chaos.network import Link, Mode, Network


@pytest.fixture
def link() -> Iterator[Link]:
    """A link to a server that sends back whatever it gets."""
    listening = socket.create_server(("127.0.0.1", 0))
    network = Network()
    threading.Thread(target=_echo, args=(listening,), daemon=True).start()
    try:
        yield network.link(listening.getsockname()[1])
    finally:
        network.close()
        listening.close()


def _echo(listening: socket.socket) -> None:
    while True:
        try:
            served, _ = listening.accept()
        except OSError:
            return
        threading.Thread(target=_answer, args=(served,), daemon=True).start()


def _answer(served: socket.socket) -> None:
    with served:
        while data := _received(served):
            served.sendall(data)


def _received(source: socket.socket) -> bytes:
    try:
        return source.recv(100)
    except OSError:
        return b""


def _connected(link: Link) -> socket.socket:
    return socket.create_connection(("127.0.0.1", link.port), timeout=10)


def test_a_good_link_passes_everything_on(link: Link) -> None:
    with _connected(link) as client:
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"


def test_a_cut_link_resets_what_there_is_and_refuses_what_comes(link: Link) -> None:
    with _connected(link) as client:
        client.sendall(b"hello")
        client.recv(100)
        link.cut()
        assert _received(client) == b""
    with _connected(link) as client:
        assert _received(client) == b""
    link.heal()
    with _connected(link) as client:
        client.sendall(b"again")
        assert client.recv(100) == b"again"


@pytest.mark.parametrize("mode", ["both", "up", "down"])
def test_what_is_sent_into_a_hole_comes_when_it_is_mended(link: Link, mode: Mode) -> None:
    with _connected(link) as client:
        client.sendall(b"before")
        client.recv(100)
        link.swallow(mode)
        client.sendall(b"into the hole")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(100)
        client.settimeout(10)
        link.heal()
        assert client.recv(100) == b"into the hole"


def test_a_slow_link_loses_nothing(link: Link) -> None:
    with _connected(link) as client:
        link.slow(0.01)
        client.sendall(b"late")
        assert client.recv(100) == b"late"
