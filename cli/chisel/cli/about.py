"""`chisel version` and `chisel --logout`."""

import os

from chisel import __version__


def version() -> int:
    os.write(1, f"chisel {__version__}\n".encode())
    return 0


def logout() -> int:
    from chisel import auth
    from chisel.cli.render import Screen

    auth.clear_credentials()
    Screen().say("stored API keys are forgotten")
    return 0
