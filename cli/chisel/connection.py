"""One WebSocket to the gateway over a blocking socket: dial, authenticate, send, receive, stay alive.

It reports every way of losing the connection as `ConnectionLost` and never reconnects by itself.
"""

import select
import socket
import time
from collections.abc import Iterator
from typing import NamedTuple

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

from chisel.address import Address, dial, lost
from chisel_shared.contract.errors import ServiceError

READ_BYTES = 1 << 18
"""What one read takes at most: beyond it wsproto's buffer costs more than the calls saved."""

QUIET_SECONDS = 15.0
"""A gateway that has said nothing for so long is asked whether it is there."""

DEAD_SECONDS = 30.0
"""One that has said nothing for so long is gone: networks that vanish do not say so."""

OPEN_SECONDS = 15.0


class ConnectionLost(ServiceError):
    """The connection to the backend was lost."""


class Rejected(ServiceError):
    """The backend answered, but not as a WebSocket: `status` and `body` are its HTTP answer."""

    def __init__(self, *, status: int, body: bytes) -> None:
        super().__init__(f"the backend answered HTTP {status}")
        self.status = status
        self.body = body


class Text(NamedTuple):
    """A whole text message."""

    data: str


class Binary(NamedTuple):
    """A part of a binary message, in order; `first` begins a message, `last` ends it. Parts are never
    joined here."""

    data: bytes | bytearray
    first: bool
    last: bool


class Connection:
    """Made connected, with the request to open already sent: `open` waits for the answer.

    What can be done in between costs the user no time.
    """

    def __init__(self, *, address: Address, key: str, path: str, protocol: str) -> None:
        self._protocol = protocol
        self._socket = dial(address)
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._events: Iterator[Event] = iter(())
        self._text: list[str] = []
        self._within = False
        self._heard = time.monotonic()
        self._asked = False
        request = Request(
            host=address.authority,
            target=address.path + path,
            subprotocols=[protocol],
            extra_headers=[(b"Authorization", f"Bearer {key}".encode())],
        )
        self._send(request)

    def open(self, wake: socket.socket | None = None) -> None:
        """Wait until the gateway agrees to talk. `Rejected` when it answers anything else."""
        deadline = time.monotonic() + OPEN_SECONDS
        status, body = 0, b""
        while True:
            event = self._next_event(max(0.0, deadline - time.monotonic()), wake)
            match event:
                case AcceptConnection(subprotocol=agreed):
                    if agreed != self._protocol:
                        raise Rejected(status=101, body=b"")
                    return
                case RejectConnection(status_code=status, has_body=has_body):
                    if not has_body:
                        raise Rejected(status=status, body=b"")
                case RejectData(data=data, body_finished=finished):
                    body += data
                    if finished:
                        raise Rejected(status=status, body=body)
                case None if status:
                    raise Rejected(status=status, body=body)
                case None if time.monotonic() < deadline:
                    raise ConnectionLost("interrupted while connecting")
                case None:
                    raise ConnectionLost("the backend does not answer")

    def send(self, payload: bytes) -> None:
        """Send a text message."""
        self._send(TextMessage(data=payload.decode()))

    def receive(self, seconds: float, wake: socket.socket | None = None) -> Text | Binary | None:
        """The next message; None after `seconds`, or as soon as `wake` is readable."""
        deadline = time.monotonic() + seconds
        while True:
            event = self._next_event(deadline - time.monotonic(), wake)
            match event:
                case BytesMessage(data=data, message_finished=finished):
                    first, self._within = not self._within, not finished
                    return Binary(data, first, finished)
                case TextMessage(data=text, message_finished=finished):
                    self._text.append(text)
                    if finished:
                        whole, self._text = "".join(self._text), []
                        return Text(whole)
                case Ping():
                    self._send(event.response())
                case CloseConnection(reason=reason):
                    raise ConnectionLost(reason or "the backend closed the connection")
                case None:
                    return None

    def close(self) -> None:
        """Say goodbye without waiting for an answer."""
        try:
            self._socket.settimeout(1.0)
            self._socket.sendall(self._ws.send(CloseConnection(code=1000)))
        except (OSError, ProtocolError):
            pass  # it is gone, or was never open: nobody to say goodbye to
        self._socket.close()

    def _next_event(self, seconds: float, wake: socket.socket | None) -> Event | None:
        """The next event of the protocol; None when there is none in time, or `wake` is readable."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                event = next(self._events, None)
            except ProtocolError as error:
                raise ConnectionLost(f"the backend does not speak our protocol: {error}") from error
            if event is not None:
                return event
            if not self._readable(deadline, wake):
                return None
            self._read()

    def _readable(self, deadline: float, wake: socket.socket | None) -> bool:
        """Wait for bytes, and see to it that somebody is there to send them."""
        pending = getattr(self._socket, "pending", None)
        if pending is not None and pending():  # decrypted already, so select does not see it
            return True
        while True:
            now = time.monotonic()
            alive_until = self._heard + (DEAD_SECONDS if self._asked else QUIET_SECONDS)
            seconds = max(0.0, min(deadline, alive_until) - now)
            ready = wait([self._socket, wake] if wake else [self._socket], seconds)
            if self._socket in ready:
                return True
            if ready or time.monotonic() >= deadline:
                return False
            if self._asked:
                raise ConnectionLost("the backend does not answer any more")
            self._asked = True
            if self._ws.connection is not None:
                self._send(Ping())

    def _read(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
        except OSError as error:
            raise ConnectionLost(lost(error)) from error
        self._heard, self._asked = time.monotonic(), False
        try:
            if not data:
                raise ConnectionLost("the backend closed the connection")
            self._ws.receive_data(data)
        except ProtocolError as error:
            raise ConnectionLost(f"the backend does not speak our protocol: {error}") from error
        self._events = self._ws.events()

    def _send(self, event: Event) -> None:
        try:
            self._socket.sendall(self._ws.send(event))
        except ProtocolError as error:
            raise ConnectionLost("the connection is closing") from error
        except OSError as error:
            raise ConnectionLost(lost(error)) from error


def wait(sockets: list[socket.socket], seconds: float) -> list[socket.socket]:
    """Those of `sockets` that have something to read, after at most `seconds`."""
    if not hasattr(select, "poll"):
        return select.select(sockets, [], [], seconds)[0]
    # Unlike select, poll takes descriptors of any number: a program that uses the client may have many.
    poll = select.poll()
    for one in sockets:
        poll.register(one, select.POLLIN)
    ready = {descriptor for descriptor, _ in poll.poll(seconds * 1000)}
    return [one for one in sockets if one.fileno() in ready]
