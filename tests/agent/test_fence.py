"""What is not ours any more ends before anybody else may start it."""

import os
import signal
from pathlib import Path

import pytest

from chisel_agent.fence import lease_end, to_end
from chisel_shared.contract.ids import JobId
from chisel_shared.contract.job import EndReason
from chisel_shared.contract.messages import AttemptRef, Renewed
from tests.agent.facts import until
from tests.agent.world import SLEEP, World, folder_of, ready


@pytest.mark.parametrize(("lease", "early"), [(30.0, 6.0), (60.0, 12.0), (600.0, 30.0), (86_400.0, 30.0)])
def test_the_fence_comes_before_the_lease_that_was_granted_at_the_earliest(
    lease: float, early: float
) -> None:
    assert lease_end(1000.0, lease) == 1000.0 + lease - early


A, B, C, D = (AttemptRef(job_id=JobId(name), attempt=1) for name in "abcd")


@pytest.mark.parametrize(
    ("answer", "ended"),
    [
        (Renewed(renewed=(A, B)), set()),
        (Renewed(renewed=(A,), cancel=(B,)), set()),
        (Renewed(renewed=(A,), gone=(B,)), {B}),
        (Renewed(renewed=(A,)), {B}),
        (Renewed(), {A, B}),
        (Renewed(renewed=(A, B, C), gone=(D,)), set()),
    ],
)
def test_what_an_answer_does_not_leave_to_us_is_ended(answer: Renewed, ended: set[AttemptRef]) -> None:
    assert to_end((A, B), answer) == ended


async def test_what_a_renewal_does_not_name_is_killed_and_forgotten(world: World) -> None:
    async with world.agent():
        ref = await world.scheduler.submit(world.python(SLEEP), gpus=8)
        await ready(world, ref)
        world.scheduler.unnamed.add(ref)
        after = await world.scheduler.submit(world.python("print('after')"), gpus=8)
        assert (await world.scheduler.end_of(after)).exit_code == 0
        assert ref not in world.scheduler.ends
        await until(lambda: not folder_of(world, ref).exists())


async def test_a_job_taken_back_before_its_agent_was_heard_never_runs(world: World, tmp_path: Path) -> None:
    world.scheduler.hears_progress.clear()
    witness = tmp_path / "ran"
    async with world.agent():
        ref = await world.scheduler.submit(world.python(f"open({str(witness)!r}, 'w').close()"))
        beside = await world.scheduler.submit(world.python("import time; time.sleep(0.2)"))
        assert (await world.scheduler.end_of(beside)).exit_code == 0  # so long it had, and did not run
        assert not witness.exists()
        world.scheduler.held.discard(ref)
        world.scheduler.hears_progress.set()
        await until(lambda: not folder_of(world, ref).exists())
    assert not witness.exists()


async def test_what_has_ended_is_told_even_when_a_renewal_calls_it_gone(world: World) -> None:
    """The scheduler may have heard of the end and its answer be lost: what follows the end must not be."""
    code = "import os; open(os.environ['CHISEL_TRACE_DIR'] + '/t.json', 'w').write('{}')"
    async with world.agent():
        ref = await world.scheduler.submit(world.python(code))
        await until(lambda: (folder_of(world, ref) / "running").exists())
        world.gateway.refuse = True
        await until(lambda: (folder_of(world, ref) / "exit").exists())
        world.scheduler.gone.add(ref)
        before = len(world.scheduler.renewals)
        await world.scheduler.until(lambda: len(world.scheduler.renewals) > before + 1)
        world.gateway.refuse = False
        assert (await world.scheduler.end_of(ref)).exit_code == 0
        await until(lambda: (ref.job_id, 1, "t.json") in world.gateway.traces)


async def test_limits_hold_though_somebody_stops_the_shim(world: World) -> None:
    code = "import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)\n" + SLEEP
    async with world.agent(renew_seconds=600):
        limited = await world.scheduler.submit(world.python(code, time_limit_seconds=0.5))
        leased = await world.scheduler.submit(world.python(code, retries=1), lease_seconds=2)
        assert (await world.scheduler.end_of(limited)).reason is EndReason.TIME_LIMIT
        assert (await world.scheduler.end_of(leased)).reason is EndReason.LEASE_EXPIRED


async def test_a_new_agent_continues_a_shim_that_was_stopped_while_there_was_none(world: World) -> None:
    async with world.agent(renew_seconds=600):
        ref = await world.scheduler.submit(world.python(SLEEP, retries=1), lease_seconds=4)
        await ready(world, ref)
        shim = int((folder_of(world, ref) / "running").read_text())
    os.kill(shim, signal.SIGSTOP)
    async with world.agent(renew_seconds=600):
        assert (await world.scheduler.end_of(ref)).reason is EndReason.LEASE_EXPIRED
