"""The statistics of comparisons, against values worked out by hand and against brute force."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chisel_shared.traces.stats import (
    benjamini_hochberg,
    mann_whitney,
    permutation,
    ranks,
    smallest_p,
    spread,
)

_VALUES = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=12)


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    assert ranks(np.array([30.0, 10.0, 20.0, 20.0])).tolist() == [4.0, 1.0, 2.5, 2.5]


@given(_VALUES)
def test_ranks_are_one_plus_those_below_plus_half_of_the_equals(values: list[float]) -> None:
    expected = [sum(o < v for o in values) + (sum(o == v for o in values) + 1) / 2 for v in values]
    assert ranks(np.array(values)).tolist() == expected


def test_the_rank_sum_of_two_samples_that_do_not_overlap() -> None:
    a, b = np.arange(10.0), np.arange(10.0) + 100
    # U is 0; its mean is 50, its variance 10 * 10 * 21 / 12 = 175.
    assert mann_whitney(a, b) == pytest.approx(math.erfc(49.5 / math.sqrt(2 * 175)))
    assert mann_whitney(a, b) == mann_whitney(b, a)


@pytest.mark.parametrize(("a", "b"), [([], [1.0]), ([1.0], []), ([2.0] * 5, [2.0] * 9)])
def test_nothing_to_tell_apart(a: list[float], b: list[float]) -> None:
    assert mann_whitney(np.array(a), np.array(b)) == 1.0


@given(_VALUES, _VALUES)
def test_a_p_is_a_probability_and_does_not_depend_on_the_order_of_sides(
    a: list[float], b: list[float]
) -> None:
    p = mann_whitney(np.array(a), np.array(b))
    assert 0.0 <= p <= 1.0
    assert p == pytest.approx(mann_whitney(np.array(b), np.array(a)))


def test_what_few_values_can_show_at_best() -> None:
    assert smallest_p(3, 3) == 2 / 20
    assert smallest_p(4, 4) == 2 / 70
    assert smallest_p(1, 1) == 1.0
    assert smallest_p(0, 5) == 1.0


def test_permutation_counts_splits_at_least_as_far_apart() -> None:
    assert permutation([1.0, 2.0, 3.0], [11.0, 12.0, 13.0]) == 2 / 20
    assert permutation([1.0, 1.0], [1.0, 1.0]) == 1.0
    assert permutation([], [1.0]) == 1.0


@given(st.lists(st.integers(0, 9).map(float), min_size=2, max_size=6), st.data())
def test_permutation_agrees_with_every_ordering(values: list[float], data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(values) - 1))
    a, b = values[:cut], values[cut:]

    def gap(dealt: tuple[float, ...]) -> float:
        return abs(sum(dealt[:cut]) / cut - sum(dealt[cut:]) / len(b))

    dealt = [gap(order) >= gap((*a, *b)) - 1e-9 for order in permutations(values)]
    assert permutation(a, b) == pytest.approx(sum(dealt) / len(dealt))


def test_permutation_of_large_samples_is_by_chance_and_repeatable() -> None:
    generator = np.random.default_rng(1)
    a, b = generator.normal(0, 1, 30).tolist(), generator.normal(3, 1, 30).tolist()
    assert permutation(a, b) == permutation(a, b) < 0.001
    assert permutation(a, generator.normal(0, 1, 30).tolist()) > 0.01


def test_corrected_for_the_number_of_tests() -> None:
    assert benjamini_hochberg([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert benjamini_hochberg([]) == []


@given(st.lists(st.floats(0, 1), max_size=20))
def test_correction_never_lowers_and_keeps_the_order(p: list[float]) -> None:
    corrected = benjamini_hochberg(p)
    assert all(one <= other + 1e-12 for one, other in zip(p, corrected, strict=True))
    by_p = [corrected[index] for index in sorted(range(len(p)), key=lambda i: p[i])]
    assert by_p == sorted(by_p)


def test_spread() -> None:
    assert spread(np.array([1.0, 1.0, 2.0, 4.0, 100.0])) == 1.0
    assert spread(np.array([])) == 0.0
