"""`chisel version`."""

import os

from chisel import __version__


def version(json: bool = False) -> int:
    shown = f'{{"version": "{__version__}"}}' if json else f"chisel {__version__}"
    try:
        os.write(1, f"{shown}\n".encode())
    except OSError as error:
        return unwritten(error)
    return 0


def unwritten(error: OSError) -> int:
    """Say that stdout cannot be written; the exit status."""
    from chisel.cli.render import Screen
    from chisel_shared.contract.job import OWN_FAILURE

    Screen().error(f"stdout cannot be written ({error.strerror})")
    return OWN_FAILURE
