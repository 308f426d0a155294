"""Which traces the words of a command mean: files of this machine, or traces of a job. Pure.

An existing file comes first. `JOB`, `JOB/NAME` and `@last/NAME` mean traces of a job's newest attempt that
has any; a name may leave out `.json`, and `train_step` means all calls and ranks of `train_step` where a
command takes more than one.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from chisel_shared.contract.errors import ChiselError, NotFound, UserError
from chisel_shared.contract.ids import LAST
from chisel_shared.traces import words

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is
if TYPE_CHECKING:
    from chisel_shared.contract.messages import TraceView

_NAMED = 12


class NoSuchTrace(NotFound):
    """There is no such trace."""

    exit_code = 3


class Ambiguous(UserError):
    """More than one trace is meant."""

    exit_code = 2


class NotWhole(ChiselError):
    """The trace is not whole."""

    exit_code = 4


class Local(NamedTuple):
    """A file of this machine."""

    path: str


class OfJob(NamedTuple):
    """Traces of a job; all of them where `name` is empty."""

    job: str
    name: str = ""


Source = Local | OfJob


def parse(text: str, is_file: Callable[[str], bool]) -> Source:
    """What `text` means. `NoSuchTrace` for a path where nothing is, and for what can be neither."""
    if is_file(text):
        return Local(text)
    job, _, name = text.partition("/")
    if text.startswith((".", "/", "~")) or "\\" in text or "/" in name or (name and not _is_job(job)):
        raise NoSuchTrace(f"there is no file {text}")
    if not _is_job(job):
        raise NoSuchTrace(f"there is no file {text}; a trace of a job is written JOB/{text}")
    return OfJob(job, name)


def _is_job(text: str) -> bool:
    plain = text.replace("-", "")
    return text in LAST or (bool(plain) and plain.isascii() and plain.isalnum())


def of_newest_attempt(traces: Iterable["TraceView"]) -> "list[TraceView]":
    """Those of the last attempt that has any, in the order they were taken."""
    found = list(traces)
    last = max((trace.attempt for trace in found), default=0)
    return sorted((trace for trace in found if trace.attempt == last), key=order)


def order(trace: "TraceView") -> tuple[float, str, int, int]:
    """Sorts traces by the start of their recording; of the same start by name, rank and call."""
    name, rank, call = identity(trace)
    return trace.started_at or float("inf"), name, -1 if rank is None else rank, call


def identity(trace: "TraceView") -> tuple[str, int | None, int]:
    """The name that the script gave, the rank and the call."""
    name, rank, call = words.base(trace.name)
    return name, rank if trace.rank is None else trace.rank, trace.call or call


def named(traces: "Sequence[TraceView]", source: OfJob) -> "list[TraceView]":
    """All that a name means: the one with that file name, else all calls and ranks of that name, and of
    `NAME.rank1` all calls. `NoSuchTrace` when there is none, with what there is."""
    if not traces:
        raise NoSuchTrace(f"job {source.job} has no trace; decorate a function with @capture_trace")
    if not source.name:
        return list(traces)
    wanted = words.stem(source.name)
    family = [
        trace
        for trace in traces
        if wanted in (words.base(trace.name)[0], words.stem(trace.name), _without_call(trace.name))
    ]
    if not family:
        raise NoSuchTrace(f"job {source.job} has no trace {wanted}; it has {listed(traces)}")
    return family


def one(traces: "Sequence[TraceView]", source: OfJob) -> "TraceView":
    """The only trace that is meant: the job's only one, or the one with exactly that name, or the only call
    and rank of that name. `Ambiguous` when there are more, with their names."""
    family = named(traces, source)
    exact = [trace for trace in family if words.stem(trace.name) == words.stem(source.name)]
    if len(exact or family) == 1:
        return (exact or family)[0]
    prefix = f"{source.job}/{source.name}" if source.name else f"job {source.job}"
    raise Ambiguous(f"{prefix} has {len(family)} traces, name one: {listed(family, job=source.job)}")


def first(traces: "Sequence[TraceView]", source: OfJob) -> "TraceView":
    """The one to show of several: the exact name, else the one that tells most."""
    family = named(traces, source)
    exact = [trace for trace in family if words.stem(trace.name) == words.stem(source.name)]
    return exact[0] if exact else telling(family)


def telling(traces: "Iterable[TraceView]") -> "TraceView":
    """Of the function that was traced first, the second call: the first has initialisation and compilation in
    it. Of ranks the lowest; the first call where there is no other."""
    in_order = sorted(traces, key=order)
    name = identity(in_order[0])[0]

    def late(trace: "TraceView") -> tuple[bool, int, int]:
        _, rank, call = identity(trace)
        return call == 1, call, rank or 0

    return min((trace for trace in in_order if identity(trace)[0] == name), key=late)


def pairs(
    a: "Sequence[TraceView]", b: "Sequence[TraceView]"
) -> "dict[str, tuple[list[TraceView], list[TraceView]]]":
    """What is compared with what: all calls of equal name and rank, by what they are called. Where each
    side has one name only, these are compared whatever they are called."""
    left, right = families(a), families(b)
    if len(left) == len(right) == 1:
        ((name, ours), (other, theirs)) = (*left.items(), *right.items())
        return {name if name == other else f"{name} and {other}": (ours, theirs)}
    return {name: (left[name], right[name]) for name in left if name in right}


def families(traces: "Sequence[TraceView]") -> "dict[str, list[TraceView]]":
    """Traces by name and rank, calls in their order."""
    found: dict[str, list[TraceView]] = {}
    for trace in sorted(traces, key=lambda trace: identity(trace)[2]):
        name, rank, _ = identity(trace)
        found.setdefault(name if rank is None else f"{name}.rank{rank}", []).append(trace)
    return dict(sorted(found.items()))


def of_ranks(traces: "Sequence[TraceView]", source: OfJob) -> "list[TraceView]":
    """One trace of each rank: of the second call where all have one, since the first is cold, else of the
    first call that all have. `Ambiguous` when several names have ranks, `NoSuchTrace` when none has."""
    family = [trace for trace in named(traces, source) if identity(trace)[1] is not None]
    names = sorted({identity(trace)[0] for trace in family})
    if not names:
        raise NoSuchTrace(f"job {source.job} has no traces of ranks: its processes were not told of any")
    if len(names) > 1:
        told = ", ".join(f"{source.job}/{name}" for name in names[:_NAMED])
        raise Ambiguous(f"several functions were traced on ranks, name one: {told}")
    by_rank: dict[int | None, dict[int, TraceView]] = {}
    for trace in family:
        _, rank, call = identity(trace)
        by_rank.setdefault(rank, {})[call] = trace
    common = set.intersection(*(set(calls) for calls in by_rank.values()))
    if not common:
        raise NoSuchTrace(f"the ranks of {names[0]} have no call in common: {listed(family)}")
    call = 2 if 2 in common else min(common)
    return [by_rank[rank][call] for rank in sorted(by_rank, key=lambda rank: rank or 0)]


def listed(traces: "Sequence[TraceView]", *, job: str = "") -> str:
    """Their names in a line."""
    names = [(f"{job}/" if job else "") + words.stem(trace.name) for trace in traces]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _without_call(name: str) -> str:
    base, rank, _ = words.base(name)
    return base if rank is None else f"{base}.rank{rank}"
