"""The draw: from a seed and a profile to a plan. Pure."""

import random
from collections.abc import Callable

from msgspec.structs import replace

from tests.chaos.plan import Client, Job, Plan, Script, Upload
from tests.chaos.profiles import AGENTS, Profile
from tests.chaos.schedule import Schedule

_SIGNALS = (6, 9, 11, 15)
_EXIT_CODES = (1, 2, 3, 42, 77, 130, 137, 255)

Dice = random.Random


def draw(seed: int, profile: Profile) -> Plan:
    """The plan of this seed: the same one every time."""
    dice = random.Random(seed)
    faults = Schedule(dice, profile).faults()
    return Plan(
        seed=seed,
        profile=profile.name,
        times=profile.times,
        agents=AGENTS,
        jobs=_jobs(dice, seed, profile),
        uploads=_uploads(dice, seed, profile),
        faults=faults,
        rest=profile.rest,
    )


# Jobs


def _quick(dice: Dice, script: Script, profile: Profile) -> Job:
    return Job(at=0, shape="quick", script=replace(script, seconds=0.05))


def _silent(dice: Dice, script: Script, profile: Profile) -> Job:
    return Job(at=0, shape="silent", script=replace(script, seconds=_seconds(dice), stdout=0, stderr=0))


def _steady(dice: Dice, script: Script, profile: Profile) -> Job:
    return Job(at=0, shape="steady", script=replace(script, seconds=_seconds(dice), pieces=40))


def _loud(dice: Dice, script: Script, profile: Profile) -> Job:
    size = int(profile.largest * dice.uniform(0.3, 1.0))
    return Job(at=0, shape="loud", script=replace(script, stdout=size, seconds=_seconds(dice), pieces=12))


def _long(dice: Dice, script: Script, profile: Profile) -> Job:
    seconds = dice.uniform(1.0, 2.2) * profile.times.lease
    return Job(at=0, shape="long", script=replace(script, seconds=seconds, pieces=50))


def _retried(dice: Dice, script: Script, profile: Profile) -> Job:
    seconds = dice.uniform(0.3, 1.8) * profile.times.lease
    return Job(
        at=0,
        shape="retried",
        retries=dice.choice((1, 2, 5)),
        script=replace(script, seconds=seconds, pieces=30),
    )


def _failing(dice: Dice, script: Script, profile: Profile) -> Job:
    script = replace(script, exit_code=dice.choice(_EXIT_CODES), seconds=_seconds(dice), pieces=4)
    return Job(at=0, shape="failing", script=script)


def _signalled(dice: Dice, script: Script, profile: Profile) -> Job:
    return Job(
        at=0,
        shape="signalled",
        script=replace(script, signal=dice.choice(_SIGNALS), seconds=_seconds(dice), pieces=4),
    )


def _parent(dice: Dice, script: Script, profile: Profile) -> Job:
    return Job(at=0, shape="parent", script=replace(script, children=True, seconds=_seconds(dice), pieces=5))


def _cancelled(dice: Dice, script: Script, profile: Profile) -> Job:
    script = replace(
        script,
        seconds=dice.uniform(2.0, 6.0),
        pieces=60,
        stubborn=dice.random() < 0.4,
        children=dice.random() < 0.4,
    )
    return Job(
        at=0,
        shape="cancelled",
        script=script,
        cancel_after=dice.uniform(0.0, 3.0),
        retries=dice.choice((0, 0, 1)),
    )


def _limited(dice: Dice, script: Script, profile: Profile) -> Job:
    script = replace(script, seconds=30.0, pieces=300, stubborn=dice.random() < 0.3)
    return Job(at=0, shape="limited", script=script, time_limit=dice.uniform(0.5, 2.0))


def _keeping(dice: Dice, script: Script, profile: Profile) -> Job:
    script = replace(script, outputs=dice.randrange(1, profile.largest), seconds=_seconds(dice))
    return Job(at=0, shape="keeping", script=script)


_SHAPES: dict[Callable[[Dice, Script, Profile], Job], float] = {
    _quick: 14,
    _silent: 4,
    _steady: 16,
    _loud: 8,
    _long: 8,
    _retried: 14,
    _failing: 6,
    _signalled: 5,
    _parent: 7,
    _cancelled: 9,
    _limited: 4,
    _keeping: 5,
}
_CLIENTS = {Client.POST: 70, Client.TWICE: 14, Client.COMMAND: 9, Client.REATTACHED: 7}
_GPUS = {1: 62, 2: 22, 4: 11, 8: 5}


def _jobs(dice: Dice, seed: int, profile: Profile) -> tuple[Job, ...]:
    until = profile.submitting * profile.seconds
    times = sorted(dice.uniform(0.0, until) for _ in range(profile.jobs))
    jobs = []
    for number, at in enumerate(times):
        (shape,) = dice.choices(list(_SHAPES), list(_SHAPES.values()))
        (client,) = dice.choices(list(_CLIENTS), list(_CLIENTS.values()))
        (gpus,) = dice.choices(list(_GPUS), list(_GPUS.values()))
        script = Script(
            name=f"j{number:05d}",
            key=f"{seed} {number}",
            stdout=dice.choice((0, 1, 100, 5_000, 70_000)),
            stderr=dice.choice((0, 0, 1, 3_000)),
            secret=dice.random() < 0.3,
        )
        job = shape(dice, script, profile)
        if job.cancel_after is not None and client is Client.REATTACHED:
            client = Client.COMMAND
        jobs.append(replace(job, at=at, client=client, gpus=gpus, killed_after=dice.uniform(0.2, 2.5)))
    return tuple(jobs)


def _uploads(dice: Dice, seed: int, profile: Profile) -> tuple[Upload, ...]:
    count = max(4, profile.jobs // 8)
    times = sorted(dice.uniform(0.0, profile.seconds) for _ in range(count))
    uploads = []
    for number, at in enumerate(times):
        size = dice.choice((1, 1_000, 200_000, profile.largest))
        torn = dice.randrange(1, size) if size > 1 and dice.random() < 0.4 else 0
        uploads.append(Upload(at=at, key=f"{seed} upload {number}", size=size, torn=torn))
    return tuple(uploads)


def _seconds(dice: Dice) -> float:
    return dice.choice((0.1, 0.4, 1.0, 2.0, 3.0)) * dice.uniform(0.7, 1.3)
