"""TCP ports for `MASTER_PORT`: free on this machine, and never promised to two jobs at a time."""

import random
import socket

_RANGE = range(20_000, 30_000)
"""Below the ports that systems hand to outgoing connections: those come and go unasked."""
_TRIES = 200


class Ports:
    def __init__(self) -> None:
        self._taken: set[int] = set()

    def take(self) -> int:
        """A port nobody listens on; `OSError` when none is found."""
        for _ in range(_TRIES):
            port = random.choice(_RANGE)
            if port not in self._taken and _free(port):
                self._taken.add(port)
                return port
        raise OSError("no free TCP port was found")

    def adopt(self, port: int) -> None:
        """A job of an earlier agent has it."""
        self._taken.add(port)

    def release(self, port: int) -> None:
        self._taken.discard(port)


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
