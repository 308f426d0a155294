"""What storage tells the gateway about archived output. An attempt's streams are files with times."""

import msgspec

MAX_TAIL_LINES = 100_000
"""How many last lines may be asked for: their places must fit into one answer."""


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """From `offset` on, bytes came to the backend at `time`, in seconds since the epoch; 0: unknown."""

    offset: int
    time: float


class Marks(msgspec.Struct, frozen=True):
    """Some places in the archived part of one stream, ascending; `end` is how long that part is."""

    end: int
    marks: tuple[Mark, ...] = ()
