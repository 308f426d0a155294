"""`chisel version`."""

import os

from chisel import __version__


def version() -> int:
    os.write(1, f"chisel {__version__}\n".encode())
    return 0
