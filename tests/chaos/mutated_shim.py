"""The shims of the test build: `mutated.py` lets its agents start these. Standard library only."""

import os

from chisel_agent import shim_factory
from chisel_agent.shim_leftovers import Leftovers


def main(switch: str, arguments: list[str]) -> int:
    """The factory of shims; each spares what its job leaves behind while the file `switch` is there."""
    sound = Leftovers.end

    def end(leftovers: Leftovers) -> None:
        if not os.path.exists(switch):
            sound(leftovers)

    Leftovers.end = end  # type: ignore[method-assign, assignment]
    return shim_factory.main(arguments)
