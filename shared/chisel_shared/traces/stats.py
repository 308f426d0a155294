"""Whether two samples differ by more than chance: small, exact where that is affordable, numpy alone."""

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Sample = NDArray[np.float64]

_EXACT_SPLITS = 20_000
"""Up to so many ways to split the pooled sample, all are tried."""
_RANDOM_SPLITS = 10_000


def ranks(values: Sample) -> Sample:
    """Ranks from 1; equal values share the mean of theirs."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    last = np.r_[first[1:], len(values)]
    mean = np.repeat((first + 1 + last) / 2.0, last - first)
    result = np.empty(len(values))
    result[order] = mean
    return result


def mann_whitney(a: Sample, b: Sample) -> float:
    """Two-sided p of the rank-sum test by the normal approximation, corrected for ties and continuity.

    1.0 when a sample is empty or all values are equal. Below about 8 values a side the approximation is
    rough; `smallest_p` says what such samples could show at all.
    """
    n, m = len(a), len(b)
    if n == 0 or m == 0:
        return 1.0
    pooled = np.concatenate((a, b))
    total = n + m
    u = float(ranks(pooled)[:n].sum()) - n * (n + 1) / 2
    counts = np.unique(pooled, return_counts=True)[1].astype(np.float64)
    ties = float((counts**3 - counts).sum()) / (total * (total - 1))
    variance = n * m / 12 * (total + 1 - ties)
    if variance <= 0:
        return 1.0
    distance = max(0.0, abs(u - n * m / 2) - 0.5)
    return math.erfc(distance / math.sqrt(2 * variance))


def smallest_p(n: int, m: int) -> float:
    """The two-sided p of two samples of these sizes that do not overlap at all."""
    return 1.0 if n == 0 or m == 0 else min(1.0, 2 / math.comb(n + m, n))


def permutation(a: Sequence[float], b: Sequence[float], *, seed: int = 0) -> float:
    """Two-sided p of a difference of means under every way to deal the values to the two sides, or under
    10,000 random ones when there are too many. 1.0 when a side is empty."""
    n, m = len(a), len(b)
    if n == 0 or m == 0:
        return 1.0
    pooled = np.array([*a, *b], dtype=np.float64)
    whole = float(pooled.sum())
    # Sums in another order differ in their last digits: that much is not a difference.
    slack = 1e-9 * max(1.0, float(np.abs(pooled).sum()))
    seen = abs(_gap(float(np.sum(pooled[:n])), whole, n, m))
    if math.comb(n + m, n) <= _EXACT_SPLITS:
        sums = [float(pooled[list(chosen)].sum()) for chosen in combinations(range(n + m), n)]
        extreme = sum(abs(_gap(one, whole, n, m)) >= seen - slack for one in sums)
        return extreme / len(sums)
    generator = np.random.default_rng(seed)
    extreme = sum(
        abs(_gap(float(generator.permutation(pooled)[:n].sum()), whole, n, m)) >= seen - slack
        for _ in range(_RANDOM_SPLITS)
    )
    return (extreme + 1) / (_RANDOM_SPLITS + 1)


def _gap(first: float, whole: float, n: int, m: int) -> float:
    return first / n - (whole - first) / m


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """`p` corrected for the number of tests: to call those below q a discovery makes a share of at most q
    of them false."""
    count = len(p)
    corrected = [1.0] * count
    smallest = 1.0
    for place, index in zip(range(count, 0, -1), sorted(range(count), key=lambda i: -p[i]), strict=True):
        smallest = min(smallest, p[index] * count / place)
        corrected[index] = smallest
    return corrected


def spread(values: Sample) -> float:
    """The median distance from the median."""
    return float(np.median(np.abs(values - np.median(values)))) if len(values) else 0.0
