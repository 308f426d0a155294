"""Signals that end a script: its trace is saved first, and a signal does not break the saving off.

SIGTERM, which ends a cancelled job and one whose time is over, kills a Python script at once, and the trace
with it. While a capture is open in the main thread, and the script has no handler of its own, SIGTERM saves
the trace and raises `SystemExit(143)`. SIGINT raises KeyboardInterrupt as ever, through the function.
"""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

_EXIT_STATUS = 128 + signal.SIGTERM


class Signals:
    """For one capture, called by its own thread alone. In another than the main thread nothing happens."""

    def __init__(self) -> None:
        self._save: Callable[[], None] | None = None
        self._process = os.getpid()
        self._main = threading.current_thread() is threading.main_thread()
        self._busy = False
        self._waiting: list[int] = []
        self._interrupts: object = None

    def watch(self, save: Callable[[], None]) -> None:
        """Hear SIGTERM, if the script does not; `save` ends the capture because of it."""
        self._save = save
        if self._main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._terminate)

    def unwatch(self) -> None:
        if self._main and signal.getsignal(signal.SIGTERM) == self._terminate:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def hold(self) -> None:
        """From now on signals wait."""
        if self._main and not self._busy:
            self._busy = True
            self._interrupts = signal.getsignal(signal.SIGINT)
            if self._interrupts is signal.default_int_handler:
                signal.signal(signal.SIGINT, self._wait)

    def let_go(self) -> list[int]:
        """Signals no longer wait; those that did, each once, for `deliver`."""
        if self._main and self._busy:
            self._busy = False
            if signal.getsignal(signal.SIGINT) == self._wait:
                signal.signal(signal.SIGINT, signal.default_int_handler)
        waiting, self._waiting = self._waiting, []
        return list(dict.fromkeys(waiting))

    def _wait(self, number: int, frame: FrameType | None) -> None:
        if not self._busy:
            signal.default_int_handler(number, frame)
        self._waiting.append(number)

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            # A process that was forked meanwhile has nothing to save.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
        elif self._busy:
            self._waiting.append(number)
        else:
            if self._save is not None:
                self._save()
            raise SystemExit(_EXIT_STATUS)


def deliver(numbers: list[int]) -> None:
    """Let signals that waited do what they do."""
    for number in numbers:
        if number == signal.SIGTERM:
            raise SystemExit(_EXIT_STATUS)
        signal.raise_signal(number)


def deliver_later(numbers: list[int]) -> None:
    """The same from where nothing may be raised."""
    for number in numbers:
        threading.Timer(0.01, signal.raise_signal, (number,)).start()
