"""Two runs compared: what changed, by how much of what, and whether that is more than chance.

`align.py` decides what is compared with what, `verdict.py` when a difference is called one, `comparable.py`
what to warn of. Here the change is split: into categories of the wall time, and into kernels and operators;
either way the parts make the whole.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from chisel_shared.traces import verdict
from chisel_shared.traces.align import Pair, Runs, align
from chisel_shared.traces.comparable import warnings
from chisel_shared.traces.report import Change, Diff, GpuTime, Part, Side, TraceInfo
from chisel_shared.traces.stats import Sample


class Capture(NamedTuple):
    """What is compared of one trace."""

    info: TraceInfo
    gpu: GpuTime
    categories: Mapping[str, float]
    """µs by category, in the order of `report.Change`; together the wall time."""
    kernels: tuple[Runs, ...]
    ops: tuple[Runs, ...]
    """GPU time of each call; where there was no GPU, CPU self time."""


def diff(a: Sequence[Capture], b: Sequence[Capture]) -> Diff:
    """B against A, each at least one capture. First calls are left out of a side that has others, when the
    other side has others too."""
    if not a or not b:
        raise ValueError("a comparison needs a trace on each side")
    a, b = _warm(a, b)
    kernels = align([one.kernels for one in a], [one.kernels for one in b])
    ops = align([one.ops for one in a], [one.ops for one in b])
    wall_a, wall_b = _walls(a), _walls(b)
    (word, p), basis = verdict.of_whole(wall_a, wall_b)
    return Diff(
        a=_side(a),
        b=_side(b),
        wall_change=_relative(_mean(wall_a), _mean(wall_b)),
        verdict=word,
        p=p,
        basis=basis,
        warnings=warnings([one.info for one in a], [one.info for one in b]),
        changes=_changes(a, b),
        kernels=_parts(kernels),
        ops=_parts(ops),
        matched=sum(bool(pair.matched_by) for pair in kernels),
        only_a=sum(not pair.matched_by and _count(pair.a) > 0 for pair in kernels),
        only_b=sum(not pair.matched_by and _count(pair.b) > 0 for pair in kernels),
    )


def regressed(found: Diff, limit: float) -> bool:
    """Whether B's wall time is over A's by more than `limit` (0.05: 5 %), and that is called slower."""
    return found.verdict == "slower" and found.wall_change is not None and found.wall_change > limit


def _warm(a: Sequence[Capture], b: Sequence[Capture]) -> tuple[Sequence[Capture], Sequence[Capture]]:
    warm_a, warm_b = ([one for one in side if not one.info.cold] for side in (a, b))
    return (warm_a, warm_b) if warm_a and warm_b else (a, b)


def _walls(side: Sequence[Capture]) -> list[float]:
    return [one.info.wall_us for one in side]


def _side(captures: Sequence[Capture]) -> Side:
    times = [one.gpu for one in captures]
    fields = {name: _mean([getattr(time, name) for time in times]) for name in GpuTime.__struct_fields__}
    whole = {"events": round(fields.pop("events")), "orphans": round(fields.pop("orphans"))}
    return Side(
        traces=tuple(one.info for one in captures),
        wall_us=_mean(_walls(captures)),
        gpu=msgspec.convert(fields | whole, GpuTime),
    )


def _changes(a: Sequence[Capture], b: Sequence[Capture]) -> tuple[Change, ...]:
    """All categories that either side has, in the order they come."""
    names = list(dict.fromkeys(name for one in (*a, *b) for name in one.categories))
    changes = []
    for name in names:
        left, right = (_mean([one.categories.get(name, 0.0) for one in side]) for side in (a, b))
        changes.append(Change(name=name, a_us=left, b_us=right, delta_us=right - left))
    return tuple(changes)


def _parts(pairs: Sequence[Pair]) -> tuple[Part, ...]:
    """Largest change first."""
    whole = sum(_total(pair.a) for pair in pairs)
    verdicts = verdict.of_parts(pairs, whole)
    parts = [_part(pair, *judged) for pair, judged in zip(pairs, verdicts, strict=True)]
    return tuple(sorted(parts, key=lambda part: (-abs(part.delta_us), part.name)))


def _part(pair: Pair, word: str, p: float | None) -> Part:
    a_count, b_count, a_us, b_us = _count(pair.a), _count(pair.b), _total(pair.a), _total(pair.b)
    if a_count and b_count:
        count_us = (b_count - a_count) * (a_us / a_count)
        mean_us = b_count * (b_us / b_count - a_us / a_count)
    else:
        count_us, mean_us = b_us - a_us, 0.0
    return Part(
        name=pair.name,
        kind=pair.kind,
        grid=pair.grid,
        block=pair.block,
        op=pair.op,
        matched_by=pair.matched_by,
        a_count=a_count,
        b_count=b_count,
        a_us=a_us,
        b_us=b_us,
        delta_us=b_us - a_us,
        count_us=count_us,
        mean_us=mean_us,
        change=_relative(a_us, b_us),
        verdict=word,
        p=p,
    )


def _count(samples: Sequence[Sample]) -> float:
    """Runs a capture."""
    return sum(map(len, samples)) / len(samples)


def _total(samples: Sequence[Sample]) -> float:
    """µs a capture."""
    return float(sum(np.sum(sample) for sample in samples)) / len(samples)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _relative(a: float, b: float) -> float | None:
    return (b - a) / a if a else None
