"""Nothing survives a job, whatever it did to survive, by each way of keeping its processes together.

Without control groups nobody but its shim, or the factory that shims come from (`test_launch.py`), can tell
a killed shim's processes from others.
"""

import pytest

from chisel_agent import places, sandbox
from chisel_agent.launch import is_running, request_stop
from chisel_shared.contract.ids import JobId
from chisel_shared.contract.messages import AttemptRef
from tests.agent.conftest import COUNTED
from tests.agent.shims import Job
from tests.support import hydra

in_groups = pytest.mark.parametrize("job", [places.KILL, places.FREEZE, COUNTED], indirect=True)


@pytest.fixture
def monster(job: Job) -> Job:
    job.start(hydra.SCRIPT)
    job.printed(b"ready")
    assert hydra.is_alive(job.folder / "work")
    return job


def kill_shim(monster: Job) -> None:
    assert monster.process is not None
    monster.process.kill()
    monster.process.wait()
    assert not is_running(monster.folder)
    assert hydra.is_alive(monster.folder / "work")


def test_nothing_survives_the_end_of_the_script(monster: Job) -> None:
    (monster.folder / "work/go").touch()
    assert monster.end().exit_code == 0
    assert not hydra.is_alive(monster.folder / "work")


def test_nothing_survives_a_stop(monster: Job) -> None:
    request_stop(monster.folder, "user", at_once=True)
    assert monster.end().reason == "user"
    assert not hydra.is_alive(monster.folder / "work")


@in_groups
def test_nothing_survives_when_the_shim_is_killed(monster: Job) -> None:
    kill_shim(monster)
    ref = AttemptRef(job_id=JobId(monster.id), attempt=1)
    assert not sandbox.end_leftovers(monster.folder, ref, within_seconds=30)
    assert not hydra.is_alive(monster.folder / "work")


@in_groups
def test_a_new_agent_sweeps_what_a_killed_one_and_a_killed_shim_left(monster: Job) -> None:
    kill_shim(monster)
    sandbox.sweep(monster.places)
    assert not hydra.is_alive(monster.folder / "work")
