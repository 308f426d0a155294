"""Ranks side by side, with waits worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chisel_shared.traces.ranks import RankTrace, Run, compare
from tests.traces.captures import GPU


def _rank(rank: int, *runs: tuple[float, float], host: str = "one", name: str = "allreduce") -> RankTrace:
    """`runs`: start and duration."""
    made = tuple(Run(name, "default", 1024, start, us) for start, us in runs)
    return RankTrace(rank, f"step.rank{rank}.json", host, 1000.0, GPU, made)


def test_the_one_that_arrives_last_waits_least() -> None:
    # Rank 1 comes 30 and 50 later; both transfers take 10.
    found = compare([_rank(1, (130.0, 10.0), (350.0, 10.0)), _rank(0, (100.0, 40.0), (300.0, 60.0))])
    assert [one.rank for one in found.ranks] == [0, 1]
    assert [(one.wait_us, one.arrives_last, one.collectives) for one in found.ranks] == [
        (80, 0, 2),
        (0, 2, 2),
    ]
    assert found.straggler == 1
    assert [one.caused_us for one in found.ranks] == [0.0, 80.0]
    (kind,) = found.collectives
    assert (kind.count, kind.wait_us, kind.transfer_us, kind.elements) == (2, 80.0, 20.0, 1024)
    assert (found.unmatched, found.notes) == (0, ())


def test_ranks_that_take_turns_have_no_straggler() -> None:
    found = compare([_rank(0, (0.0, 50.0), (140.0, 10.0)), _rank(1, (40.0, 10.0), (100.0, 50.0))])
    assert found.straggler is None
    assert [one.caused_us for one in found.ranks] == [40.0, 40.0]


def test_who_makes_nobody_wait_for_long_is_none() -> None:
    found = compare([_rank(0, (0.0, 1000.0)), _rank(1, (0.5, 999.5))])
    assert (found.straggler, found.ranks[1].arrives_last) == (None, 1)


def test_a_wait_is_never_longer_than_the_collective() -> None:
    """Clocks of two machines that disagree."""
    found = compare([_rank(0, (0.0, 40.0)), _rank(1, (9000.0, 10.0), host="two")])
    assert found.ranks[0].wait_us == 40.0
    assert "2 machines" in found.notes[0]


def test_from_where_names_differ_nothing_is_matched() -> None:
    odd = _rank(1, (0.0, 1.0), (10.0, 1.0))
    odd = odd._replace(runs=(odd.runs[0], odd.runs[1]._replace(name="allgather")))
    found = compare([_rank(0, (0.0, 1.0), (10.0, 1.0)), odd])
    assert ([one.collectives for one in found.ranks], found.unmatched) == ([1, 1], 2)
    assert "2 collectives have no partner" in found.notes[0]


def test_a_group_of_some_ranks_counts_for_these() -> None:
    part = [trace._replace(runs=tuple(run._replace(group="tp") for run in trace.runs))
            for trace in (_rank(0, (0.0, 9.0)), _rank(2, (5.0, 4.0)))]  # fmt: skip
    found = compare([*part, _rank(1)])
    assert [one.collectives for one in found.ranks] == [1, 0, 1]
    assert found.straggler == 2


@pytest.mark.parametrize(
    ("traces", "note"),
    [
        ([_rank(0, (0.0, 1.0))], "the trace of one rank only"),
        ([_rank(0), _rank(1)], "no collective in common"),
    ],
)
def test_nothing_to_compare_is_said(traces: list[RankTrace], note: str) -> None:
    found = compare(traces)
    assert note in found.notes[0]
    assert found.straggler is None


@given(
    st.lists(
        st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e4)), max_size=5).map(sorted),
        min_size=1,
        max_size=4,
    )
)
def test_every_run_is_matched_or_counted(runs: list[list[tuple[float, float]]]) -> None:
    found = compare([_rank(rank, *of_rank) for rank, of_rank in enumerate(runs)])
    assert sum(one.collectives for one in found.ranks) + found.unmatched == sum(map(len, runs))
    assert all(one.wait_us >= 0 for one in found.ranks)
