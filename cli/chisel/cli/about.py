"""`chisel version`."""

import os

from chisel import __version__


def version() -> int:
    try:
        os.write(1, f"chisel {__version__}\n".encode())
    except OSError as error:
        return unwritten(error)
    return 0


def unwritten(error: OSError) -> int:
    """Say that stdout cannot be written; the exit status."""
    from chisel.cli.render import Screen
    from chisel_shared.contract.job import OWN_FAILURE

    Screen().error(f"stdout cannot be written ({error.strerror})")
    return OWN_FAILURE
