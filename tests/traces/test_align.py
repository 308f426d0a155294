"""What is compared with what."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chisel_shared.traces.align import Pair, Runs, align, template
from tests.traces.captures import runs


@pytest.mark.parametrize(
    ("name", "stripped"),
    [
        ("void at::native::copy<4, float>(int, float*)", "at::native::copy"),
        ("void at::native::(anonymous namespace)::index<c10::BFloat16, 2>(long)",
         "at::native::{anonymous}::index"),
        ("sm90_xmma_gemm_bf16", "sm90_xmma_gemm_bf16"),
        ("void f<g<int>, h<(char)1> >(x<y>)", "f"),
        ("Memcpy DtoH (Device -> Pinned)", "Memcpy DtoH"),
        ("void run(lambda() -> void) [clone]", "run [clone]"),
        ("<weird>", "<weird>"),
        ("a > b", "a > b"),
    ],
)  # fmt: skip
def test_template(name: str, stripped: str) -> None:
    assert template(name) == stripped


def _only(pairs: list[Pair]) -> Pair:
    assert len(pairs) == 1
    return pairs[0]


def test_the_same_launch_shape_first() -> None:
    small, large = runs("k", [1.0], grid=(1, 1, 1)), runs("k", [9.0], grid=(99, 1, 1))
    pairs = align([[small, large]], [[large, small]])
    assert [(pair.matched_by, pair.grid) for pair in pairs] == [
        ("launch", (1, 1, 1)), ("launch", (99, 1, 1)),
    ]  # fmt: skip
    assert all(pair.a[0].tolist() == pair.b[0].tolist() for pair in pairs)


def test_a_changed_launch_shape_is_matched_by_name() -> None:
    pair = _only(align([[runs("k", [1.0, 2.0])]], [[runs("k", [3.0], grid=(7, 1, 1))]]))
    assert (pair.matched_by, pair.grid, pair.block) == ("name", (), ())
    assert (pair.a[0].tolist(), pair.b[0].tolist()) == ([1.0, 2.0], [3.0])


def test_another_instance_of_a_template_is_matched_under_its_operator_alone() -> None:
    before, after = (
        runs("void k<4>(int)", [1.0], op="aten::add"),
        runs("void k<8>(int)", [2.0], op="aten::add"),
    )
    assert _only(align([[before]], [[after]])).matched_by == "op"
    elsewhere = after._replace(op="aten::mul")
    assert [pair.matched_by for pair in align([[before]], [[elsewhere]])] == ["", ""]


def test_new_and_gone() -> None:
    gone, new = align([[runs("a", [1.0])]], [[runs("b", [2.0])]])
    assert (gone.name, gone.a[0].tolist(), gone.b[0].tolist()) == ("a", [1.0], [])
    assert (new.name, new.a[0].tolist(), new.b[0].tolist()) == ("b", [], [2.0])


def test_captures_stay_apart() -> None:
    pair = _only(align([[runs("k", [1.0])], [runs("k", [2.0])]], [[runs("k", [3.0])], []]))
    assert [sample.tolist() for sample in pair.a] == [[1.0], [2.0]]
    assert [sample.tolist() for sample in pair.b] == [[3.0], []]


_RUNS = st.builds(
    runs,
    st.sampled_from(["f", "void g<1>()", "void g<2>()", "h"]),
    st.lists(st.integers(1, 9).map(float), min_size=1, max_size=3),
    grid=st.sampled_from([(1, 1, 1), (2, 1, 1)]),
    op=st.sampled_from(["aten::x", "aten::y"]),
)
_SIDE = st.lists(st.lists(_RUNS, max_size=4), min_size=1, max_size=3)


@given(_SIDE, _SIDE)
def test_every_run_is_in_exactly_one_pair_on_its_side_and_capture(
    a: list[list[Runs]], b: list[list[Runs]]
) -> None:
    pairs = align(a, b)
    for side, aligned in ((a, [pair.a for pair in pairs]), (b, [pair.b for pair in pairs])):
        for number, of_capture in enumerate(side):
            there = Counter(float(value) for one in of_capture for value in one.durations)
            found = Counter(float(value) for samples in aligned for value in samples[number])
            assert found == there
