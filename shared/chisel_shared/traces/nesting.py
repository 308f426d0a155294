"""Which event encloses which on its thread: the stack that a profiler recorded as intervals."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from chisel_shared.traces.columns import Columns, Floats, Ints

Leave = Callable[[Ints, Ints], np.ndarray[tuple[int], np.dtype[np.bool_]]]

TOLERANCE_US = 0.002
"""Ends are sums of float64 microseconds since an epoch, exact to a quarter of a nanosecond at best; the
profiler's own clock is not better than this."""


@dataclass(frozen=True)
class Nesting:
    """Events of some categories, sorted by thread, start, and length (longest first); parallel arrays."""

    row: Ints
    """In the columns."""
    thread: Ints
    start: Floats
    end: Floats
    """Not after the parent's: overlapping spans are cut there."""
    parent: Ints
    """The place of the enclosing event in these arrays; -1: none. Always before the event's own place."""
    cut: int
    """Events that went on after their parent had ended."""

    def __len__(self) -> int:
        return len(self.row)

    @property
    def self_us(self) -> Floats:
        """How much of each event is in none of its children. Never negative."""
        return np.maximum(self.own(self.end - self.start), 0.0)

    def own(self, amount: Floats) -> Floats:
        """Of an amount for each event that includes its children's: what is left without them."""
        inside = self.parent >= 0
        return amount - np.bincount(self.parent[inside], weights=amount[inside], minlength=len(self))

    def innermost(self, thread: Ints, at: Floats) -> Ints:
        """The place of the innermost event that encloses each point of a thread; -1: none."""
        if not len(self):
            return np.full(len(at), -1, np.int64)
        place = np.full(len(at), -1, np.int64)
        for one in np.unique(thread):
            asked = np.flatnonzero(thread == one)
            low, high = np.searchsorted(self.thread, [one, one + 1])
            found = np.searchsorted(self.start[low:high], at[asked], side="right") - 1
            place[asked] = np.where(found >= 0, found + low, -1)
        return self.climb(place, lambda where, asked: self.end[where] < at[asked])

    def climb(self, place: Ints, leave: "Leave") -> Ints:
        """From each place up through its parents until `leave(places, which)` is false; -1 beyond the top."""
        place = place.copy()
        asked = np.flatnonzero(place >= 0)
        while len(asked):
            asked = asked[leave(place[asked], asked)]
            place[asked] = self.parent[place[asked]]
            asked = asked[place[asked] >= 0]
        return place


def nest(columns: Columns, *categories: int) -> Nesting:
    return nest_rows(columns, columns.of(*categories))


def nest_rows(columns: Columns, row: Ints) -> Nesting:
    row = row[np.lexsort((-columns.dur[row], columns.ts[row], columns.thread[row]))]
    thread, start, end = columns.thread[row].astype(np.int64), columns.ts[row], columns.end[row]
    parents, ends, cut = _sweep(thread.tolist(), start.tolist(), end.tolist())
    return Nesting(row, thread, start, np.array(ends, np.float64), np.array(parents, np.int64), cut)


def _sweep(thread: list[int], start: list[float], end: list[float]) -> tuple[list[int], list[float], int]:
    parents = [-1] * len(start)
    stack: list[int] = []
    open_until = -np.inf
    on = -1
    cut = 0
    for place, begin in enumerate(start):
        if thread[place] != on:
            on = thread[place]
            stack.clear()
        while stack and open_until <= begin + TOLERANCE_US:
            stack.pop()
            open_until = end[stack[-1]] if stack else -np.inf
        if stack:
            parents[place] = stack[-1]
            if end[place] > open_until:
                cut += end[place] > open_until + TOLERANCE_US
                end[place] = open_until
        stack.append(place)
        open_until = end[place]
    return parents, end, cut
