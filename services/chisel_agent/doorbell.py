"""The socket on which shims say that there is news: a datagram with the name of an attempt's folder."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

_DATAGRAM_BYTES = 256


class Doorbell:
    """Bound at `folder/doorbell`. A ring may get lost; whoever waits for one also looks now and then."""

    def __init__(self, folder: Path) -> None:
        (folder / "doorbell").unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        # By way of a descriptor: a socket's own path may have 107 bytes, ours has what the user chose.
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._socket.bind(f"/proc/self/fd/{descriptor}/doorbell")
        finally:
            os.close(descriptor)

    def fileno(self) -> int:
        return self._socket.fileno()

    def answer(self, rung: Callable[[str], None]) -> None:
        """Call `rung` for everything that came since the last call."""
        names: dict[str, None] = {}
        while True:
            try:
                names[self._socket.recv(_DATAGRAM_BYTES).decode(errors="replace")] = None
            except BlockingIOError:
                break
        for name in names:
            rung(name)

    def close(self) -> None:
        self._socket.close()
