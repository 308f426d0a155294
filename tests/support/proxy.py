"""A TCP proxy on loopback that cuts connections, as bad networks do."""

import socket
import struct
import threading
from types import TracebackType
from typing import Self


class CuttingProxy:
    """Passes bytes on, and resets each connection after `after_bytes` from the server."""

    def __init__(self, port: int, *, after_bytes: int) -> None:
        self.cuts = 0
        self._port = port
        self._after_bytes = after_bytes
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._links: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for link in self._links:
            link.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return  # closed
            server = socket.create_connection(("127.0.0.1", self._port))
            self._links += [client, server]
            threading.Thread(target=self._pass, args=(client, server, None), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, self._after_bytes), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, most: int | None) -> None:
        passed = 0
        try:
            while part := source.recv(4096):
                passed += len(part)
                if most is not None and passed > most:
                    self.cuts += 1
                    for link in (source, target):
                        # Linger of zero: a reset at once, as from a box that forgot the connection.
                        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        link.shutdown(socket.SHUT_RDWR)
                        link.close()
                    return
                target.sendall(part)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return  # the other direction was cut
