"""Which kernel of one run is which of another.

By name, grid and block first: under one name run launches of very different sizes. What is left over is
matched by name alone (its launch shape changed), then by the name without template arguments together with
the operator that launched it (another instance of the same template). What is still left is new or gone.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from chisel_shared.traces.stats import Sample


class Runs(NamedTuple):
    """All runs of one kernel with one launch shape in one capture."""

    name: str
    kind: str
    grid: tuple[int, ...]
    block: tuple[int, ...]
    op: str
    durations: Sample
    """µs, in the order they ran."""


class Pair(NamedTuple):
    """The same thing on both sides: a sample for each capture. A side that lacks it has empty ones."""

    name: str
    kind: str
    grid: tuple[int, ...]
    block: tuple[int, ...]
    op: str
    matched_by: str
    a: tuple[Sample, ...]
    b: tuple[Sample, ...]


class _Entry(NamedTuple):
    runs: Runs
    samples: tuple[Sample, ...]


def align(a: Sequence[Iterable[Runs]], b: Sequence[Iterable[Runs]]) -> list[Pair]:
    """Pairs of all that ran; every run is in exactly one of them."""
    left, right = _entries(a), _entries(b)
    pairs: list[Pair] = []
    rounds: tuple[tuple[str, Callable[[Runs], Hashable]], ...] = (
        ("launch", _launch),
        ("name", lambda runs: runs.name),
        ("op", lambda runs: (template(runs.name), runs.op)),
    )
    for matched_by, key in rounds:
        lefts, rights = _grouped(left, key), _grouped(right, key)
        common = [one for one in lefts if one in rights]
        pairs += [_pair(lefts[one], rights[one], matched_by) for one in common]
        left = [entry for one, entries in lefts.items() if one not in rights for entry in entries]
        right = [entry for one, entries in rights.items() if one not in lefts for entry in entries]
    absent_a, absent_b = (_none(len(a)), _none(len(b)))
    pairs += [Pair(*entry.runs[:5], "", entry.samples, absent_b) for entry in left]
    pairs += [Pair(*entry.runs[:5], "", absent_a, entry.samples) for entry in right]
    return pairs


def template(name: str) -> str:
    """The name of a kernel without template arguments and parameters:
    `void at::native::copy<4, float>(int)` is `at::native::copy`."""
    kept: list[str] = []
    depth = 0
    for letter in name.replace("(anonymous namespace)", "{anonymous}").replace("->", "\u2192"):
        if letter in "<(":
            depth += 1
        elif letter in ">)" and depth:
            depth -= 1
        elif not depth:
            kept.append(letter)
    return "".join(kept).removeprefix("void ").replace("  ", " ").strip() or name


def _launch(runs: Runs) -> Hashable:
    return runs.name, runs.kind, runs.grid, runs.block


def _entries(captures: Sequence[Iterable[Runs]]) -> list[_Entry]:
    """One entry for each launch shape, with a sample of every capture."""
    found: dict[Hashable, tuple[Runs, list[list[Sample]]]] = {}
    for number, capture in enumerate(captures):
        for runs in capture:
            _, samples = found.setdefault(_launch(runs), (runs, [[] for _ in captures]))
            samples[number].append(runs.durations)
    return [_Entry(runs, tuple(map(_joined, samples))) for runs, samples in found.values()]


def _grouped(entries: list[_Entry], key: Callable[[Runs], Hashable]) -> dict[Hashable, list[_Entry]]:
    groups: dict[Hashable, list[_Entry]] = defaultdict(list)
    for entry in entries:
        groups[key(entry.runs)].append(entry)
    return groups


def _pair(left: list[_Entry], right: list[_Entry], matched_by: str) -> Pair:
    """Named after the larger of those of B: that is the code that runs now."""
    named = max(right, key=lambda entry: sum(float(sample.sum()) for sample in entry.samples)).runs
    exact = matched_by == "launch"
    return Pair(
        name=named.name,
        kind=named.kind,
        grid=named.grid if exact else (),
        block=named.block if exact else (),
        op=named.op,
        matched_by=matched_by,
        a=_merged(left),
        b=_merged(right),
    )


def _merged(entries: list[_Entry]) -> tuple[Sample, ...]:
    return tuple(_joined(samples) for samples in zip(*(entry.samples for entry in entries), strict=True))


def _joined(samples: Sequence[Sample]) -> Sample:
    return np.concatenate(samples) if samples else np.zeros(0)


def _none(captures: int) -> tuple[Sample, ...]:
    return tuple(np.zeros(0) for _ in range(captures))
