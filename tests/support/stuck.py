"""A file system that never answers: who looks into it waits in the kernel and, once killed, stays in state D:
SIGKILL does not reach it. The real thing that a hung driver or network mount does to a job.
"""

import contextlib
import ctypes
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

_LOOKUP, _INIT = 1, 26
_REQUEST = struct.Struct("<IIQQIIII")
_ANSWER = struct.Struct("<IiQ")
_HELLO = struct.Struct("<IIIIHHI36x")
_MNT_FORCE, _MNT_DETACH = 1, 2


class Silence:
    """Mounted at `place` until `end`, which lets go of everybody who waits."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.asked = threading.Event()
        """Somebody looked for a file in it, and waits."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self._device},rootmode=40000,user_id=0,group_id=0"
        place.mkdir()
        if self._libc.mount(b"silence", os.fsencode(place), b"fuse", 0, options.encode()) != 0:
            os.close(self._device)
            raise OSError(ctypes.get_errno(), "cannot mount")
        self._taking = threading.Thread(target=self._take, daemon=True)
        self._taking.start()

    def _take(self) -> None:
        """Greet the kernel, then take every request and answer none."""
        with contextlib.suppress(OSError):
            while True:
                _, kind, number, *_ = _REQUEST.unpack_from(os.read(self._device, 1 << 18))
                if kind == _INIT:
                    hello = _HELLO.pack(7, 31, 0, 0, 16, 12, 4096)
                    os.write(self._device, _ANSWER.pack(_ANSWER.size + len(hello), 0, number) + hello)
                elif kind == _LOOKUP:
                    self.asked.set()

    def end(self) -> None:
        if self._taking.is_alive():
            self._libc.umount2(os.fsencode(self.place), _MNT_FORCE | _MNT_DETACH)
            self._taking.join()
            os.close(self._device)


@contextlib.contextmanager
def silence(folder: Path) -> Iterator[Silence]:
    """Skips the test where this cannot be had."""
    if os.geteuid() != 0 or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("a file system that never answers takes root and /dev/fuse")
    try:
        made = Silence(folder / "silence")
    except OSError as error:
        pytest.skip(f"nothing can be mounted here: {error}")
    try:
        yield made
    finally:
        made.end()
