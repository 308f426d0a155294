"""Who gets the claim: tables, then any queue and any agents."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chisel_scheduler.placement import Reservation, Room, Waiting, choose, ordered
from chisel_shared.contract.ids import AgentId, JobId, ProjectId, UserId
from tests.scheduler.actors import START

PATIENCE = 1.0


def waiting(
    name: str,
    gpus: int,
    *,
    order: int = 0,
    priority: int = 0,
    user: str = "u",
    age: float = 0.0,
    limit: float | None = None,
    level: float = 0.0,
) -> Waiting:
    return Waiting(
        id=JobId(name),
        user_id=UserId(user),
        project_id=ProjectId("p"),
        gpu_count=gpus,
        priority=priority,
        order=order,
        since=START - timedelta(seconds=age),
        time_limit_seconds=limit,
        level=level,
    )


def room(name: str, gpus: int, *, age: float = 60.0) -> Room:
    return Room(agent_id=AgentId(name), gpus_free=gpus, since=START - timedelta(seconds=age))


def chosen(
    gpus: int, queue: list[Waiting], others: list[Room] | None = None, **more: object
) -> tuple[str | None, tuple[str, ...]]:
    choice = choose(
        room("me", gpus), queue, others or [], START, patience_seconds=PATIENCE, **more  # type: ignore[arg-type]
    )  # fmt: skip
    return (choice.job.id if choice.job else None), choice.overtaken


ORDER = {
    "nothing waits": (8, [], None),
    "nothing fits": (1, [waiting("a", 2)], None),
    "submission order": (8, [waiting("b", 1, order=2), waiting("a", 1, order=1)], "a"),
    "priority before submission": (8, [waiting("a", 1, order=1), waiting("b", 1, order=2, priority=1)], "b"),
    "negative priority last": (8, [waiting("a", 1, order=1, priority=-1), waiting("b", 1, order=2)], "b"),
    "a large job first when it fits": (8, [waiting("a", 8, order=1), waiting("b", 1, order=2)], "a"),
    "exactly fits": (4, [waiting("a", 4)], "a"),
}


@pytest.mark.parametrize(("gpus", "queue", "expected"), ORDER.values(), ids=ORDER)
def test_order(gpus: int, queue: list[Waiting], expected: str | None) -> None:
    assert chosen(gpus, queue) == (expected, ())


def test_fair_share_goes_before_submission_and_after_priority() -> None:
    queue = [
        waiting("a", 1, order=1, level=4.0),
        waiting("b", 1, order=2, level=0.5),
        waiting("c", 1, order=3, level=4.0, priority=1),
    ]
    assert chosen(1, queue)[0] == "c"
    assert chosen(1, queue[:2])[0] == "b"
    assert [job.id for job in ordered(queue)] == ["c", "b", "a"]


def test_a_job_too_large_is_overtaken_by_name() -> None:
    queue = [waiting("big", 8, order=1), waiting("mid", 4, order=2), waiting("small", 1, order=3)]
    assert chosen(2, queue) == ("small", ("big", "mid"))
    assert chosen(8, queue) == ("big", ())


FIT = {
    "a smaller hole is better": (1, 0.0, [room("small", 1)], None),
    "an equal hole is not": (1, 0.0, [room("same", 8)], "a"),
    "a hole too small is none": (4, 0.0, [room("small", 2)], "a"),
    "patience is over": (1, 1.0, [room("small", 1)], "a"),
    "the smaller hole has only just opened": (1, 50.0, [room("small", 1, age=0.2)], None),
    "the smaller hole has been open for long": (1, 50.0, [room("small", 1, age=2.0)], "a"),
}


@pytest.mark.parametrize(("gpus", "age", "others", "expected"), FIT.values(), ids=FIT)
def test_best_fit(gpus: int, age: float, others: list[Room], expected: str | None) -> None:
    assert chosen(8, [waiting("a", gpus, age=age)], others)[0] == expected


def test_who_is_told_to_wait_is_told_how_long() -> None:
    queue = [waiting("a", 1, age=0.4)]
    choice = choose(room("me", 8), queue, [room("small", 1)], START, patience_seconds=PATIENCE)
    assert choice.ask_again_seconds == pytest.approx(0.6)
    later = START + timedelta(seconds=choice.ask_again_seconds or 0)
    assert choose(room("me", 8), queue, [room("small", 1)], later, patience_seconds=PATIENCE).job == queue[0]
    assert choose(room("me", 8), [], [], START, patience_seconds=PATIENCE).ask_again_seconds is None


def test_a_smaller_hole_is_left_only_as_many_jobs_as_it_has_room_for() -> None:
    queue = [waiting("a", 1, order=1), waiting("b", 1, order=2), waiting("c", 1, order=3)]
    assert chosen(8, queue, [room("two", 2)])[0] == "c"
    assert chosen(8, queue[:2], [room("two", 2)])[0] is None


def kept(agent: str, *, seconds: float | None = 60.0, missing: int = 4) -> Reservation:
    return Reservation(
        agent_id=AgentId(agent),
        job_id=JobId("big"),
        gpu_count=8,
        gpus_missing=missing,
        starts_at=None if seconds is None else START + timedelta(seconds=seconds),
    )


QUEUE = [
    waiting("endless", 1, order=1),
    waiting("long", 1, order=2, limit=45.0),
    waiting("short", 1, order=3, limit=30.0),
    waiting("big", 8, order=4),
]
RESERVED = {
    "another agent is kept": (4, kept("you"), "endless"),
    "only what surely ends before": (4, kept("me"), "short"),
    "nothing ends before": (4, kept("me", seconds=59.0), None),
    "nobody knows before what": (4, kept("me", seconds=None), None),
    "the job it is kept for goes before all others": (8, kept("me", seconds=0.0, missing=0), "big"),
}


@pytest.mark.parametrize(("gpus", "reserved", "expected"), RESERVED.values(), ids=RESERVED)
def test_a_reserved_agent_takes_its_job_and_what_ends_before(
    gpus: int, reserved: Reservation, expected: str | None
) -> None:
    assert chosen(gpus, QUEUE, reservations=[reserved])[0] == expected


def test_a_smaller_hole_that_is_kept_for_another_is_no_better_place() -> None:
    small = room("small", 1, age=0.0)
    assert chosen(4, QUEUE[:1], [small])[0] is None
    assert chosen(4, QUEUE[:1], [small], reservations=[kept("small")])[0] == "endless"


sizes = st.sampled_from([1, 2, 4, 8])
queues = st.lists(st.tuples(sizes, st.integers(-2, 2), st.floats(0, 5)), max_size=30)
fleets = st.lists(st.tuples(st.integers(0, 8), st.floats(0, 5)), min_size=1, max_size=6)


def _queue(drawn: list[tuple[int, int, float]]) -> list[Waiting]:
    return [
        waiting(f"j{n}", gpus, order=n, priority=priority, age=age)
        for n, (gpus, priority, age) in enumerate(drawn)
    ]


@given(queues, fleets)
def test_nobody_is_ever_given_more_than_is_free(
    drawn: list[tuple[int, int, float]], holes: list[tuple[int, float]]
) -> None:
    queue = _queue(drawn)
    free = {f"a{n}": gpus for n, (gpus, _) in enumerate(holes)}
    ages = {f"a{n}": age for n, (_, age) in enumerate(holes)}
    given_away: set[str] = set()
    for asker in list(free) * 20:
        others = [room(name, gpus, age=ages[name]) for name, gpus in free.items() if name != asker]
        choice = choose(
            room(asker, free[asker], age=ages[asker]), queue, others, START, patience_seconds=PATIENCE
        )
        if choice.job is None:
            continue
        assert choice.job.gpu_count <= free[asker]
        assert choice.job.id not in given_away
        given_away.add(choice.job.id)
        free[asker] -= choice.job.gpu_count
        queue = [job for job in queue if job.id != choice.job.id]


@given(queues, fleets)
def test_when_everybody_asks_nothing_that_fits_is_left_waiting(
    drawn: list[tuple[int, int, float]], holes: list[tuple[int, float]]
) -> None:
    """Whoever is refused for a better place is so only while that place can still ask."""
    queue = _queue(drawn)
    free = {f"a{n}": gpus for n, (gpus, _) in enumerate(holes)}
    later = START + timedelta(seconds=PATIENCE)
    moved = True
    while moved:
        moved = False
        for asker in free:
            others = [room(name, gpus, age=0) for name, gpus in free.items() if name != asker]
            choice = choose(room(asker, free[asker]), queue, others, later, patience_seconds=PATIENCE)
            if choice.job is not None:
                moved = True
                free[asker] -= choice.job.gpu_count
                queue.remove(choice.job)
    assert not any(job.gpu_count <= gpus for job in queue for gpus in free.values())


@given(queues, st.integers(1, 8))
def test_what_is_overtaken_was_ahead_and_did_not_fit(drawn: list[tuple[int, int, float]], gpus: int) -> None:
    queue = _queue(drawn)
    choice = choose(room("me", gpus), queue, [], START, patience_seconds=PATIENCE)
    by_id = {job.id: job for job in queue}
    for name in choice.overtaken:
        ahead = by_id[name]
        assert choice.job is not None
        assert ahead.gpu_count > gpus
        assert (-ahead.priority, ahead.order) < (-choice.job.priority, choice.job.order)
