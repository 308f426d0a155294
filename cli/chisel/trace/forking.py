"""How a process ends that was forked from one in which torch's profiler has run.

The profiler keeps a thread for its configuration, which waits for a condition. A child has the condition and
no thread, and its exit waits for the condition for ever, in a destructor of the library. Children of
multiprocessing, and so the workers of a data loader, leave without destructors; here the others do too.
"""

import ctypes
from contextlib import suppress
from typing import Any

_kept: list[Any] = []


def skip_destructors() -> None:
    """Let this process exit with its status, and what it has printed, but without what libraries tidy up."""
    with suppress(Exception):  # another system's library does not know these calls
        libc = ctypes.CDLL(None)
        _kept.append(libc)
        # The last that is registered runs first.
        libc.on_exit(ctypes.cast(libc._exit, ctypes.c_void_p), None)
        libc.__cxa_atexit(ctypes.cast(libc.fflush, ctypes.c_void_p), None, None)
