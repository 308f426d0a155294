"""Ctrl-C and SIGTERM as facts that the main loop looks at, never as exceptions in the middle of it.

An exception could strike between writing output and counting it; a fact cannot.
"""

import os
import signal
import socket
from types import FrameType
from typing import Any


class Interrupts:
    """While it is entered, the first signal is kept in `number` and makes `wake` readable; the second
    ends the process at once, whatever it is waiting for."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.wake, self._woken = socket.socketpair()
        self._before: dict[int, Any] = {}

    @property
    def status(self) -> int:
        """The exit status of a command that was interrupted."""
        return 128 + (self.number or 0)

    def __enter__(self) -> "Interrupts":
        self.wake.setblocking(False)
        self._woken.setblocking(False)
        signal.set_wakeup_fd(self._woken.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM):
            # A shell gives background jobs an ignored SIGINT, and that stays ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *raised: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(-1)
        self.wake.close()
        self._woken.close()

    def drain(self) -> None:
        """Make `wake` wait for the next signal again."""
        try:
            while self.wake.recv(64):
                pass
        except BlockingIOError:
            return

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            os._exit(self.status)
        self.number = number
