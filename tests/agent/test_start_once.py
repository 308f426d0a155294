"""A job starts once, however many shims try, and wherever the first of them was killed."""

import subprocess
from pathlib import Path

import pytest

from chisel_agent import sandbox
from chisel_agent.launch import Plan, is_running, make_spools, read_exit, shim_command, write_plan
from chisel_shared.contract.ids import JobId
from chisel_shared.contract.messages import AttemptRef
from tests.agent.facts import eventually
from tests.agent.shims import PYTHON, Job

REFUSED = 3

STEPS = {
    "holds the lock": "shim_factory.Shim.__init__ = die",
    "forked the job's process": "shim_factory.run = die",
    "wrote its group": "after('cgroup')",
    "wrote that it runs": "after('running')",
    "let the job go": "Child.release = released(Child.release)",
}
BEFORE_USER_CODE = ("holds the lock", "forked the job's process", "wrote its group")

DIES = """
import os
from chisel_agent import shim, shim_factory
from chisel_agent.shim_child import Child
def die(*_): os.kill(os.getpid(), 9)
def after(name):
    write = shim.write_file
    def write_file(path, data):
        write(path, data)
        if path == name: die()
    shim.write_file = write_file
def released(release):
    def call(*args):
        release(*args)
        die()
    return call
"""


def prepare(job: Job) -> list[str]:
    code = "open('ran', 'a').write('x')"
    plan = Plan(
        argv=(PYTHON, "-c", code),
        env={"PATH": "/usr/bin:/bin", "CHISEL_JOB_ID": job.id, "CHISEL_ATTEMPT": "1"},
        cwd=job.folder / "work",
    )
    write_plan(job.folder, plan)
    make_spools(job.folder)
    return [*shim_command(Path(PYTHON), job.places), str(job.folder)]


def runs(job: Job) -> int:
    ran = job.folder / "work/ran"
    return len(ran.read_text()) if ran.exists() else 0


def test_of_shims_that_start_together_one_runs_the_job(job: Job) -> None:
    command = prepare(job)
    shims = [subprocess.Popen(command, start_new_session=True) for _ in range(4)]
    assert sorted(shim.wait(60) for shim in shims) == [0, REFUSED, REFUSED, REFUSED]
    assert runs(job) == 1


@pytest.mark.parametrize("step", STEPS)
def test_a_shim_killed_between_its_steps_leaves_a_job_that_runs_once_or_never(job: Job, step: str) -> None:
    command = prepare(job)
    begin = "from chisel_agent.shim_factory"
    boot = command[4].replace(begin, f"{DIES}\n{STEPS[step]}\n{begin}")
    killed = subprocess.Popen([*command[:4], boot, *command[5:]], start_new_session=True)
    assert killed.wait(60) == -9
    eventually(lambda: not is_running(job.folder))
    again = [subprocess.Popen(command, start_new_session=True) for _ in range(2)]
    codes = sorted(shim.wait(60) for shim in again)
    if step in BEFORE_USER_CODE:
        assert codes == [0, REFUSED]
        assert runs(job) == 1
        end = read_exit(job.folder)
        assert end is not None
        assert end.exit_code == 0
    else:
        assert codes == [REFUSED, REFUSED]
        assert not sandbox.end_leftovers(
            job.folder, AttemptRef(job_id=JobId(job.id), attempt=1), within_seconds=30
        )
    sandbox.sweep(job.places)  # the killed one had a group of which nobody knows
    assert runs(job) <= 1
