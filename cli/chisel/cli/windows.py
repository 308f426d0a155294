"""A Windows console shows what the script wrote: UTF-8, and escape sequences as colours."""

import sys

_UTF_8 = 65001
_ESCAPES = 0x0004
_STDOUT, _STDERR = -11, -12


def prepare_console() -> None:
    """Do so for this process's console, if it has one. Nothing depends on it: old ones cannot."""
    if sys.platform != "win32":
        return
    import ctypes

    kernel = ctypes.WinDLL("kernel32")
    kernel.GetStdHandle.restype = ctypes.c_void_p
    kernel.SetConsoleOutputCP(_UTF_8)
    for number in (_STDOUT, _STDERR):
        handle = ctypes.c_void_p(kernel.GetStdHandle(number))
        mode = ctypes.c_uint32()
        if kernel.GetConsoleMode(handle, ctypes.byref(mode)):
            kernel.SetConsoleMode(handle, mode.value | _ESCAPES)
