"""What policy tells people: why a job waits, why one is refused, which quotas are none."""

from typing import Any

import pytest

from chisel_scheduler import validation
from chisel_scheduler.explain import Kept, Standing, over_quota, why_waiting
from chisel_scheduler.quota import Quota
from chisel_shared.contract.errors import BadRequest
from chisel_shared.contract.messages import SetQuota
from tests.scheduler.test_pure import place


def quota(gpus: int, held: int, *, of_project: bool = False) -> Quota:
    return Quota(name="vision" if of_project else "ada", of_project=of_project, gpus=gpus, held=held)


def kept(*, missing: int = 4, seconds: float | None = None) -> Kept:
    return Kept(name="a3", gpu_count=8, gpus_missing=missing, seconds=seconds)


ROOM = place("a3", 8, 4)


@pytest.mark.parametrize(
    ("gpus", "standing", "expected"),
    [
        (1, Standing(ahead=1, lighter=1, best=ROOM), "1 job ahead, of a user who had less lately"),
        (1, Standing(ahead=3, lighter=3, best=ROOM), "3 jobs ahead, all of users who had less lately"),
        (1, Standing(ahead=3, lighter=1, best=ROOM), "3 jobs ahead, 1 of users who had less lately"),
        (1, Standing(ahead=101, lighter=60, best=ROOM), "more than 100 jobs ahead"),
        (1, Standing(ahead=101, lighter=101, best=ROOM),
         "more than 100 jobs ahead, all of users who had less lately"),
        (1, Standing(quota=quota(8, 8), ahead=3, best=ROOM), "your quota of 8 GPUs is in use"),
        (1, Standing(quota=quota(1, 4)), "your quota of 1 GPU is in use"),
        (4, Standing(quota=quota(8, 6)), "your quota of 8 GPUs has 2 left"),
        (8, Standing(quota=quota(4, 0)),
         "your quota of 4 GPUs is smaller than this job; an admin can raise it"),
        (1, Standing(quota=quota(8, 8, of_project=True)), "the quota of project vision of 8 GPUs is in use"),
        (8, Standing(reserved=kept(seconds=700), best=ROOM), "reserved on a3, free in at most 12 min"),
        (8, Standing(reserved=kept(seconds=59), best=ROOM), "reserved on a3, free in at most a minute"),
        (8, Standing(reserved=kept(seconds=9_000), best=ROOM), "reserved on a3, free in at most 3 h"),
        (8, Standing(reserved=kept(), best=ROOM), "reserved on a3, free when 4 more GPUs are"),
        (8, Standing(reserved=kept(missing=1), best=ROOM), "reserved on a3, free when 1 more GPU is"),
        (8, Standing(reserved=kept(missing=0), best=ROOM), "reserved on a3, which is about to take it"),
        (8, Standing(ahead=2, reserved=kept(), best=ROOM),
         "2 jobs ahead; reserved on a3, free when 4 more GPUs are"),
        (1, Standing(best=ROOM, kept=kept()), "a3 is kept for a job of 8 GPUs"),
        (1, Standing(best=ROOM, kept=kept(seconds=630)),
         "a3 is kept for a job of 8 GPUs; with --time-limit 10m this one could run before it"),
        (1, Standing(best=ROOM, kept=kept(seconds=80)), "a3 is kept for a job of 8 GPUs"),
        (1, Standing(best=ROOM, kept=kept(seconds=90_000)), "a3 is kept for a job of 8 GPUs"),
        (8, Standing(best=ROOM, kept=kept()), "no agent with 8 free A100-80GB GPUs; 4 of 8 are free on a3"),
    ],
)  # fmt: skip
def test_why_policy_lets_a_job_wait(gpus: int, standing: Standing, expected: str) -> None:
    assert why_waiting("A100-80GB", gpus, standing, mine=True) == expected


def test_somebody_elses_quota_has_a_name() -> None:
    told = why_waiting("A100-80GB", 1, Standing(quota=quota(8, 8)))
    assert told == "the quota of ada of 8 GPUs is in use"


@pytest.mark.parametrize(
    ("over", "expected"),
    [
        (quota(4, 0),
         "you may have 4 GPUs at once and this job wants 8: ask for fewer, or let an admin raise it"
         " (chisel admin quota set ada --gpus 8)"),
        (quota(0, 0),
         "you may have no GPUs at once and this job wants 8: ask for fewer, or let an admin raise it"
         " (chisel admin quota set ada --gpus 8)"),
        (quota(1, 0, of_project=True),
         "project vision may have 1 GPU at once and this job wants 8: ask for fewer, or let an admin raise it"
         " (chisel admin quota set vision --project --gpus 8)"),
    ],
)  # fmt: skip
def test_why_a_job_is_over_its_quota(over: Quota, expected: str) -> None:
    assert over_quota(8, over) == expected


def set_quota(**changes: Any) -> SetQuota:
    return SetQuota(kind=changes.pop("kind", "user"), id="u1", name="ada", set_by="root", **changes)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "nothing to set"),
        ({"gpus": -1}, "gpus must be between 0 and 1,000,000, not -1"),
        ({"weight": 0.0}, "weight must be between 0.01 and 100, not 0"),
        ({"weight": float("nan")}, "weight must be between"),
        ({"weight": 1e9}, "weight must be between"),
        ({"kind": "agent", "gpus": 1}, "kind must be user or project"),
    ],
)
def test_bad_quotas(changes: dict[str, Any], sentence: str) -> None:
    validation.check_quota(set_quota(gpus=None))
    validation.check_quota(set_quota(gpus=0, weight=0.5))
    with pytest.raises(BadRequest) as raised:
        validation.check_quota(set_quota(**changes))
    assert sentence in str(raised.value)
