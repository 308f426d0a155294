"""Fair share, quotas and reservations as tables."""

import math
from datetime import datetime, timedelta

import pytest

from chisel_scheduler.fairshare import NOTHING, Usage, accrued, decayed, level
from chisel_scheduler.placement import Reservation, Waiting
from chisel_scheduler.quota import Quota, exhausted, too_small
from chisel_scheduler.reservations import UNTAKEN, Held, Place, most, reserve, starts_at
from chisel_shared.contract.ids import AgentId
from tests.scheduler.actors import START
from tests.scheduler.test_placement import waiting

DAY = 86_400.0


# Fair share


@pytest.mark.parametrize(
    ("usage", "elapsed", "weight", "expected"),
    [
        (NOTHING, 0, 1.0, 0.0),
        (Usage(gpus_held=4), 0, 1.0, 4.0),
        (Usage(gpus_held=4), 0, 2.0, 2.0),
        (Usage(gpu_seconds=8 * DAY / math.log(2), counted_at=START), 0, 1.0, 8.0),
        (Usage(gpu_seconds=8 * DAY / math.log(2), counted_at=START), DAY, 1.0, 4.0),
        (Usage(gpus_held=2, gpu_seconds=8 * DAY / math.log(2), counted_at=START), 2 * DAY, 0.5, 8.0),
        (Usage(gpu_seconds=8 * DAY / math.log(2), counted_at=START), -60, 1.0, 8.0),
    ],
    ids=["nothing", "held", "weight", "past", "half a day", "both", "the clock went back"],
)
def test_a_level_is_gpus_now_and_in_the_past(
    usage: Usage, elapsed: float, weight: float, expected: float
) -> None:
    now = START + timedelta(seconds=elapsed)
    assert level(usage, now, half_life_seconds=DAY, weight=weight) == pytest.approx(expected)


def test_what_was_had_in_pieces_counts_like_the_whole() -> None:
    whole = accrued(4, 3 * DAY, half_life_seconds=DAY)
    first = accrued(4, DAY, half_life_seconds=DAY)
    rest = accrued(4, 2 * DAY, half_life_seconds=DAY)
    assert decayed(first, 2 * DAY, half_life_seconds=DAY) + rest == pytest.approx(whole)
    assert accrued(1, 1.0, half_life_seconds=DAY) == pytest.approx(1.0, rel=1e-4)


def test_whoever_held_some_for_ever_had_as_many() -> None:
    ever = Usage(gpu_seconds=accrued(8, 100 * DAY, half_life_seconds=DAY), counted_at=START)
    assert level(ever, START, half_life_seconds=DAY) == pytest.approx(8.0)


def test_ages_later_nothing_is_left() -> None:
    assert decayed(1e9, 1e12, half_life_seconds=60.0) == 0.0


# Quotas


def quota(gpus: int, held: int) -> Quota:
    return Quota(name="ada", of_project=False, gpus=gpus, held=held)


@pytest.mark.parametrize(
    ("gpus", "quotas", "over", "small"),
    [
        (8, (), None, None),
        (2, (quota(8, 6),), None, None),
        (4, (quota(8, 6),), 0, None),
        (1, (quota(8, 0), quota(4, 4)), 1, None),
        (8, (quota(16, 0), quota(4, 0)), 1, 1),
        (1, (quota(0, 0),), 0, 0),
        (1, (quota(4, 9),), 0, None),
    ],
)
def test_quotas(gpus: int, quotas: tuple[Quota, ...], over: int | None, small: int | None) -> None:
    assert exhausted(gpus, quotas) == (None if over is None else quotas[over])
    assert too_small(gpus, quotas) == (None if small is None else quotas[small])


# Reservations


def place(name: str, total: int, *held: int, limits: tuple[float | None, ...] = (), age: float = 0) -> Place:
    """An agent that holds these; `limits` are the seconds after which each ends at the latest."""
    ends = [*limits, *(None for _ in held[len(limits) :])]
    return Place(
        agent_id=AgentId(name),
        gpus_total=total,
        gpus_free=total - sum(held),
        since=START - timedelta(seconds=age),
        held=tuple(
            Held(gpu_count=gpus, ends_by=None if end is None else START + timedelta(seconds=end))
            for gpus, end in zip(held, ends, strict=True)
        ),
    )


def reserved(queue: list[Waiting], places: list[Place], *, at_most: int = 1) -> list[tuple[str, str]]:
    return [(one.job_id, one.agent_id) for one in made(queue, places, at_most=at_most)]


def made(queue: list[Waiting], places: list[Place], *, at_most: int = 1) -> tuple[Reservation, ...]:
    return reserve(queue, places, START, after=timedelta(seconds=60), at_most=at_most)


