"""What ends a capture in the middle of a call: its time, its memory, the file that would come of it.

A thread looks, and has the main thread stop between two bytecodes, since only the thread that started torch's
profiler can stop it. A main thread that waits for something long stops when it is back.
"""

import _thread
import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

MAX_MEMORY_BYTES = 2 << 30
"""By how much the process may grow: the profiler keeps some 1.6 to 4 kB for each event."""
MEMORY_PER_FILE_BYTE = 6
"""Measured: 6 (plain, with_stack) to 8 (shapes and memory)."""
_LOOK_SECONDS = 0.2

_stop: Callable[[], None] | None = None
"""What the main thread is to do, once."""


def _run_stop(_: Any) -> int:
    global _stop
    stop, _stop = _stop, None
    try:
        if stop is not None:
            stop()
    except BaseException:  # nobody is there to hear; stop() has said what the user must know
        pass
    return 0


_CallBack = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
_call_back = _CallBack(_run_stop)  # kept for as long as the process may still call it


def resident_bytes() -> int | None:
    """Memory of this process; None where the system does not say."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def call_in_main_thread(stop: Callable[[], None]) -> bool:
    """Have the main thread call `stop` between two bytecodes; False when it cannot take that in now. What
    `stop` raises is lost."""
    global _stop
    _stop = stop
    return bool(ctypes.pythonapi.Py_AddPendingCall(_call_back, None) == 0)


class Watchdog:
    """Ends one capture of the main thread by calling `stop(reason)` on it."""

    def __init__(self, *, seconds: float, file_bytes: int, stop: Callable[[str], list[int]]) -> None:
        self._until = time.monotonic() + seconds
        self._file_bytes = file_bytes
        self._before = resident_bytes()
        self._stop = stop
        self._signals: list[int] = []
        self._over = threading.Lock()
        self._over.acquire()

    def start(self) -> None:
        # Not a threading.Thread: the script's own count of threads stays what it is.
        _thread.start_new_thread(self._watch, ())

    def cancel(self) -> None:
        """The capture has ended; may be called once."""
        self._over.release()

    def _watch(self) -> None:
        while True:
            left = self._until - time.monotonic()
            if self._over.acquire(timeout=max(0.0, min(left, _LOOK_SECONDS))):
                return
            reason = self._reached()
            if not reason:
                continue
            if call_in_main_thread(lambda: self._signals.extend(self._stop(reason))):  # noqa: B023 - at once
                break
        self._over.acquire()
        time.sleep(0.01)  # the main thread is still leaving stop(), where an exception would be dropped
        for number in self._signals:
            signal.raise_signal(number)

    def _reached(self) -> str:
        if time.monotonic() >= self._until:
            return "max_seconds"
        now = resident_bytes()
        grown = 0 if now is None or self._before is None else now - self._before
        if grown > MAX_MEMORY_BYTES:
            return "max_memory"
        return "max_bytes" if grown > self._file_bytes * MEMORY_PER_FILE_BYTE else ""
