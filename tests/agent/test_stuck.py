"""What cannot be killed, because it waits in the kernel: nobody gets its GPUs, and everybody is told."""

import asyncio
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from chisel_agent import service
from chisel_agent.gpus import GpuProbe, Gpus
from chisel_agent.launch import is_running, read_exit, request_stop
from chisel_shared.contract.job import EndReason
from chisel_shared.contract.messages import AttemptRef
from tests.agent.facts import eventually, until
from tests.agent.shims import Job
from tests.agent.world import World, folder_of
from tests.support.stuck import Silence, silence


@pytest.fixture
def hole(tmp_path: Path) -> Iterator[Silence]:
    with silence(tmp_path) as made:
        yield made


def falls_in(hole: Silence) -> str:
    """A script whose child falls into the hole; it ends itself, when told to, with `status`."""
    return (
        "import os, sys, time\n"
        f"if os.fork() == 0: os.stat({str(hole.place / 'x')!r})\n"
        "print('ready', flush=True)\n"
        f"while not os.path.exists({str(hole.place.parent / 'go')!r}): time.sleep(0.01)\n"
    )


def go(hole: Silence) -> None:
    assert hole.asked.wait(30)
    (hole.place.parent / "go").touch()


def test_a_shim_says_what_it_could_not_kill_and_stays_until_it_has_gone(job: Job, hole: Silence) -> None:
    job.start(falls_in(hole) + "sys.exit(3)", stuck_seconds=0.2)
    go(hole)
    eventually(lambda: read_exit(job.folder) is not None)
    end = read_exit(job.folder)
    assert end is not None
    assert (end.reason, end.exit_code, len(end.survivors)) == ("exit", 3, 1)
    assert "state D" in end.detail
    assert is_running(job.folder)
    hole.end()
    assert job.end() == end
    assert not is_running(job.folder)


def test_so_it_does_when_it_is_the_script_itself(job: Job, hole: Silence) -> None:
    job.start(f"import os; os.stat({str(hole.place / 'x')!r})", stuck_seconds=0.2)
    assert hole.asked.wait(30)
    request_stop(job.folder, "user", at_once=True)
    eventually(lambda: read_exit(job.folder) is not None)
    end = read_exit(job.folder)
    assert end is not None
    assert (end.reason, end.exit_code, end.signal, len(end.survivors)) == ("user", None, None, 1)
    hole.end()
    job.end()


async def withheld(world: World, count: int) -> None:
    before = len(world.scheduler.renewals)
    await world.scheduler.until(
        lambda: (
            len(world.scheduler.renewals) > before and world.scheduler.renewals[-1].gpus_quarantined == count
        )
    )


async def held_back(world: World, ref: AttemptRef) -> None:
    """Return when a renewal has told that this attempt is held because of what it left."""
    told = world.scheduler.renewals
    await world.scheduler.until(lambda: bool(told) and ref.job_id in told[-1].quarantine)
    assert ref in told[-1].attempts
    assert told[-1].gpus_quarantined == 0, "they are counted as its own"
    assert ref not in world.scheduler.ends


async def test_its_gpus_are_given_to_nobody_until_it_has_gone(world: World, hole: Silence) -> None:
    async with world.agent(stuck_seconds=0.2, poll_seconds=0.1):
        ref = await world.scheduler.submit(world.python(falls_in(hole)), gpus=4)
        await asyncio.to_thread(go, hole)
        end = await world.scheduler.end_of(ref)
        assert (end.reason, end.exit_code) == (EndReason.EXIT, 0)
        assert "have not gone" in end.detail
        await withheld(world, 4)
        assert world.scheduler.renewals[-1].quarantine.startswith(f"GPU 0, 1, 2, 3 after job {ref.job_id}: ")
        assert world.scheduler.claims[-1].gpus_free == 4
    before = len(world.scheduler.claims)
    async with world.agent(stuck_seconds=0.2, poll_seconds=0.1):
        await withheld(world, 4)
        world.scheduler.archived.add(ref)  # its spool may go; what is withheld may not
        which = world.python("import os; print(os.environ['CUDA_VISIBLE_DEVICES'])")
        other = await world.scheduler.submit(which, gpus=4)
        await world.scheduler.end_of(other)
        assert (await world.output(other))[0] == b"4,5,6,7\n"
        assert {claim.gpus_free for claim in world.scheduler.claims[before:]} <= {0, 4}
        hole.end()
        await world.scheduler.until(lambda: world.scheduler.claims[-1].gpus_free == 8)
        await withheld(world, 0)
        await until(lambda: not folder_of(world, ref).exists())