BIG = waiting("big", 8, order=2, age=120)
FULL = [1] * 8
WHO = {
    "too young": ([waiting("big", 8, age=59)], []),
    "too small": ([waiting("one", 1, age=9_000)], []),
    "old enough": ([waiting("big", 8, age=60)], ["big"]),
    "who waited longer": ([BIG, waiting("old", 8, order=1, age=121)], ["old"]),
    "the larger of two": ([waiting("two", 2, order=1, age=121), BIG], ["big"]),
    "a smaller one in the end": ([waiting("two", 2, order=1, age=120 * 16 + 1), BIG], ["two"]),
    "who had less": ([waiting("heavy", 8, order=1, age=200, level=8.0), BIG], ["big"]),
    "who had much in the end": ([waiting("heavy", 8, order=1, age=601, level=8.0), BIG], ["heavy"]),
    "priority above all": ([waiting("now", 2, order=9, age=61, priority=1), BIG], ["now"]),
}


@pytest.mark.parametrize(("queue", "expected"), WHO.values(), ids=WHO)
def test_who_reserves(queue: list[Waiting], expected: list[str]) -> None:
    assert [job for job, _ in reserved(queue, [place("a", 8, *FULL)])] == expected


WHERE = {
    "large enough": ([place("small", 4), place("large", 8, *FULL)], "large"),
    "none is": ([place("small", 4)], None),
    "fewest ends": ([place("many", 8, *[1] * 7), place("few", 8, 4, 4)], "few"),
    "fewest GPUs of equal ends": ([place("more", 8, 4, 4), place("less", 8, 2, 2)], "less"),
    "soonest of known ends": (
        [place("late", 8, 4, limits=(900.0,)), place("soon", 8, *FULL, limits=(60.0,) * 8)],
        "soon",
    ),
    "ends are not all known": (
        [place("known", 8, *FULL, limits=(60.0,) * 8), place("unknown", 8, 4)],
        "unknown",
    ),
    "room now": ([place("a", 8, 1), place("b", 8)], "b"),
    "room that it did not take": ([place("a", 8, 1), place("b", 8, age=UNTAKEN.total_seconds() + 1)], "a"),
}


@pytest.mark.parametrize(("places", "expected"), WHERE.values(), ids=WHERE)
def test_where(places: list[Place], expected: str | None) -> None:
    assert [agent for _, agent in reserved([BIG], places)] == ([] if expected is None else [expected])


def test_no_more_than_allowed_and_no_agent_twice() -> None:
    queue = [waiting(f"j{n}", 8, order=n, age=200 - n) for n in range(4)]
    places = [place("a", 8, *FULL), place("b", 8, *FULL)]
    assert [job for job, _ in reserved(queue, places)] == ["j0"]
    assert sorted(reserved(queue, places, at_most=3)) in (
        [("j0", "a"), ("j1", "b")],
        [("j0", "b"), ("j1", "a")],
    )


def test_a_job_that_fits_nowhere_keeps_no_other_from_reserving() -> None:
    four = waiting("four", 4, order=3, age=100)
    assert reserved([BIG, four], [place("small", 4, 4)]) == [("four", "small")]


@pytest.mark.parametrize(
    ("held", "limits", "gpus", "seconds"),
    [
        ((), (), 8, 0),
        ((4,), (600.0,), 4, 0),
        ((4,), (600.0,), 8, 600),
        ((4, 2), (600.0, 100.0), 4, 100),
        ((4, 2), (600.0, None), 6, 600),
        ((4, 2), (600.0, None), 8, None),
        ((4,), (-5.0,), 8, 0),
    ],
    ids=["empty", "fits now", "one end", "first of two", "enough known", "not enough known", "overdue"],
)
def test_when_it_starts_at_the_latest(
    held: tuple[int, ...], limits: tuple[float | None, ...], gpus: int, seconds: float | None
) -> None:
    expected: datetime | None = None if seconds is None else START + timedelta(seconds=seconds)
    assert starts_at(place("a", 8, *held, limits=limits), gpus, START) == expected


def test_a_reservation_says_what_is_missing() -> None:
    (only,) = made([BIG], [place("a", 8, 4, 2, limits=(600.0, 60.0))])
    assert (only.gpu_count, only.gpus_missing) == (8, 6)
    assert only.starts_at == START + timedelta(seconds=600)


@pytest.mark.parametrize(
    ("agents", "timed", "jobs", "expected"),
    [(8, 8, 8, 1), (64, 8, 8, 8), (64, 4, 8, 1), (64, 0, 0, 1), (3, 3, 3, 1), (0, 1, 1, 1)],
)
def test_how_many(agents: int, timed: int, jobs: int, expected: int) -> None:
    assert most(agents, timed=timed, jobs=jobs) == expected
