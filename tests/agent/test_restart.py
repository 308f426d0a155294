"""Agents that stop, are killed, and come back: jobs do not notice, and no byte is lost or doubled."""

import asyncio
import hashlib
import random
import signal
import stat
from functools import partial
from pathlib import Path

import pytest

from chisel_agent.identity import AlreadyRunning
from chisel_shared.contract.job import EndReason, JobState
from chisel_shared.contract.messages import AttemptRef
from tests.agent.facts import alive, until
from tests.agent.world import SLEEP, World, folder_of, make_world, ready
from tests.support.backends import Nats

COUNTER = """
import sys, time
for n in range(3000):
    print(f"line {n:06}", "x" * 80)
    if n % 10 == 0:
        time.sleep(0.01)
"""
COUNTED = b"".join(b"line %06d " % n + b"x" * 80 + b"\n" for n in range(3000))


async def printed(world: World, ref: AttemptRef, count: int) -> None:
    """Return when at least `count` bytes of the job's output are stored."""

    async def enough() -> bool:
        return len((await world.output(ref))[0]) >= count

    await until(enough)


async def test_an_agent_killed_again_and_again_loses_nothing_of_a_job(world: World) -> None:
    server = world.process()
    server.start()
    try:
        ref = await world.scheduler.submit(world.python(COUNTER + "sys.exit(6)"))
        for step in range(1, 4):
            await printed(world, ref, step * 40_000)
            await asyncio.to_thread(server.kill)
            server.start()
        end = await world.scheduler.end_of(ref)
    finally:
        server.stop()
    assert (end.reason, end.exit_code) == (EndReason.EXIT, 6)
    assert (await world.output(ref))[0] == COUNTED
    assert end.stdout_sha256 == hashlib.sha256(COUNTED).hexdigest()
    assert '"level": "error"' not in server.log.read_text()


async def test_a_job_that_ends_while_no_agent_is_there_is_reported_by_the_next(world: World) -> None:
    async with world.agent():
        ref = await world.scheduler.submit(world.python("import time; time.sleep(0.5); print('done')"))
        await world.scheduler.state(ref, JobState.RUNNING)
    await until(lambda: (folder_of(world, ref) / "exit").exists())
    assert ref not in world.scheduler.ends
    async with world.agent():
        end = await world.scheduler.end_of(ref)
        assert world.scheduler.hellos[-1].adopt == (ref,)
    assert (end.reason, end.exit_code) == (EndReason.EXIT, 0)
    assert (await world.output(ref))[0] == b"done\n"


async def test_an_adopted_job_keeps_its_gpus_and_can_be_cancelled(world: World) -> None:
    async with world.agent():
        ref = await world.scheduler.submit(world.python(SLEEP), gpus=4)
        await ready(world, ref)
    before = len(world.scheduler.claims)
    async with world.agent():
        which = world.python("import os; print(os.environ['CUDA_VISIBLE_DEVICES'])")
        other = await world.scheduler.submit(which, gpus=4)
        await world.scheduler.end_of(other)
        assert (await world.output(other))[0] == b"4,5,6,7\n"
        assert max(claim.gpus_free for claim in world.scheduler.claims[before:]) == 4
        await world.scheduler.ask_to_cancel(ref)
        assert (await world.scheduler.end_of(ref)).reason is EndReason.USER


async def test_the_states_are_told_once_over_a_restart(world: World) -> None:
    async with world.agent():
        ref = await world.scheduler.submit(world.python(SLEEP))
        await world.scheduler.state(ref, JobState.RUNNING)
        await until(lambda: b"running" in (folder_of(world, ref) / "journal").read_bytes())
    async with world.agent():
        await world.scheduler.ask_to_cancel(ref)
        await world.scheduler.end_of(ref)
    assert [state for _, state in world.scheduler.progress] == [JobState.PREPARING, JobState.RUNNING]


async def test_what_the_scheduler_no_longer_counts_as_ours_is_killed_on_return(world: World) -> None:
    async with world.agent():
        ref = await world.scheduler.submit(world.python("import os; print(os.getpid())\n" + SLEEP))
        await ready(world, ref)
    pid = int((await world.output(ref))[0].split()[0])
    assert alive(pid)
    world.scheduler.held.clear()
    async with world.agent():
        await until(lambda: not alive(pid))
        await until(lambda: not folder_of(world, ref).exists())
    assert ref not in world.scheduler.ends


async def test_what_had_not_begun_is_forgotten_by_the_next_agent(world: World) -> None:
    world.gateway.stall = asyncio.Event()
    server = world.process()
    server.start()
    try:
        ref = await world.scheduler.submit(world.python("print('never')"))
        await world.scheduler.state(ref, JobState.PREPARING)
        await asyncio.to_thread(server.kill)
        world.gateway.stall.set()
        server.start()
        await world.scheduler.until(lambda: len(world.scheduler.hellos) == 2)
        assert world.scheduler.hellos[-1].adopt == ()
        await until(lambda: not folder_of(world, ref).exists())
    finally:
        server.stop()


async def test_a_stop_hands_over_what_runs_and_gives_back_what_does_not(world: World) -> None:
    server = world.process()
    server.start()
    try:
        running = await world.scheduler.submit(world.python(SLEEP))
        await ready(world, running)
        world.gateway.stall = asyncio.Event()
        waiting = await world.scheduler.submit(world.python("print('elsewhere')"))
        await world.scheduler.state(waiting, JobState.PREPARING)
        assert await asyncio.to_thread(server.stop, signal.SIGTERM, seconds=5.0) == 0
        assert world.scheduler.hellos[-1].adopt == (running,), "the other may be given to anybody now"
        assert world.scheduler.renewals[-1].draining
        assert world.scheduler.renewals[-1].attempts == (running,)
        world.gateway.stall.set()
        server.start()
        await world.scheduler.until(lambda: len(world.scheduler.hellos) == 3)
        await world.scheduler.ask_to_cancel(running)
        assert (await world.scheduler.end_of(running)).reason is EndReason.USER
    finally:
        server.stop()
    assert '"level": "error"' not in server.log.read_text()


