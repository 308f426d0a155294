"""The draw of a campaign: the same seed is the same plan, and a plan is what its profile says."""

import msgspec
import pytest

from tests.chaos.draw import draw
from tests.chaos.plan import Kind, Plan, Script
from tests.chaos.profiles import LEASES_STAND_ON, PROFILES
from tests.chaos.schedule import clash, targets


@pytest.mark.parametrize("name", ["smoke", "middle"])
def test_a_seed_and_a_profile_are_one_plan(name: str) -> None:
    plan = draw(7, PROFILES[name])
    assert draw(7, PROFILES[name]) == plan != draw(8, PROFILES[name])
    assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_a_plan_has_as_much_as_its_profile_says(name: str) -> None:
    profile = PROFILES[name]
    plan = draw(1, profile)
    assert (len(plan.jobs), len(plan.faults)) == (profile.jobs, profile.faults)
    assert len({job.name for job in plan.jobs}) == profile.jobs
    assert {fault.target for fault in plan.faults} <= targets()
    assert list(plan.faults) == sorted(plan.faults, key=lambda fault: fault.at)
    assert plan.faults[-1].at < 1.5 * profile.seconds


def test_the_quick_campaign_kills_at_least_25_times_whatever_the_seed() -> None:
    kills = (Kind.KILL, Kind.QUIT, Kind.SHIM_KILL, Kind.HOST)
    for seed in range(50):
        assert sum(fault.kind in kills for fault in draw(seed, PROFILES["smoke"]).faults) >= 25


def test_the_long_campaign_is_of_the_size_that_is_claimed() -> None:
    plan = draw(1, PROFILES["full"])
    assert (len(plan.faults) >= 1_000, len(plan.jobs) >= 2_000) == (True, True)
    assert plan.faults[-1].at < 35 * 60
    assert {fault.kind for fault in plan.faults} == set(Kind)


def test_while_a_host_is_dead_nothing_keeps_its_leases_from_running_out() -> None:
    faults = draw(3, PROFILES["full"]).faults
    dead = [fault for fault in faults if fault.kind is Kind.HOST]
    assert dead
    for host in dead:
        for other in faults:
            if other.target in LEASES_STAND_ON:
                before = other.at + other.seconds + other.pause <= host.at
                assert before or other.at >= host.at + host.seconds


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (Kind.KILL, Kind.STOP, True),
        (Kind.KILL, Kind.HOLE, False),
        (Kind.HOLE, Kind.CUT, True),
        (Kind.SHIM_KILL, Kind.KILL, False),
        (Kind.SHIM_KILL, Kind.STOP, True),
        (Kind.HOST, Kind.SHIM_STOP, True),
        (Kind.FULL, Kind.FULL, True),
        (Kind.FULL, Kind.KILL, False),
    ],
)
def test_which_faults_may_meet(one: Kind, other: Kind, expected: bool) -> None:
    assert clash(one, other) is clash(other, one) is expected


def test_what_a_script_prints_first_is_the_beginning_of_what_it_prints() -> None:
    script = Script(name="j", key="k", stdout=1000, stderr=10)
    whole = script.printed("stdout")
    assert len(whole) == 1000
    assert whole.startswith(script.printed("stdout", 17))
    assert script.printed("stderr") != whole[:10]
