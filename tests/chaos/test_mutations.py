"""The test of the test: a service with a defect is found out, by the invariant that the defect breaks.

And a service without any is not: each scenario that is over quickly is played on the sound service first.
"""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos.defects import AGENTS, SCENARIOS, TIMES, Stage
from tests.chaos.mutated import DEFECTS
from tests.chaos.system import running_system
from tests.support.backends import short_folder

pytestmark = pytest.mark.e2e

SLOW = ("no self-kill", "leases for ever", "no fence")
"""Scenarios that wait for leases: the campaigns play them on the sound service."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with short_folder() as made:
        yield made


@pytest.fixture(scope="module")
def stage(folder: Path) -> Iterator[Stage]:
    switches, kept = folder / "switches", folder / "kept"
    for needed in (switches, kept):
        needed.mkdir()
    launcher = ("tests.chaos.mutated", str(switches))
    with ExitStack() as stack:
        place = stack.enter_context(short_folder())
        system = stack.enter_context(running_system(place, agents=AGENTS, times=TIMES, launcher=launcher))
        made = Stage(system, kept)
        stack.callback(made.campaign.history.close)
        asyncio.run(made.begin())
        yield made


def test_every_defect_has_its_scenario() -> None:
    assert set(SCENARIOS) == set(DEFECTS)


@pytest.mark.parametrize("name", [name for name in DEFECTS if name not in SLOW])
def test_the_sound_service_passes_in_the_scenario_of(name: str, stage: Stage) -> None:
    assert not asyncio.run(stage.play(name, defect=False))


@pytest.mark.parametrize("name", list(DEFECTS))
def test_the_checker_notices(name: str, stage: Stage, folder: Path) -> None:
    switch = folder / "switches" / name
    switch.touch()
    try:
        found = asyncio.run(stage.play(name, defect=True))
    finally:
        switch.unlink()
        asyncio.run(stage.settle())
    assert DEFECTS[name] in {violation.invariant for violation in found}, found
