"""`chisel trace summary`, `memory`, `diff` and `ranks`: what traces say.

Parse, get (`trace_desk.py`), render (`trace_summary.py` and its neighbours, all pure).
"""

from chisel.cli import trace_sources as sources
from chisel.cli.legible import legible
from chisel.cli.render import Screen
from chisel.cli.trace_desk import Desk, all_loaded, local, parse, statuses
from chisel.cli.trace_paper import Paper
from chisel.cli.trace_sources import Ambiguous, Local, NoSuchTrace, NotWhole, OfJob
from chisel.cli.values import UsageError

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is
if TYPE_CHECKING:
    from chisel.cli.trace_desk import File, Loaded
    from chisel.cli.trace_sources import Source
    from chisel_shared.traces.report import Diff, Summary

OK, REGRESSION, PARTIAL = 0, 1, NotWhole.exit_code
_MOST_OTHERS = 8


def summary(trace: str, top: int | None, quiet: bool, json: bool) -> int:
    from chisel.cli import trace_listing, trace_summary
    from chisel_shared.traces.first_line import first_line

    screen = Screen(quiet=quiet)
    with statuses(), Desk(screen) as desk:
        source = parse(trace)
        found, others = desk.summary(source)
    if json:
        screen.json(found)
    elif quiet:
        screen.result(first_line(legible(found)))
    else:
        paper = paper_of(screen)
        lines = trace_summary.summary(legible(found), paper, top=top)
        if others and isinstance(source, OfJob):
            lines += ["", paper.bold("OTHER TRACES")]
            lines += trace_listing.others(legible(others[:_MOST_OTHERS]), job=source.job)
            more = len(others) - _MOST_OTHERS
            lines += [paper.dim(f"and {more} more: chisel trace ls {source.job}")] if more > 0 else []
        screen.result(paper.written(lines))
    return _partial(screen, found)


def memory(trace: str, top: int, json: bool) -> int:
    from chisel.cli import trace_memory

    screen = Screen()
    with statuses(), Desk(screen) as desk:
        found, others = desk.summary(parse(trace))
        if others:
            told = sources.listed(others)
            screen.say(f"this is {found.trace.name}; there are also {told}")
    if json:
        screen.json(found.memory)
    else:
        paper = paper_of(screen)
        screen.result(paper.written(trace_memory.memory(legible(found), paper, top=top)))
    return _partial(screen, found)


def diff(a: str, b: str, fail_over: str | None, top: int, quiet: bool, json: bool) -> int:
    from chisel.cli import trace_diff

    limit = None if fail_over is None else _share(fail_over)
    screen = Screen(quiet=quiet)
    with statuses(), Desk(screen) as desk:
        pairs = _pairs(desk, a, b)
        loaded = [(all_loaded(left), all_loaded(right)) for left, right in pairs]
    found = [_compared(left, right) for left, right in loaded]
    if json:
        screen.json(found)
    else:
        paper = paper_of(screen)
        for one in found:
            lines = trace_diff.diff(legible(one), paper, top=top)
            between = [""] if one is not found[-1] else []
            screen.result(paper.written(lines[:1] if quiet else [*lines, *between]))
    if limit is not None and any(_regressed(one, limit) for one in found):
        screen.error(f"slower by more than {fail_over}")
        return REGRESSION
    cut = [one.summary for sides in loaded for side in sides for one in side if one.summary.trace.truncated]
    return _partial(screen, cut[0]) if cut else OK


def ranks(traces: tuple[str, ...], top: int, json: bool) -> int:
    from chisel.cli import trace_ranks
    from chisel_shared.traces import words

    screen = Screen()
    with statuses(), Desk(screen) as desk:
        parsed = [parse(one) for one in traces]
        if len(parsed) == 1 and isinstance(parsed[0], OfJob):
            source = parsed[0]
            files = [desk.file(one) for one in sources.of_ranks(desk.traces(source), source)]
        else:
            files = [desk.one_file(one) for one in parsed]
        loaded = all_loaded(files)
    from chisel_shared.traces import measure
    from chisel_shared.traces.ranks import compare

    views = []
    for file, one in zip(files, loaded, strict=True):
        rank = one.summary.trace.rank
        rank = words.base(file.name)[1] if rank is None else rank
        if rank is None:
            raise Ambiguous(f"{file.name} does not say which rank it is of; name it NAME.rankN.json")
        views.append((measure.rank(one.columns, one.summary, rank), one.columns))
    numbers = [view.rank for view, _ in views]
    if len(set(numbers)) < len(numbers):
        raise Ambiguous("two of these traces are of the same rank: name one call of each")
    found = compare(measure.on_one_clock(views))
    if json:
        screen.json(found)
    else:
        paper = paper_of(screen)
        screen.result(paper.written(trace_ranks.ranks(legible(found), paper, top=top)))
    cut = [one.summary for one in loaded if one.summary.trace.truncated]
    return _partial(screen, cut[0]) if cut else OK


def paper_of(screen: Screen) -> Paper:
    return Paper(screen.columns, screen.colors, screen.letters)


def _partial(screen: Screen, found: "Summary") -> int:
    """The status of a command that read this trace; what it lacks is said."""
    if not found.trace.truncated:
        return OK
    screen.error(f"{found.trace.name} is cut off: what was read are the whole events before the cut")
    return PARTIAL


def _pairs(desk: Desk, a: str, b: str) -> "list[tuple[list[File], list[File]]]":
    """What is compared with what: of two jobs all calls of equal name, else one side with the other."""
    left, right = parse(a), parse(b)
    if isinstance(left, Local) or isinstance(right, Local):
        return [(_side(desk, left), _side(desk, right))]
    ours, theirs = (sources.named(desk.traces(one), one) for one in (left, right))
    found = sources.pairs(ours, theirs)
    if not found:
        raise NoSuchTrace(
            f"{a} and {b} have no trace of the same name:"
            f" {sources.listed(ours, job=left.job)}; {sources.listed(theirs, job=right.job)}"
        )
    return [
        ([desk.file(trace) for trace in ours], [desk.file(trace) for trace in theirs])
        for ours, theirs in found.values()
    ]


def _side(desk: Desk, source: "Source") -> "list[File]":
    """All calls of one name."""
    if isinstance(source, Local):
        return [local(source.path)]
    found = sources.families(sources.named(desk.traces(source), source))
    if len(found) > 1:
        names = ", ".join(f"{source.job}/{name}" for name in found)
        raise Ambiguous(f"job {source.job} has traces of several names, name one: {names}")
    return [desk.file(trace) for traces in found.values() for trace in traces]


def _share(text: str) -> float:
    """`5%` as 0.05."""
    number = text.strip().removesuffix("%").strip()
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:
        raise UsageError(f"--fail-over takes a percentage such as 5%, not {text!r}")
    return value / 100


def _compared(a: "list[Loaded]", b: "list[Loaded]") -> "Diff":
    from chisel_shared.traces import measure
    from chisel_shared.traces.diff import diff

    return diff(*([measure.capture(one.columns, one.summary) for one in side] for side in (a, b)))


def _regressed(found: "Diff", limit: float) -> bool:
    from chisel_shared.traces.diff import regressed

    return regressed(found, limit)
