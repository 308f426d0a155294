"""Which GPUs are given to whom: tables, no fixtures."""

import pytest

from chisel_agent.slots import NotFree, Slots


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ((4, 2, 1, 1), ((0, 1, 2, 3), (4, 5), (6,), (7,))),
        ((1, 2, 4), ((0,), (2, 3), (4, 5, 6, 7))),
        ((8,), ((0, 1, 2, 3, 4, 5, 6, 7),)),
        ((1, 1, 2, 4), ((0,), (1,), (2, 3), (4, 5, 6, 7))),
    ],
)
def test_neighbours_on_aligned_places_go_together(
    asked: tuple[int, ...], given: tuple[tuple[int, ...], ...]
) -> None:
    slots = Slots(tuple(range(8)))
    assert tuple(slots.allocate(n, count) for n, count in enumerate(asked)) == given


def test_scattered_ones_are_given_when_nothing_better_is_free() -> None:
    slots = Slots((0, 1, 2, 3))
    slots.adopt("a", (1,))
    slots.adopt("b", (2,))
    assert slots.allocate("c", 2) == (0, 3)


def test_too_few_change_nothing() -> None:
    slots = Slots((0, 1))
    slots.allocate("a", 1)
    with pytest.raises(NotFree):
        slots.allocate("b", 2)
    assert slots.free == (1,)


def test_release_frees_all_of_a_holder_and_twice_is_harmless() -> None:
    slots = Slots((3, 5, 7))
    assert slots.allocate("a", 2) == (3, 5)
    slots.release("a")
    slots.release("a")
    assert slots.free == (3, 5, 7)


def test_adopting_what_another_holds_is_refused_and_changes_nothing() -> None:
    slots = Slots((0, 1, 2))
    slots.adopt("a", (1,))
    with pytest.raises(NotFree):
        slots.adopt("b", (0, 1))
    assert slots.free == (0, 2)


def test_adopting_skips_a_gpu_that_is_no_longer_there() -> None:
    slots = Slots((0, 1))
    slots.adopt("a", (1, 9))
    assert slots.free == (0,)


def test_without_gpus_nothing_fits() -> None:
    slots = Slots(())
    assert slots.free == ()
    with pytest.raises(NotFree):
        slots.allocate("a", 1)
