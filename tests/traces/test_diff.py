"""Two runs compared: the parts make the whole, and a difference is called one only when it is."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chisel_shared.traces import verdict
from chisel_shared.traces.align import Runs
from chisel_shared.traces.diff import Capture, diff, regressed
from chisel_shared.traces.report import Diff, Part
from chisel_shared.traces.sidecar import Gpu, Options, Sidecar
from tests.traces.captures import capture, runs


def _part(found: Diff, name: str) -> Part:
    (part,) = [part for part in found.kernels if part.name == name]
    return part


def test_more_runs_and_slower_runs_are_told_apart() -> None:
    found = diff([capture(runs("k", [10.0] * 4))], [capture(runs("k", [11.0] * 6))])
    part = _part(found, "k")
    assert (part.a_us, part.b_us, part.delta_us) == (40.0, 66.0, 26.0)
    assert (part.count_us, part.mean_us) == (20.0, 6.0)  # 2 more at 10, and 6 that take 1 longer
    assert part.change == pytest.approx(0.65)
    assert part.verdict == "more"


def test_numbers_are_means_per_capture() -> None:
    found = diff(
        [capture(runs("k", [10.0] * 4)), capture(runs("k", [10.0] * 2))], [capture(runs("k", [30.0]))]
    )
    part = _part(found, "k")
    assert (part.a_count, part.a_us, part.b_count, part.b_us) == (3.0, 30.0, 1.0, 30.0)


def test_new_and_gone_kernels() -> None:
    found = diff([capture(runs("old", [5.0, 5.0]))], [capture(runs("new", [7.0]))])
    assert [(part.name, part.verdict, part.delta_us, part.change) for part in found.kernels] == [
        ("old", "gone", -10.0, -1.0),
        ("new", "new", 7.0, None),
    ]
    assert (found.matched, found.only_a, found.only_b) == (0, 1, 1)


_RUNS = st.builds(
    runs,
    st.sampled_from(["f", "void g<1>()", "void g<2>()", "h"]),
    st.lists(st.floats(0.1, 1e6), min_size=1, max_size=4),
    grid=st.sampled_from([(1, 1, 1), (2, 1, 1)]),
)
_CATEGORIES = st.dictionaries(st.sampled_from(["compute", "idle: host", "outside"]), st.floats(0, 1e6))


@st.composite
def _captures(draw: st.DrawFn) -> list[Capture]:
    return [
        capture(
            *draw(st.lists(_RUNS, max_size=4)),
            categories=categories,
            wall_us=sum(categories.values()),
        )
        for categories in draw(st.lists(_CATEGORIES, min_size=1, max_size=3))
    ]


@given(_captures(), _captures())
def test_the_parts_make_the_whole(a: list[Capture], b: list[Capture]) -> None:
    found = diff(a, b)

    def ran(side: list[Capture]) -> float:
        return sum(float(one.durations.sum()) for made in side for one in made.kernels) / len(side)

    whole = ran(b) - ran(a)
    assert sum(part.delta_us for part in found.kernels) == pytest.approx(whole, rel=1e-9, abs=1e-3)
    for part in found.kernels:
        assert part.count_us + part.mean_us == pytest.approx(part.delta_us, rel=1e-9, abs=1e-3)
    wall = found.b.wall_us - found.a.wall_us
    assert sum(change.delta_us for change in found.changes) == pytest.approx(wall, rel=1e-9, abs=1e-3)


@given(_captures())
def test_a_run_against_itself_has_not_changed(a: list[Capture]) -> None:
    found = diff(a, a)
    assert {part.verdict for part in found.kernels} <= {"same"}
    assert all(part.delta_us == 0 for part in found.kernels)
    assert found.verdict == "same"


def _noisy(seed: int, scale: float = 1.0, runs_each: int = 40) -> Runs:
    generator = np.random.default_rng(seed)
    return runs("k", (100 * scale * generator.lognormal(0, 0.03, runs_each)).tolist())


def test_a_kernel_that_became_slower_is_called_so() -> None:
    part = _part(diff([capture(_noisy(1))], [capture(_noisy(2, scale=1.2))]), "k")
    assert part.verdict == "slower"
    assert part.p is not None
    assert part.p < 0.001


def test_halves_of_one_run_do_not_differ() -> None:
    """What a naive comparison of means gets wrong most."""
    generator = np.random.default_rng(7)
    called = naive = 0
    for kernel in range(200):
        scatter = generator.uniform(0.01, 0.6)
        whole = 50 * generator.lognormal(0, scatter, 2 * generator.integers(16, 80))
        a, b = (runs(f"k{kernel}", half.tolist()) for half in np.split(generator.permutation(whole), 2))
        found = diff([capture(a)], [capture(b)])
        called += found.kernels[0].verdict in ("slower", "faster")
        naive += abs(b.durations.mean() / a.durations.mean() - 1) > 0.05
    assert called == 0
    assert 60 < naive < 100, "the reference says about 80"


def test_a_change_within_the_scatter_of_the_kernel_is_none() -> None:
    generator = np.random.default_rng(3)
    wide = 100 * generator.lognormal(0, 0.5, 400)
    part = _part(diff([capture(runs("k", wide.tolist()))], [capture(runs("k", (wide * 1.1).tolist()))]), "k")
    assert part.verdict == "same"


def test_few_runs_show_nothing() -> None:
    part = _part(diff([capture(runs("k", [10.0, 10.1]))], [capture(runs("k", [14.0, 14.1]))]), "k")
    assert (part.verdict, part.p) == ("unclear", None)


def test_faster_in_the_middle_and_slower_in_all_is_unclear() -> None:
    after = 90 * np.random.default_rng(5).lognormal(0, 0.03, 40)
    after[:3] = 4000.0
    part = _part(diff([capture(_noisy(1))], [capture(runs("k", after.tolist()))]), "k")
    assert part.delta_us > 0
    assert part.verdict == "unclear"


def test_what_does_not_matter_for_the_whole_is_not_called() -> None:
    big = runs("big", [1e6])
    found = diff([capture(big, _noisy(1))], [capture(big, _noisy(2, scale=1.5))])
    assert _part(found, "k").verdict == "same"


def test_a_change_must_hold_for_every_capture() -> None:
    """One hot capture of three is not a slower kernel."""
    a = [capture(_noisy(seed)) for seed in (1, 2, 3)]
    b = [capture(_noisy(4, scale=1.3)), capture(_noisy(5, scale=1.3)), capture(_noisy(6, scale=0.97))]
    assert _part(diff(a, b), "k").verdict == "unclear"
    b[2] = capture(_noisy(6, scale=1.3))
    assert _part(diff(a, b), "k").verdict == "slower"


# The whole


def _walls(*walls: float) -> list[Capture]:
    return [capture(wall_us=wall) for wall in walls]


@pytest.mark.parametrize(
    ("a", "b", "word", "basis"),
    [
        ([100.0], [120.0], "slower", "indicative: 1 capture each"),
        ([100.0], [102.0], "same", "indicative: 1 capture each"),
        ([100.0, 101.0], [80.0], "faster", "indicative: 2 and 1 captures"),
        ([100.0, 101.0, 102.0], [110.0, 111.0, 112.0], "slower", "3 captures each, p = 0.1"),
        ([100.0, 101.0, 112.0], [110.0, 111.0, 120.0], "unclear", "3 captures each, p = 0.3"),
        ([100.0] * 5, [100.0] * 5, "same", "5 captures each, p = 1"),
    ],
)  # fmt: skip
def test_the_verdict_over_the_whole(a: list[float], b: list[float], word: str, basis: str) -> None:
    found = diff(_walls(*a), _walls(*b))
    assert (found.verdict, found.basis.replace("permutation test, ", "")) == (word, basis)


def test_an_open_verdict_fails_no_build() -> None:
    assert regressed(diff(_walls(100.0), _walls(120.0)), 0.05)
    assert not regressed(diff(_walls(100.0), _walls(120.0)), 0.25)
    assert not regressed(diff(_walls(100.0), _walls(80.0)), 0.05)
    assert not regressed(diff(_walls(100.0, 101.0, 125.0), _walls(110.0, 111.0, 130.0)), 0.05)


def test_first_calls_are_left_out_where_both_sides_have_others() -> None:
    cold, warm = capture(wall_us=500.0, cold=True, call=1), capture(wall_us=100.0)
    found = diff([cold, warm], [cold, warm, warm])
    assert (found.a.wall_us, len(found.b.traces), found.warnings) == (100.0, 2, ())
    found = diff([cold], [cold, warm])
    assert found.a.wall_us == 500.0
    assert found.b.wall_us == 300.0
    assert "both sides have a first call" in found.warnings[0]


def test_a_comparison_needs_two_sides() -> None:
    with pytest.raises(ValueError, match="a trace on each side"):
        diff([], [capture()])


# Comparable


def _told(info: dict[str, object]) -> Capture:
    plain = capture()
    return plain._replace(info=msgspec.structs.replace(plain.info, **info))


_CLOCKED = Sidecar(gpus=(Gpu(sm_clock_mhz=1980, sm_clock_end_mhz=1980),))


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        ({"gpu": "H100"}, {"gpu": "MI300X"}, "the GPU differs: H100 in A, MI300X in B"),
        ({"world_size": 8}, {"world_size": None}, "the number of ranks differs: 8 in A, 1 in B"),
        ({"options": ("with_stack",)}, {}, "what was recorded differs: with_stack in A, the default in B"),
        ({"torch": "2.7"}, {"torch": "2.13"}, "torch differs: 2.7 in A, 2.13 in B"),
        ({"driver": "550"}, {"driver": "590"}, "the driver differs: 550 in A, 590 in B"),
        ({"cold": True}, {}, "only A has a first call, with its initialisation and compilation"),
        ({"truncated": True}, {}, "A: step.2.json ends in the middle: it was cut"),
        ({"sidecar": _CLOCKED}, {"sidecar": Sidecar(gpus=(Gpu(sm_clock_mhz=1500),))},
         "the GPU's clock differs: 1980 MHz in A, 1500 MHz in B"),
        ({}, {"sidecar": Sidecar(gpus=(Gpu(throttled=("thermal",)),))},
         "B: step.2.json was taken while its GPU was throttled"),
        ({}, {"sidecar": Sidecar(gpus=(Gpu(neighbours=2),))},
         "B: step.2.json shared its GPU with other processes"),
        ({}, {"sidecar": Sidecar(ended_by="max_seconds")}, "B: step.2.json ended early"),
        ({}, {"sidecar": Sidecar(error="ValueError")}, "B: step.2.json is of a call that raised an error"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_said(a: dict[str, object], b: dict[str, object], said: str) -> None:
    found = diff([_told(a)], [_told(b)])
    assert found.warnings == (said,)


@pytest.mark.parametrize(
    "both",
    [
        {},
        {"torch": ""},
        {"sidecar": _CLOCKED},
        {"sidecar": Sidecar(gpus=(Gpu(throttled=("application_clocks",)),))},
        {"sidecar": Sidecar(options=Options(with_stack=True), ended_by="steps")},
    ],
)
def test_what_is_equal_or_unknown_is_not(both: dict[str, object]) -> None:
    assert diff([_told(both)], [_told(both)]).warnings == ()
    assert diff([capture(torch="")], [capture(torch="2.13")]).warnings == ()


def test_a_comparison_survives_its_own_json() -> None:
    found = diff([capture(_noisy(1))], [capture(_noisy(2), runs("new", [3.0]))])
    assert msgspec.json.decode(msgspec.json.encode(found), type=Diff) == found


def test_rules_that_the_documentation_names() -> None:
    assert (verdict.NOTICEABLE, verdict.MATTERS, verdict.FALSE_SHARE) == (0.03, 0.005, 0.01)
