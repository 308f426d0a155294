"""The shims of the test build: `mutated.py` lets its agents start these. Standard library only."""

import os

from chisel_agent import shim, shim_factory


def main(switch: str, arguments: list[str]) -> int:
    """The factory of shims; each spares what its job leaves behind while the file `switch` is there."""
    # Who ends leftovers: the shim itself, or a part of it.
    owner, name = (shim.Leftovers, "end") if hasattr(shim, "Leftovers") else (shim.Shim, "end_leftovers")
    sound = getattr(owner, name)

    def end(this: object) -> None:
        if not os.path.exists(switch):
            sound(this)

    setattr(owner, name, end)
    return shim_factory.main(arguments)
