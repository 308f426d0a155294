"""Ending a job before its own end: somebody cancels it in each of its phases, or a limit is reached."""

import asyncio
from pathlib import Path

import pytest

from chisel_shared.contract.job import EndReason, JobState
from tests.agent.facts import until
from tests.agent.world import SLEEP, World, folder_of, ready


async def test_cancelled_while_its_bundle_is_fetched(world: World) -> None:
    world.gateway.stall = asyncio.Event()
    async with world.agent():
        ref = await world.scheduler.submit(world.python("print('never')"))
        await world.scheduler.state(ref, JobState.PREPARING)
        await world.scheduler.ask_to_cancel(ref)
        end = await world.scheduler.end_of(ref)
        world.gateway.stall.set()
    assert (end.reason, end.exit_code, end.stdout_bytes) == (EndReason.USER, None, 0)


async def test_cancelled_before_it_said_that_it_prepares(world: World) -> None:
    """The wish to cancel came first: the answer to the first word of progress brings it."""
    world.gateway.stall = asyncio.Event()
    async with world.agent():
        ref = await world.scheduler.submit(world.python("print('never')"))
        world.scheduler.cancel.add(ref)
        end = await world.scheduler.end_of(ref)
        world.gateway.stall.set()
    assert end.reason is EndReason.USER


async def test_cancelled_while_requirements_are_installed(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # An installer that builds a project whose build takes for ever.
    setup = "import time, pathlib; pathlib.Path({mark!r}).touch(); time.sleep(600)"
    mark = tmp_path / "building"
    files = {
        "requirements.txt": "./slow",
        "slow/pyproject.toml": (
            '[build-system]\nrequires = []\nbuild-backend = "slow"\nbackend-path = ["."]\n'
        ),
        "slow/slow.py": setup.format(mark=str(mark)),
    }
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    async with world.agent():
        spec = world.python("", files=files, requirements="requirements.txt")
        ref = await world.scheduler.submit(spec)
        await until(lambda: mark.exists())
        await world.scheduler.ask_to_cancel(ref)
        end = await world.scheduler.end_of(ref)
    assert end.reason is EndReason.USER
    assert list((world.data_dir / "envs").iterdir()) == []


async def test_cancelled_while_it_runs(world: World) -> None:
    code = "import time\ntry:\n    print('ready'); time.sleep(600)\nfinally:\n    print('cleaned up')"
    async with world.agent():
        ref = await world.scheduler.submit(world.python(code))
        await ready(world, ref)
        await world.scheduler.ask_to_cancel(ref)
        end = await world.scheduler.end_of(ref)
    assert end.reason is EndReason.USER
    assert (await world.output(ref))[0] == b"ready\ncleaned up\n"


async def test_cancelled_by_a_renewal_when_the_direct_word_was_lost(world: World) -> None:
    async with world.agent():
        ref = await world.scheduler.submit(world.python(SLEEP))
        await world.scheduler.state(ref, JobState.RUNNING)
        world.scheduler.cancel.add(ref)
        assert (await world.scheduler.end_of(ref)).reason is EndReason.USER


async def test_a_script_that_ignores_it_is_killed(world: World) -> None:
    code = "import signal, time\nfor n in (2, 15): signal.signal(n, signal.SIG_IGN)\n" + SLEEP
    async with world.agent():
        ref = await world.scheduler.submit(world.python(code))
        await ready(world, ref)
        await world.scheduler.ask_to_cancel(ref)
        end = await world.scheduler.end_of(ref)
    assert (end.reason, end.signal) == (EndReason.USER, 9)


async def test_a_script_that_stops_its_shim_is_cancelled_all_the_same(world: World) -> None:
    code = "import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)\n" + SLEEP
    async with world.agent():
        ref = await world.scheduler.submit(world.python(code))
        await ready(world, ref)
        await world.scheduler.ask_to_cancel(ref)
        end = await world.scheduler.end_of(ref)
    assert end.reason is EndReason.USER


async def test_cancelled_after_its_own_end_it_keeps_that_end(world: World) -> None:
    code = "import os; open(os.environ['CHISEL_TRACE_DIR'] + '/t.json', 'w').write('{}')"
    async with world.agent():
        world.gateway.refuse = False
        ref = await world.scheduler.submit(world.python(code))
        await world.scheduler.state(ref, JobState.RUNNING)
        world.gateway.refuse = True  # its traces cannot be stored, so the end is not yet told
        await until(lambda: (folder_of(world, ref) / "exit").exists())
        await world.scheduler.ask_to_cancel(ref)
        world.gateway.refuse = False
        end = await world.scheduler.end_of(ref)
    assert (end.reason, end.exit_code) == (EndReason.EXIT, 0)


async def test_what_the_scheduler_calls_gone_is_killed_and_forgotten(world: World) -> None:
    async with world.agent():
        ref = await world.scheduler.submit(world.python(SLEEP), gpus=8)
        await ready(world, ref)
        world.scheduler.gone.add(ref)
        after = await world.scheduler.submit(world.python("print('after')"), gpus=8)
        assert (await world.scheduler.end_of(after)).exit_code == 0
        assert ref not in world.scheduler.ends
        assert not folder_of(world, ref).exists()


# Limits


async def test_the_jobs_own_time_limit(world: World) -> None:
    async with world.agent():
        ref = await world.scheduler.submit(world.python(SLEEP, time_limit_seconds=0.3))
        assert (await world.scheduler.end_of(ref)).reason is EndReason.TIME_LIMIT


async def test_a_restartable_job_ends_itself_when_its_lease_is_not_renewed(world: World) -> None:
    async with world.agent(renew_seconds=600):
        ref = await world.scheduler.submit(world.python(SLEEP, retries=1), lease_seconds=2)
        kept = await world.scheduler.submit(world.python(SLEEP), lease_seconds=2)
        assert (await world.scheduler.end_of(ref)).reason is EndReason.LEASE_EXPIRED
        assert kept in world.scheduler.held
        await world.scheduler.ask_to_cancel(kept)
        assert (await world.scheduler.end_of(kept)).reason is EndReason.USER


async def test_a_renewed_lease_keeps_a_restartable_job_alive(world: World) -> None:
    async with world.agent(renew_seconds=0.1):
        code = "import time; time.sleep(2.5); print('through')"
        ref = await world.scheduler.submit(world.python(code, retries=1), lease_seconds=1.5)
        assert (await world.scheduler.end_of(ref)).exit_code == 0
