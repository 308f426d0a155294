"""A comparison for the terminal. Pure: lines of text, nothing here prints."""

from collections.abc import Callable, Sequence

from chisel.cli.trace_paper import Paper, table, times
from chisel_shared.traces import words
from chisel_shared.traces.report import Diff, Part, Side

TOP = 8
_CHANGED = ("slower", "faster", "more", "fewer", "new", "gone")


def diff(found: Diff, paper: Paper, *, top: int = TOP) -> list[str]:
    """The whole comparison."""
    lines = [*_head(found, paper)]
    for warning in found.warnings:
        lines += [paper.bad(line) for line in paper.wrapped(warning, first="!    ", then="     ")]
    lines += _changes(found, paper)
    lines += _parts("OPERATORS", found.ops, paper, top)
    lines += _parts("KERNELS", found.kernels, paper, top)
    if not found.kernels:
        return lines
    alone = [f"{words.count(found.matched, 'kernel')} in both"]
    alone += [f"{found.only_a:,} only in A"] if found.only_a else []
    alone += [f"{found.only_b:,} only in B"] if found.only_b else []
    return [*lines, "", *(paper.dim(line) for line in paper.joined(alone))]


def _head(found: Diff, paper: Paper) -> list[str]:
    name = words.base(found.b.traces[0].name)[0] if found.b.traces else "?"
    style = _style(found.verdict, paper)
    change = words.change(found.wall_change)
    unit, (a, b) = times((found.a.wall_us, found.b.wall_us))
    told = f"{a} → {b} {unit}" + (f" ({change})" if change else "")
    said = f"{name}  {told}  {found.verdict}"
    lines = [style(line) if style else paper.bold(line) for line in paper.wrapped(said, then="  ")]
    lines += paper.wrapped(found.basis, first="     ", then="     ")
    return [*lines, *_side("A", found.a, paper), *_side("B", found.b, paper)]


def _side(letter: str, side: Side, paper: Paper) -> list[str]:
    names = [words.stem(info.name) for info in side.traces]
    return [paper.dim(line) for line in paper.joined(names, first=f"{letter}    ", then="     ")]


def _changes(found: Diff, paper: Paper) -> list[str]:
    changes = [one for one in found.changes if one.a_us or one.b_us]
    if not changes:
        return []
    unit, column = times([us for one in changes for us in (one.a_us, one.b_us, one.delta_us)])
    rows = []
    for at, one in enumerate(changes):
        a, b, delta = column[3 * at : 3 * at + 3]
        relative = words.change(one.delta_us / one.a_us if one.a_us else None)
        rows.append((one.name, a, b, _signed(delta), relative))
    return ["", *table(paper, ("WALL TIME", f"A {unit}", f"B {unit}", "CHANGE", "%"), rows)]


def _parts(title: str, parts: Sequence[Part], paper: Paper, top: int) -> list[str]:
    """The largest changes; those that are none are counted only."""
    changed = [part for part in parts if part.verdict in (*_CHANGED, "unclear") and part.delta_us]
    shown = changed[:top]
    same = len(parts) - len(changed)
    if not shown:
        quiet = f"{title.lower()}: no change that counts"
        return ["", paper.dim(quiet)] if parts else []
    unit, column = times([us for part in shown for us in (part.a_us, part.b_us, part.delta_us)])
    rows = []
    for at, part in enumerate(shown):
        a, b, delta = column[3 * at : 3 * at + 3]
        name = words.kernel(part.name) if part.kind != "op" else part.name
        calls = _calls(part.a_count, part.b_count)
        rows.append((name, a, b, _signed(delta), words.change(part.change), calls, part.verdict))
    styles = [_style(part.verdict, paper) for part in shown]
    heading = (title, f"A {unit}", f"B {unit}", "CHANGE", "%", "CALLS", "VERDICT")
    lines = ["", *table(paper, heading, rows, styles=styles, drop=(5, 1, 2), left=(0, 6))]
    more = [f"{len(changed) - len(shown):,} more changed"] if len(changed) > len(shown) else []
    more += [f"{same:,} the same"] if same else []
    return [*lines, *([paper.dim(" · ".join(more))] if more else [])]


def _signed(number: str) -> str:
    return number if number == "0" or number.startswith("-") else f"+{number}"


def _calls(a: float, b: float) -> str:
    """Means per capture: whole where they are, or large."""
    first, second = (f"{n:,.0f}" if n == round(n) or n >= 100 else f"{n:,.1f}" for n in (a, b))
    return first if first == second else f"{first}→{second}"


def _style(verdict: str, paper: Paper) -> Callable[[str], str] | None:
    return {
        "slower": paper.bad, "more": paper.bad, "new": paper.bad,
        "faster": paper.good, "fewer": paper.good, "gone": paper.good,
    }.get(verdict)  # fmt: skip
