"""Which event encloses which on its thread: the stack that a profiler recorded as intervals."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

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
    parent = np.full(len(row), -1, np.int64)
    whole = end.copy()
    cut = 0
    first = np.flatnonzero(np.diff(thread, prepend=-1))
    for low, high in pairwise([*first.tolist(), len(row)]):
        found = by_levels(start[low:high], end[low:high])
        if found is None:
            found, cuts = by_stack(start[low:high], end[low:high])
            cut += cuts
        inside = found.parent >= 0
        parent[low:high][inside] = found.parent[inside] + low
        whole[low:high] = found.end
    return Nesting(row, thread, start, whole, parent, cut)


class Parents(NamedTuple):
    """Of the events of one thread, in their order."""

    parent: Ints
    end: Floats


def by_levels(start: Floats, end: Floats) -> Parents | None:
    """All events of a depth at once; None when they do not nest, which only `by_stack` can put right.

    How deep an event lies is the number of events that began before it less those that ended before it.
    """
    # What is shorter than the tolerance encloses nothing.
    long = np.flatnonzero(end > start + TOLERANCE_US)
    begun = np.searchsorted(long, np.arange(len(start)), side="left")
    depth = begun - np.searchsorted(np.sort(end[long]), start + TOLERANCE_US, side="right")
    if len(depth) and depth.min() < 0:
        return None
    end = end.copy()
    parent = np.full(len(start), -1, np.int64)
    by_depth = np.argsort(depth, kind="stable")
    bounds = np.searchsorted(depth[by_depth], np.arange(int(depth.max(initial=0)) + 2))
    above: Ints = np.zeros(0, np.int64)
    for level, (low, high) in enumerate(pairwise(bounds.tolist())):
        here = by_depth[low:high]
        if level:
            place = np.searchsorted(above, here, side="left") - 1
            if not len(above) or place.min(initial=0) < 0:
                return None
            parent[here] = above[place]
            if (end[here] > end[parent[here]] + TOLERANCE_US).any():
                return None
            end[here] = np.minimum(end[here], end[parent[here]])
        above = here[end[here] > start[here] + TOLERANCE_US]
    return Parents(parent, end)


def by_stack(starts: Floats, ends: Floats) -> tuple[Parents, int]:
    """One event after the other, as they were recorded. An event that outlasts the one around it is cut at
    that one's end; how many were."""
    end = ends.tolist()
    parents = [-1] * len(end)
    stack: list[int] = []
    open_until = -np.inf
    cut = 0
    for place, begin in enumerate(starts.tolist()):
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
    return Parents(np.array(parents, np.int64), np.array(end, np.float64)), cut
