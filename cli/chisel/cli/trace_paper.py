"""What reports of traces are written on: how wide it is, whether it takes colours and every letter. Pure."""

import textwrap
from collections.abc import Callable, Sequence
from typing import NamedTuple

from chisel_shared.traces import words

_PLAIN = str.maketrans({
    "·": "-", "→": "->", "←": "<-", "µ": "u", "…": "~", "±": "+-",
})  # fmt: skip
_LEAST = 12


class Paper(NamedTuple):
    """`width` 0: as wide as need be, as for a file. Without `letters`, ASCII alone."""

    width: int = 0
    colors: bool = False
    letters: bool = True

    def bold(self, text: str) -> str:
        return self._styled(text, "1")

    def dim(self, text: str) -> str:
        return self._styled(text, "2")

    def bad(self, text: str) -> str:
        return self._styled(text, "31")

    def good(self, text: str) -> str:
        return self._styled(text, "32")

    def _styled(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colors and text.strip() else text

    def written(self, lines: Sequence[str]) -> str:
        """The lines as one text that this paper takes."""
        text = "\n".join(lines)
        return text if self.letters else text.translate(_PLAIN)

    def wrapped(self, text: str, *, first: str = "", then: str = "") -> list[str]:
        """`text` in lines that fit; `first` stands before the first, `then` before the others."""
        if not self.width:
            return [first + text]
        return textwrap.wrap(
            text, max(self.width, len(then) + _LEAST), initial_indent=first, subsequent_indent=then,
            break_long_words=True, break_on_hyphens=False,
        ) or [first]  # fmt: skip

    def joined(self, parts: Sequence[str], *, first: str = "", then: str = "") -> list[str]:
        """`parts` with dots between them; a line ends between two parts only."""
        lines: list[str] = []
        line = first
        for number, part in enumerate(parts):
            longer = f"{line} · {part}" if number and line != then else line + part
            if self.width and len(longer) > self.width and number:
                lines.append(line)
                longer = then + part
            line = longer
        return [*lines, line]


def table(
    paper: Paper,
    heading: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    styles: Sequence[Callable[[str], str] | None] = (),
    drop: Sequence[int] = (),
    left: Sequence[int] = (0,),
) -> list[str]:
    """Columns under a heading: those of `left` are texts, the others numbers, which stand at the right. What
    is too wide for the paper first loses the columns of `drop`, in this order, then the middle of its texts.
    `styles`: one for each row, or None."""
    every = [tuple(heading), *map(tuple, rows)]
    shown = list(range(len(heading)))
    for column in (*drop, None):
        widths = {one: max(len(row[one]) for row in every) for one in shown}
        over = sum(widths.values()) + 2 * (len(shown) - 1) - paper.width if paper.width else 0
        texts = [one for one in left if one in shown]
        if over <= sum(max(0, widths[one] - 2 * _LEAST) for one in texts) or column is None:
            break
        shown.remove(column)
    while over > 0:
        widest = max(texts, key=lambda one: widths[one] - len(heading[one]))
        if widths[widest] <= max(_LEAST, len(heading[widest])):
            break
        widths[widest] -= 1
        over -= 1
    lines = []
    for row in every:
        cells = [
            words.cut(row[one], widths[one]).ljust(widths[one])
            if one in left
            else row[one].rjust(widths[one])
            for one in shown
        ]
        lines.append("  ".join(cells).rstrip())
    styled = [paper.bold(lines[0])]
    for number, line in enumerate(lines[1:]):
        style = styles[number] if number < len(styles) else None
        styled.append(style(line) if style else line)
    return styled


def times(values: Sequence[float]) -> tuple[str, list[str]]:
    """A column of times: its unit, and each value in it."""
    unit, divisor = words.scale(max(map(abs, values), default=0.0))
    return unit, [f"{value / divisor:,.2f}" if value else "0" for value in values]
