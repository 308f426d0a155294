"""Jobs that print more than is kept: those who follow hear of it, and all get head and tail once, whoever
is killed."""

import asyncio
import hashlib
import os
import signal
from contextlib import aclosing
from pathlib import Path

import pytest

from chisel_agent import shim_tail
from chisel_agent.launch import is_running
from chisel_shared.contract.job import EndReason, JobEnd, JobState
from chisel_shared.contract.messages import AttemptRef
from chisel_shared.runtime.live import Tail
from chisel_shared.runtime.output import Follower
from chisel_shared.runtime.streams import Chunk
from tests.agent.facts import until
from tests.agent.world import World, folder_of
from tests.support.waiting import until as soon

HEAD, TAIL = 300_000, 70_000
LINES = b"".join(b"line %08d\n" % n for n in range(100_000))
PRINT_LINES = """
import os, sys, time
for n in range(100_000):
    print("line %08d" % n)
"""
WAIT = "while not os.path.exists(sys.argv[1]): time.sleep(0.01)\n"


def shortened(data: bytes) -> bytes:
    notice = shim_tail.notice(len(data) - HEAD, TAIL, within_line=data[HEAD - 1] != 10)
    return data[:HEAD] + notice + data[-TAIL:]


async def reached(world: World, ref: AttemptRef, counted: int) -> None:
    """Return when the ring of the job's stdout has taken at least so many bytes."""

    def enough() -> bool:
        try:
            return int.from_bytes((folder_of(world, ref) / "stdout.tail").read_bytes()[:8], "big") >= counted
        except FileNotFoundError:
            return False

    await until(enough)


def whole(end: JobEnd, stdout: bytes, expected: bytes) -> bool:
    return (
        stdout == expected
        and end.stdout_bytes == len(expected)
        and end.stdout_sha256 == hashlib.sha256(expected).hexdigest()
    )


async def test_a_job_that_prints_too_much_goes_on_and_ends_by_itself(world: World) -> None:
    async with world.agent(output_head_bytes=HEAD, output_tail_bytes=TAIL):
        ref = await world.scheduler.submit(world.python(PRINT_LINES + "sys.exit(3)"))
        end = await world.scheduler.end_of(ref)
    assert (end.reason, end.exit_code, end.stderr_omitted) == (EndReason.EXIT, 3, 0)
    assert end.stdout_omitted == len(LINES) - HEAD - TAIL
    assert whole(end, (await world.output(ref))[0], shortened(LINES))


async def test_who_follows_hears_that_the_rest_comes_at_the_end(world: World, tmp_path: Path) -> None:
    go = tmp_path / "go"
    code = PRINT_LINES + WAIT
    got: list[Chunk] = []

    async def read(follower: Follower) -> None:
        async with aclosing(follower.chunks()) as chunks:
            async for chunk in chunks:
                got.append(chunk)

    async with world.agent(output_head_bytes=HEAD, output_tail_bytes=TAIL):
        ref = await world.scheduler.submit(world.python(code, argv=("python", "main.py", str(go))))
        prefix = f"out.{world.scheduler.agent_id}.{ref.job_id}.{ref.attempt}"
        tail = Tail()
        await tail.open(world.streams, f"{prefix}.*")
        reading = asyncio.create_task(
            read(Follower(streams=world.streams, subject_prefix=prefix, offsets={}, tail=tail))
        )
        await until(lambda: any(chunk.capped for chunk in got))
        assert [(chunk.offset, chunk.data) for chunk in got if chunk.capped] == [(HEAD, b"")]
        assert b"".join(chunk.data for chunk in got) == LINES[:HEAD]
        go.touch()
        end = await world.scheduler.end_of(ref)
        await asyncio.wait_for(reading, 20)
        await tail.close()
    assert sum(chunk.capped for chunk in got) == 1
    assert whole(end, b"".join(chunk.data for chunk in got if chunk.stream == "stdout"), shortened(LINES))


async def test_a_killed_shim_leaves_head_and_tail_too(world: World) -> None:
    async with world.agent(output_head_bytes=HEAD, output_tail_bytes=TAIL):
        ref = await world.scheduler.submit(world.python(PRINT_LINES + "time.sleep(600)"))
        await reached(world, ref, len(LINES) - HEAD)
        os.kill(int((folder_of(world, ref) / "running").read_bytes()), signal.SIGKILL)
        end = await world.scheduler.end_of(ref)
    assert end.reason is EndReason.AGENT_LOST
    assert end.stdout_omitted == len(LINES) - HEAD - TAIL
    assert whole(end, (await world.output(ref))[0], shortened(LINES))


async def test_a_shim_killed_in_the_middle_of_a_line_of_a_busy_job(world: World) -> None:
    code = "import os\nn = 0\nwhile True:\n    os.write(1, b'line %08d\\n' % n)\n    n += 1\n"
    lines = b"".join(b"line %08d\n" % n for n in range(3_000_000))
    async with world.agent(output_head_bytes=HEAD, output_tail_bytes=TAIL):
        ref = await world.scheduler.submit(world.python(code))
        await reached(world, ref, 500_000)
        os.kill(int((folder_of(world, ref) / "running").read_bytes()), signal.SIGKILL)
        end = await world.scheduler.end_of(ref)
    printed = HEAD + end.stdout_omitted + TAIL
    assert whole(end, (await world.output(ref))[0], shortened(lines[:printed]))


@pytest.mark.parametrize("cut", [20, 5_000])
async def test_both_killed_and_the_next_agent_ends_what_the_first_began(world: World, cut: int) -> None:
    """The shim, and the agent after it had put `cut` bytes behind the head."""
    settings = {"output_head_bytes": HEAD, "output_tail_bytes": TAIL}
    server = world.process(**settings)
    server.start()
    try:
        ref = await world.scheduler.submit(world.python(PRINT_LINES + "time.sleep(600)"))
        await world.scheduler.state(ref, JobState.RUNNING)
        await reached(world, ref, len(LINES) - HEAD)
        await until(lambda: b"running" in (folder_of(world, ref) / "journal").read_bytes())
        folder = folder_of(world, ref)
        await asyncio.to_thread(server.kill)
        os.kill(int((folder / "running").read_bytes()), signal.SIGKILL)
        await until(lambda: not is_running(folder))
        expected = shortened(LINES)
        with (folder / "stdout").open("ab") as spool:
            spool.write(expected[HEAD : HEAD + cut])
        server.start()
        end = await world.scheduler.end_of(ref)
    finally:
        server.stop()
    assert end.reason is EndReason.AGENT_LOST
    assert end.stdout_omitted == len(LINES) - HEAD - TAIL
    assert whole(end, (await world.output(ref))[0], expected)


async def test_a_stream_that_is_wiped_after_the_cap_is_filled_and_says_it_again(
    world: World, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    async with world.agent(output_head_bytes=HEAD, output_tail_bytes=TAIL):
        ref = await world.scheduler.submit(
            world.python(PRINT_LINES + WAIT, argv=("python", "main.py", str(go)))
        )
        subject = f"out.{world.scheduler.agent_id}.{ref.job_id}.{ref.attempt}.stdout"

        async def capped() -> bool:
            last = await world.streams.last(subject)
            return last is not None and last.capped and last.end == HEAD

        await until(capped)
        await world.streams.purge(subject)
        await soon(capped, seconds=30)
        go.touch()
        end = await world.scheduler.end_of(ref)
    assert whole(end, (await world.output(ref))[0], shortened(LINES))
