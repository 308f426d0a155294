"""The memory of a call for the terminal: its peak, what lay there then, and a chart. Pure."""

from collections.abc import Sequence

from chisel.cli.trace_paper import Paper, table
from chisel_shared.traces import words
from chisel_shared.traces.report import Memory, MemoryPoint, Summary

_ROWS = 8
_COLUMNS = 64
_NARROWEST = 16
_EIGHTHS = " ▁▂▃▄▅▆▇█"


def memory(found: Summary, paper: Paper, *, top: int) -> list[str]:
    """Everything about the memory of each device."""
    if not found.memory:
        return [
            *paper.wrapped(
                "this trace has no memory in it: decorate the function with"
                " @capture_trace(profile_memory=True) and run it again"
            )
        ]
    lines: list[str] = []
    for one in found.memory:
        lines += [""] if lines else []
        lines += [*peak(one, paper), *_ends(one, paper), "", *chart(one, paper)]
        blocks = one.at_peak[:top]
        if blocks:
            whole = one.peak_allocated_bytes or 1
            rows = [
                (block.op, words.size(block.bytes), words.share(block.bytes / whole), f"{block.count:,}")
                for block in blocks
            ]
            lines += ["", *table(paper, ("AT THE PEAK", "SIZE", "SHARE", "BLOCKS"), rows)]
    return lines


def peak(found: Memory, paper: Paper) -> list[str]:
    """The peak in a line."""
    said = [f"peak {words.size(found.peak_allocated_bytes)} allocated"]
    said += [f"{words.size(found.peak_reserved_bytes)} reserved"] if found.peak_reserved_bytes else []
    said += [f"after {words.time(found.peak_at_us)}" if found.peak_at_us else "at the start"]
    first, *rest = paper.joined(said, first=f"MEMORY  {found.device}  ", then=" " * 8)
    return [paper.bold("MEMORY") + first[6:], *rest]


def _ends(found: Memory, paper: Paper) -> list[str]:
    grown = found.end_allocated_bytes - found.start_allocated_bytes
    said = [
        f"{words.size(found.start_allocated_bytes)} before",
        f"{words.size(found.end_allocated_bytes)} after",
    ]
    if grown:
        said.append(f"{words.size(abs(grown))} {'more' if grown > 0 else 'less'} than before")
    return paper.joined(said, first=" " * 8, then=" " * 8)


def chart(found: Memory, paper: Paper) -> list[str]:
    """What was allocated over time, the largest of each column's stretch."""
    top = max((point.allocated_bytes for point in found.timeline), default=0)
    if not top:
        return []
    labels = [words.size(top), words.size(top / 2), "0"]
    margin = max(map(len, labels))
    columns = max(_NARROWEST, min(_COLUMNS, (paper.width or 80) - margin - 3))
    start, end = found.timeline[0].at_us, found.timeline[-1].at_us
    heights = [value / top * _ROWS for value in sampled(found.timeline, columns)]
    at = {0: labels[0], _ROWS // 2: labels[1], _ROWS - 1: labels[2]}
    edge = "│" if paper.letters else "|"
    lines = []
    for row in range(_ROWS):
        line = "".join(_cell(height - (_ROWS - 1 - row), paper) for height in heights)
        lines.append(f"{at.get(row, ''):>{margin}} {edge}{line}".rstrip())
    left, right = words.time(start), words.time(end)
    return [*lines, " " * (margin + 2) + left + right.rjust(columns - len(left))]


def _cell(height: float, paper: Paper) -> str:
    """One character of a column that reaches `height` rows above this row's foot."""
    if paper.letters:
        return _EIGHTHS[max(0, min(8, round(height * 8)))]
    return "#" if height >= 0.5 else " "


def sampled(points: Sequence[MemoryPoint], columns: int) -> list[int]:
    """The largest size within each of `columns` equal stretches; a size lasts until the next point."""
    start, end = points[0].at_us, points[-1].at_us
    width = (end - start) / columns or 1.0
    found: list[int] = []
    at = 0
    lasting = points[0].allocated_bytes
    for column in range(columns):
        until = start + (column + 1) * width if column < columns - 1 else end
        largest = lasting
        while at < len(points) and points[at].at_us <= until:
            lasting = points[at].allocated_bytes
            largest = max(largest, lasting)
            at += 1
        found.append(largest)
    return found
