"""What a measurement is: repeated values, their median, and the bounds it is held against."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table. `fault` says why the values count for nothing although they look fine."""

    letter: str
    what: str
    unit: str
    values: tuple[float, ...]
    must: float | None = None
    aim: float | None = None
    more_is_better: bool = False
    note: str = ""
    fault: str = ""

    @property
    def median(self) -> float | None:
        return statistics.median(self.values) if self.values else None

    @property
    def holds(self) -> bool | None:
        """Whether the median is within `must`; None when nothing is promised."""
        if self.must is None:
            return None
        if self.fault or self.median is None:
            return False
        return self.median >= self.must if self.more_is_better else self.median <= self.must

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"median": self.median, "holds": self.holds}


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of `values` lie, by nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * (len(ordered) - 1))))]


def table(figures: Sequence[Figure]) -> str:
    """The figures as a Markdown table."""
    rows = [("", "figure", "median", "range", "must", "aim", "holds")]
    for figure in figures:
        verdict = {None: "", True: "yes", False: "**no**"}[figure.holds]
        what = figure.what + (f" ({figure.note})" if figure.note else "")
        what += f" — {figure.fault}" if figure.fault else ""
        sign = "≥" if figure.more_is_better else "≤"
        rows.append(
            (
                figure.letter,
                what,
                _number(figure.median, figure.unit),
                f"{_number(min(figure.values))} - {_number(max(figure.values))}" if figure.values else "",
                f"{sign} {_number(figure.must)}" if figure.must is not None else "",
                f"{sign} {_number(figure.aim)}" if figure.aim is not None else "",
                verdict,
            )
        )
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _number(value: float | None, unit: str = "") -> str:
    if value is None:
        return "none"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f} {unit}".strip()