async def test_a_job_that_may_run_again_is_not_given_up_before_it_has_gone(
    world: World, hole: Silence
) -> None:
    async with world.agent(stuck_seconds=0.2):
        spec = world.python(falls_in(hole) + "sys.exit(3)", retries=1, retry_on=("exit",))
        ref = await world.scheduler.submit(spec, gpus=4)
        await asyncio.to_thread(go, hole)
        await held_back(world, ref)
        hole.end()
        assert (await world.scheduler.end_of(ref)).exit_code == 3


async def test_neither_is_one_that_somebody_ended_because_that_may_be_a_drain(
    world: World, hole: Silence
) -> None:
    async with world.agent(stuck_seconds=0.2):
        ref = await world.scheduler.submit(world.python(falls_in(hole), retries=1))
        assert await asyncio.to_thread(hole.asked.wait, 30)
        await world.scheduler.ask_to_cancel(ref)
        await held_back(world, ref)
        hole.end()
        assert (await world.scheduler.end_of(ref)).reason is EndReason.USER


async def test_what_agent_and_shim_left_when_both_were_killed_is_still_held(
    world: World, hole: Silence
) -> None:
    server = world.process(stuck_seconds=0.2)
    server.start()
    try:
        ref = await world.scheduler.submit(world.python(falls_in(hole), retries=1), gpus=4)
        assert await asyncio.to_thread(hole.asked.wait, 30)
        shim = int((folder_of(world, ref) / "running").read_text())
        await asyncio.to_thread(server.kill)
        os.kill(shim, signal.SIGKILL)
        server.start()
        await world.scheduler.until(lambda: len(world.scheduler.hellos) == 2)
        assert world.scheduler.hellos[-1].adopt == (ref,)
        await held_back(world, ref)
        hole.end()
        end = await world.scheduler.end_of(ref)
    finally:
        server.stop()
    assert end.reason is EndReason.AGENT_LOST
    assert "have not gone" in end.detail


async def test_what_the_scheduler_calls_gone_is_withheld_too(world: World, hole: Silence) -> None:
    async with world.agent(stuck_seconds=0.2):
        ref = await world.scheduler.submit(world.python(falls_in(hole)), gpus=4)
        assert await asyncio.to_thread(hole.asked.wait, 30)
        world.scheduler.gone.add(ref)
        await withheld(world, 4)
        assert ref not in world.scheduler.renewals[-1].attempts
        hole.end()
        await withheld(world, 0)
        await until(lambda: not folder_of(world, ref).exists())


class Leaking:
    """GPUs whose driver keeps what a process had, until `freed`."""

    NOBODY = 1 << 22  # no process has such a number

    def __init__(self) -> None:
        self.freed = False

    def find(self) -> Gpus:
        return Gpus("A100-80GB", (0, 1))

    def processes(self, indices: tuple[int, ...]) -> Mapping[int, frozenset[int] | None]:
        return {index: frozenset() if self.freed else frozenset({self.NOBODY}) for index in indices}


async def test_a_gpu_that_is_not_empty_after_a_job_is_withheld(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Leaking()

    def probe_of(*_: object, **__: object) -> GpuProbe:
        return driver

    monkeypatch.setattr(service, "probe_of", probe_of)
    async with world.agent(stuck_seconds=0.2):
        ref = await world.scheduler.submit(world.python("print('done')"))
        assert (await world.scheduler.end_of(ref)).exit_code == 0, "its end is not delayed"
        await withheld(world, 1)
        assert f"GPU 0 still has {driver.NOBODY}" in world.scheduler.renewals[-1].quarantine
        second: AttemptRef = await world.scheduler.submit(world.python("print('done')"), gpus=2)
        driver.freed = True
        assert (await world.scheduler.end_of(second)).exit_code == 0
