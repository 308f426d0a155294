"""Ctrl-C and SIGTERM as facts that the main loop looks at, never as exceptions in the middle of it.

An exception could strike between writing output and counting it; a fact cannot.
"""

import os
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

_ONE_WISH_SECONDS = 1.0
"""Signals that come together, such as SIGINT and SIGTERM from who ends a whole pipeline, are one wish: the
first has to be heard before a further one may end the process, or the job would go on for nobody."""


class Interrupts:
    """While it is entered, a signal is kept in `number` and makes `wake` readable.

    `unheeded` signals wait for the main loop, which sets it back. One ends the process at once,
    whatever that is waiting for, after `last_chance` was set, or when `patience` is reached and the first
    of them has waited for a second.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.unheeded = 0
        self._since = 0.0
        self.patience = 2
        self.last_chance = False
        self.before_leaving: Callable[[], None] | None = None
        """Puts back what must not outlive the process, such as the terminal's mode."""
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

    def heed(self) -> int:
        """How many signals came since this was asked last; `wake` waits for the next one again."""
        self.drain()
        count, self.unheeded = self.unheeded, 0
        return count

    def drain(self) -> None:
        """Make `wake` wait for the next signal again."""
        try:
            while self.wake.recv(64):
                pass
        except BlockingIOError:
            return

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        self.unheeded += 1
        if self.unheeded == 1:
            self._since = now
        out_of_patience = self.unheeded >= self.patience and now - self._since >= _ONE_WISH_SECONDS
        if self.last_chance or out_of_patience:
            if self.before_leaving is not None:
                self.before_leaving()
            os._exit(128 + (self.number or number))
        self.number = number
