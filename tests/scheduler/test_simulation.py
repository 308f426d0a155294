"""What policy does to a pool at 90 % load over 40 hours, simulated with the real functions.

The seeds are the first ones; `python -m tests.bench.p_policy` prints twenty, and what each of them gave.
"""

from dataclasses import replace
from functools import cache

import pytest

from tests.scheduler.simulation import Outcome, World, quantile, simulate

SEEDS = (1, 2, 3)
TIMED, UNTIMED = World(timed=1.0), World()
UNRESERVED = World(reserve_after_minutes=None, hours=22)


@cache
def outcome(world: str, seed: int) -> Outcome:
    return simulate({"timed": TIMED, "untimed": UNTIMED, "unreserved": UNRESERVED}[world], seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_with_time_limits_large_jobs_wait_little_and_small_ones_no_longer(seed: int) -> None:
    found = outcome("timed", seed)
    assert found.wait(8, 0.5) <= 25
    assert found.wait(1, 0.95) <= 12
    assert found.utilisation >= 0.89


@pytest.mark.parametrize("seed", SEEDS)
def test_without_time_limits_hardly_longer(seed: int) -> None:
    """Nobody knows when a kept agent is free: the median of large jobs may be some minutes more."""
    found = outcome("untimed", seed)
    assert found.wait(8, 0.5) <= 30
    assert found.wait(1, 0.95) <= 12
    assert found.utilisation >= 0.885


def test_without_reservations_large_jobs_starve() -> None:
    """The twin: the bounds above hold because of reservations."""
    assert outcome("unreserved", 1).wait(8, 0.5) > 2 * 25


@pytest.mark.parametrize("world", ["timed", "untimed"])
def test_no_user_starves(world: str) -> None:
    """The heaviest of twelve users has three and a half times what the lightest has, and waits longer for
    it; but every job of every user starts within a morning."""
    for seed in SEEDS:
        for user, waits in outcome(world, seed).waits_of_users.items():
            assert quantile(waits, 0.5) <= 10, user
            assert max(waits) <= 6 * 60, user


def test_who_asks_for_less_waits_less_than_who_asks_for_more() -> None:
    light = replace(TIMED, users={"heavy": 0.9, "light": 0.1}, load=1.2, hours=5)
    waits = simulate(light, 1).waits_of_users
    assert quantile(waits["light"], 0.5) < quantile(waits["heavy"], 0.5) / 4


def test_quotas_are_never_exceeded_and_hinder_nobody_else() -> None:
    world = replace(TIMED, users={"bound": 0.5, "free": 0.5}, quotas={"bound": 6}, hours=8, load=0.6)
    found = simulate(world, 1)
    assert found.most_held["bound"] <= 6 < found.most_held["free"]
    assert quantile(found.waits_of_users["bound"], 0.5) > 60  # it has work for twice as many
    assert quantile(found.waits_of_users["free"], 0.95) <= 12


def test_a_seed_gives_the_same_every_time() -> None:
    short = replace(UNTIMED, hours=2)
    assert simulate(short, 7) == simulate(short, 7)