async def test_a_stop_may_wait_for_what_runs(world: World, tmp_path: Path) -> None:
    server = world.process(finish_seconds=60, drain_seconds=0.5)
    server.start()
    go = tmp_path / "go"
    code = f"import os, time\nprint('ready')\nwhile not os.path.exists({str(go)!r}): time.sleep(0.05)"
    ref = await world.scheduler.submit(world.python(code + "\nprint('done')"))
    await ready(world, ref)
    stopping = asyncio.create_task(asyncio.to_thread(server.stop, signal.SIGTERM, seconds=30.0))
    renewals = world.scheduler.renewals
    # It holds the job longer than a stop without one would take.
    await world.scheduler.until(lambda: sum(renewal.draining for renewal in renewals) > 3)
    later = await world.scheduler.submit(world.python("print('elsewhere')"))
    go.touch()
    assert await stopping == 0
    assert world.scheduler.ends[ref].exit_code == 0
    assert (await world.output(ref))[0] == b"ready\ndone\n"
    assert later not in world.scheduler.held


async def test_an_idle_agent_stops_quickly(world: World) -> None:
    server = world.process()
    server.start()
    await world.scheduler.until(lambda: bool(world.scheduler.claims))
    assert await asyncio.to_thread(server.stop, signal.SIGTERM, seconds=3.0) == 0


async def test_credentials_are_kept_and_joining_happens_once(world: World) -> None:
    for _ in range(2):
        async with world.agent():
            pass
    assert [path for path in world.gateway.asked if path.endswith("/join")] == ["/api/v1/agents/join"]
    kept = world.data_dir / "credentials.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(world.data_dir.stat().st_mode) == 0o700


async def test_the_join_token_may_come_late_in_a_file(world: World, tmp_path: Path) -> None:
    file = tmp_path / "token"
    async with asyncio.TaskGroup() as tasks:

        async def write_later() -> None:
            await until(lambda: (world.data_dir / "lock").exists())
            file.write_text("join-token\n")

        tasks.create_task(write_later())
        async with world.agent(token="", token_file=file):
            assert world.scheduler.hellos


async def test_a_second_agent_on_the_same_data_is_refused(world: World) -> None:
    async with world.agent():
        with pytest.raises(AlreadyRunning, match="another agent works with"):
            async with world.agent():
                pass


async def test_a_path_longer_than_a_socket_may_have_is_no_obstacle(world: World) -> None:
    world.data_dir = world.data_dir / ("long" * 20) / ("path" * 20)
    async with world.agent():
        ref = await world.scheduler.submit(world.python(SLEEP))
        await ready(world, ref)
        await world.scheduler.ask_to_cancel(ref)
        assert (await world.scheduler.end_of(ref)).reason is EndReason.USER


async def test_jobs_run_on_while_nats_is_away(own_nats: Nats, tmp_path: Path) -> None:
    async with make_world(own_nats, tmp_path) as world:
        async with world.agent():
            ref = await world.scheduler.submit(world.python(COUNTER))
            await printed(world, ref, 40_000)
            own_nats.kill()
            spool = folder_of(world, ref) / "stdout"
            size = spool.stat().st_size
            await until(lambda: spool.stat().st_size > size + 50_000)
            own_nats.start()
            end = await world.scheduler.end_of(ref)
        assert (await world.output(ref))[0] == COUNTED
        assert end.stdout_sha256 == hashlib.sha256(COUNTED).hexdigest()


async def test_a_wiped_stream_is_filled_again_from_the_spool(own_nats: Nats, tmp_path: Path) -> None:
    async with make_world(own_nats, tmp_path) as world:
        async with world.agent():
            ref = await world.scheduler.submit(world.python(COUNTER))
            await printed(world, ref, 40_000)
            own_nats.kill()
            own_nats.wipe()
            own_nats.start()
            await world.streams.ensure(max_bytes=1 << 30)
            await world.scheduler.end_of(ref)
        assert (await world.output(ref))[0] == COUNTED


JOBS = 20


async def test_an_agent_killed_at_any_moment_of_twenty_jobs_changes_nothing_about_them(
    world: World,
) -> None:
    world.scheduler.requeues = True
    chance = random.Random(20)
    server = world.process(gpus=f"sim:{JOBS}")
    server.start()
    try:
        spec = [world.python(COUNTER + f"sys.exit({n})") for n in range(JOBS)]
        refs = [await world.scheduler.submit(each) for each in spec]
        jobs = {ref.job_id: n for n, ref in enumerate(refs)}
        for moment in sorted(chance.randrange(JOBS * len(COUNTED)) for _ in range(6)):
            await until(partial(far, world, moment))
            await asyncio.to_thread(server.kill)
            server.start()
        await world.scheduler.until(lambda: len(world.scheduler.ends) == JOBS)
    finally:
        server.stop()
    for ref, end in world.scheduler.ends.items():
        assert (end.reason, end.exit_code) == (EndReason.EXIT, jobs[ref.job_id])
        assert end.stdout_sha256 == hashlib.sha256(COUNTED).hexdigest()
        assert (await world.output(ref))[0] == COUNTED
    assert '"level": "error"' not in server.log.read_text()


def far(world: World, size: int) -> bool:
    """Whether the jobs have printed as much together, or are over."""
    spools = world.data_dir.glob("attempts/*/stdout")
    return sum(spool.stat().st_size for spool in spools) >= size or len(world.scheduler.ends) == JOBS
