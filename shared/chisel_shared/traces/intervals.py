"""Unions of intervals, as two arrays: sorted disjoint starts and their ends."""

from dataclasses import dataclass

import numpy as np

from chisel_shared.traces.columns import Floats, Ints


@dataclass(frozen=True, slots=True, eq=False)
class Intervals:
    """Sorted and disjoint; touching ones are one."""

    start: Floats
    end: Floats

    @property
    def length(self) -> float:
        """The sum of end - start."""
        # In order, as published tables add up: numpy's pairwise sum may differ in the last digit.
        return float(sum((self.end - self.start).tolist()))

    def __len__(self) -> int:
        return len(self.start)


NONE = Intervals(np.zeros(0), np.zeros(0))


def union(start: Floats, end: Floats) -> Intervals:
    """Of any intervals; one that ends before it starts counts as empty."""
    if not len(start):
        return NONE
    order = np.argsort(start, kind="stable")
    start = start[order]
    end = np.maximum.accumulate(np.maximum(end[order], start))
    first = np.flatnonzero(np.concatenate(([True], start[1:] > end[:-1])))
    return Intervals(start[first], end[np.append(first[1:] - 1, len(start) - 1)])


def join(*parts: Intervals) -> Intervals:
    return union(np.concatenate([part.start for part in parts]), np.concatenate([part.end for part in parts]))


def gaps(of: Intervals) -> Intervals:
    """Between the first and the last of them."""
    return Intervals(of.end[:-1], of.start[1:])


def without(a: Intervals, b: Intervals) -> Intervals:
    """What of `a` is not in `b`."""
    if not len(a) or not len(b):
        return a
    # Every point where either begins or ends, and whether the piece after it is in `a` and not in `b`.
    points = np.unique(np.concatenate([a.start, a.end, b.start, b.end]))
    start, end = points[:-1], points[1:]
    keep = _contains(a, start) & ~_contains(b, start)
    return union(start[keep], end[keep])


def covered(within: Intervals, start: Floats, end: Floats) -> Floats:
    """How much of each interval [start, end] lies in `within`."""
    if not len(within):
        return np.zeros(len(start))
    return np.maximum(_before(within, end) - _before(within, start), 0.0)


def _before(within: Intervals, at: Floats) -> Floats:
    """How much of `within` lies before each point."""
    sums = np.concatenate(([0.0], np.cumsum(within.end - within.start)))
    index: Ints = np.searchsorted(within.start, at, side="right")
    into = np.where(index > 0, np.minimum(at, within.end[index - 1]) - within.start[index - 1], 0.0)
    return np.where(index > 0, sums[index - 1] + into, 0.0)


def _contains(within: Intervals, at: Floats) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    index = np.searchsorted(within.start, at, side="right") - 1
    return (index >= 0) & (at < within.end[index])
