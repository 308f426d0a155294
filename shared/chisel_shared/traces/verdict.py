"""When a difference is called one. The rules, with their reasons, are in docs/reference/traces.md.

Runs of a kernel in one capture share its clocks and its temperature, so their test alone would call a hot
GPU a regression: a change must also be larger than the kernel's own scatter, matter for the whole, and,
where there are several captures, hold for every one of them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from chisel_shared.traces.align import Pair
from chisel_shared.traces.stats import (
    Sample,
    benjamini_hochberg,
    mann_whitney,
    permutation,
    smallest_p,
    spread,
)

NOTICEABLE = 0.03
"""A change of less is called none, whatever its p."""
MATTERS = 0.005
"""Of all GPU time: a part that changed by less is not worth a look."""
FALSE_SHARE = 0.01
"""Of the parts called faster or slower, at most so many may be so by chance."""
SIGNIFICANT = 0.05
_TESTED = 3
"""Captures of each side from which on their whole is tested."""


class Verdict(NamedTuple):
    word: str
    p: float | None


def of_parts(pairs: Sequence[Pair], gpu_us: float) -> list[Verdict]:
    """A verdict for each pair; `gpu_us` is the time of all GPU events of a capture of A."""
    samples = [(np.concatenate(pair.a), np.concatenate(pair.b)) for pair in pairs]
    tested = [index for index, (a, b) in enumerate(samples) if smallest_p(len(a), len(b)) < FALSE_SHARE]
    p = dict(zip(tested, benjamini_hochberg([mann_whitney(*samples[i]) for i in tested]), strict=True))
    return [
        Verdict(_of_part(pair, *samples[index], p.get(index), gpu_us), p.get(index))
        for index, pair in enumerate(pairs)
    ]


def _of_part(pair: Pair, a: Sample, b: Sample, p: float | None, gpu_us: float) -> str:
    if not len(a):
        return "new"
    if not len(b):
        return "gone"
    count_a, count_b = len(a) / len(pair.a), len(b) / len(pair.b)
    by_count = (count_b - count_a) * float(a.mean())
    by_mean = count_b * float(b.mean() - a.mean())
    if abs(by_count + by_mean) < MATTERS * gpu_us and max(abs(by_count), abs(by_mean)) < MATTERS * gpu_us:
        return "same"
    if abs(by_count) > abs(by_mean) and abs(count_b - count_a) > NOTICEABLE * count_a:
        # How often a kernel ran is counted, not measured: there is no chance in it.
        return "more" if by_count > 0 else "fewer"
    shift = float(np.median(b) - np.median(a))
    if abs(shift) <= max(NOTICEABLE * float(np.median(a)), 2 * spread(a)):
        return "same"
    if p is None or (shift > 0) is not (by_mean > 0):
        return "unclear"  # half of the runs became faster, and a few much slower, say
    if p >= FALSE_SHARE or not _apart(pair, shift):
        return "unclear"
    return "slower" if shift > 0 else "faster"


def _apart(pair: Pair, shift: float) -> bool:
    """Whether each capture of B lies on the same side of each of A."""
    a = [float(np.median(sample)) for sample in pair.a if len(sample)]
    b = [float(np.median(sample)) for sample in pair.b if len(sample)]
    return min(b) > max(a) if shift > 0 else max(b) < min(a)


def of_whole(a: Sequence[float], b: Sequence[float]) -> tuple[Verdict, str]:
    """The verdict over the wall times of the captures, and what it rests on in words."""
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    change = (mean_b - mean_a) / mean_a if mean_a else 0.0
    word = "slower" if change > 0 else "faster"
    sizes = f"{len(a)} and {len(b)}" if len(a) != len(b) else f"{len(a)}"
    each = "" if len(a) != len(b) else " each"
    if min(len(a), len(b)) < _TESTED:
        noun = "capture" if max(len(a), len(b)) == 1 else "captures"
        basis = f"indicative: {sizes} {noun}{each}"
        return Verdict("same" if abs(change) <= NOTICEABLE else word, None), basis
    p = permutation(a, b)
    basis = f"{sizes} captures{each}, permutation test, p = {p:.2g}"
    # Three against three cannot get below 0.1: then all of B beyond all of A has to do.
    if p > max(SIGNIFICANT, smallest_p(len(a), len(b)) + 1e-12):
        return Verdict("same" if abs(change) <= NOTICEABLE else "unclear", p), basis
    return Verdict("same" if abs(change) <= NOTICEABLE / 3 else word, p), basis
