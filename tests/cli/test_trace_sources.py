"""Which traces a command means, by table."""

import re

import pytest

from chisel.cli import trace_sources as sources
from chisel.cli.trace_sources import Ambiguous, Local, NoSuchTrace, OfJob
from chisel_shared.contract.ids import Digest, JobId
from chisel_shared.contract.messages import TraceView

JOB = JobId("3k9x")


def view(name: str, *, attempt: int = 1, started_at: float | None = None) -> TraceView:
    return TraceView(JOB, attempt, name, 10, Digest("0" * 64), started_at=started_at)


def views(*names: str) -> list[TraceView]:
    return sources.of_newest_attempt([view(name) for name in names])


def names(found: list[TraceView]) -> list[str]:
    return [trace.name for trace in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("here.json", Local("here.json")),
        ("3k9x", Local("3k9x")),
        ("./there.json", Local("./there.json")),
        ("7fq2", OfJob("7fq2")),
        ("@last", OfJob("@last")),
        ("@last/train_step", OfJob("@last", "train_step")),
        ("7fq2/train_step.rank1.2.json", OfJob("7fq2", "train_step.rank1.2.json")),
        ("job-7fq2/x", OfJob("job-7fq2", "x")),
    ],
)
def test_a_file_comes_first_then_a_job(text: str, expected: object) -> None:
    assert sources.parse(text, lambda path: path in ("here.json", "3k9x", "./there.json")) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("./7fq2", "there is no file ./7fq2"),
        ("../traces/x.json", "there is no file ../traces/x.json"),
        ("traces/old/x.json", "there is no file traces/old/x.json"),
        ("train.json", "there is no file train.json; a trace of a job is written JOB/train.json"),
        ("train_step", "there is no file train_step"),
        ("C:\\traces\\x", "there is no file C:\\traces\\x"),
        ("", "there is no file"),
        ("-", "there is no file"),
    ],
)
def test_what_is_neither_is_not_found(text: str, said: str) -> None:
    with pytest.raises(NoSuchTrace, match=re.escape(said)) as raised:
        sources.parse(text, lambda path: False)
    assert raised.value.exit_code == 3


ALL = ("step.json", "step.2.json", "step.3.json", "eval.json")


@pytest.mark.parametrize(
    ("there", "name", "expected"),
    [
        (("step.json",), "", "step.json"),
        (("step.json",), "step", "step.json"),
        (ALL, "step", "step.json"),
        (ALL, "step.json", "step.json"),
        (ALL, "step.json.gz", "step.json"),
        (ALL, "step.2", "step.2.json"),
        (("step.rank0.json", "step.rank1.json", "step.rank1.2.json"), "step.rank1", "step.rank1.json"),
        (("step.rank0.json", "eval.json"), "step", "step.rank0.json"),
    ],
)
def test_one_trace_is_meant(there: tuple[str, ...], name: str, expected: str) -> None:
    assert sources.one(views(*there), OfJob("3k9x", name)).name == expected


@pytest.mark.parametrize(
    ("there", "name", "said"),
    [
        (ALL, "", "job 3k9x has 4 traces, name one: 3k9x/eval, 3k9x/step, 3k9x/step.2, 3k9x/step.3"),
        (
            ("step.rank0.json", "step.rank1.json"),
            "step",
            "3k9x/step has 2 traces, name one: 3k9x/step.rank0, 3k9x/step.rank1",
        ),
    ],
)
def test_several_are_listed(there: tuple[str, ...], name: str, said: str) -> None:
    with pytest.raises(Ambiguous) as raised:
        sources.one(views(*there), OfJob("3k9x", name))
    assert str(raised.value) == said
    assert raised.value.exit_code == 2


def test_what_is_not_there_says_what_is() -> None:
    with pytest.raises(NoSuchTrace, match=r"no trace nope; it has eval, step, step\.2, step\.3"):
        sources.one(views(*ALL), OfJob("3k9x", "nope"))
    with pytest.raises(NoSuchTrace, match="has no trace; decorate a function"):
        sources.named([], OfJob("3k9x"))


def test_the_one_to_show_is_the_second_call_of_what_was_traced_first() -> None:
    found = sources.of_newest_attempt(
        [view("a.json", started_at=30.0), view("z.json", started_at=10.0), view("z.2.json", started_at=20.0)]
    )
    assert names(found) == ["z.json", "z.2.json", "a.json"]
    assert sources.first(found, OfJob("3k9x")).name == "z.2.json"
    assert sources.first(found, OfJob("3k9x", "z.json")).name == "z.json"
    assert sources.first(found, OfJob("3k9x", "a")).name == "a.json"


def test_only_the_newest_attempt_counts() -> None:
    found = [view("a.json"), view("b.json", attempt=2)]
    assert names(sources.of_newest_attempt(found)) == ["b.json"]


def test_jobs_are_compared_name_by_name_with_all_calls() -> None:
    a = views("step.json", "step.2.json", "step.10.json", "eval.json", "only_a.json")
    b = views("step.2.json", "step.json", "eval.json", "only_b.json")
    found = sources.pairs(a, b)
    assert list(found) == ["eval", "step"]
    assert names(found["step"][0]) == ["step.json", "step.2.json", "step.10.json"]
    assert names(found["step"][1]) == ["step.json", "step.2.json"]


def test_single_names_are_compared_whatever_they_are() -> None:
    assert list(sources.pairs(views("old.json"), views("new.json", "new.2.json"))) == ["old and new"]
    assert list(sources.pairs(views("x.json"), views("x.json"))) == ["x"]
    assert sources.pairs(views("x.json", "y.json"), views("z.json", "w.json")) == {}


def test_ranks_are_taken_of_the_second_call_where_all_have_one() -> None:
    there = views("s.rank0.json", "s.rank1.json", "s.rank0.2.json", "s.rank1.2.json", "s.rank10.2.json")
    assert names(sources.of_ranks(there[:4], OfJob("3k9x"))) == ["s.rank0.2.json", "s.rank1.2.json"]
    with_ten = [*there, view("s.rank10.json")]
    assert names(sources.of_ranks(with_ten, OfJob("3k9x", "s")))[-1] == "s.rank10.2.json"
    first_only = views("s.rank0.json", "s.rank0.2.json", "s.rank1.json")
    assert names(sources.of_ranks(first_only, OfJob("3k9x"))) == ["s.rank0.json", "s.rank1.json"]


def test_ranks_of_what_has_none_or_two_names_are_refused() -> None:
    with pytest.raises(NoSuchTrace, match="has no traces of ranks"):
        sources.of_ranks(views("s.json"), OfJob("3k9x"))
    with pytest.raises(Ambiguous, match="name one: 3k9x/e, 3k9x/s"):
        sources.of_ranks(views("s.rank0.json", "e.rank0.json"), OfJob("3k9x"))
    with pytest.raises(NoSuchTrace, match="no call in common"):
        sources.of_ranks(views("s.rank0.json", "s.rank1.2.json"), OfJob("3k9x"))
