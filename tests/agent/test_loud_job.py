"""A job that prints as fast as it can while the bus is slow, or away: it waits, and nobody else does."""

import hashlib
import os
import re
import signal
from pathlib import Path

from chisel_shared.contract.messages import AttemptRef
from chisel_shared.runtime.output import Follower
from tests.agent.facts import until
from tests.agent.world import World, folder_of, make_world
from tests.support.backends import Nats
from tests.support.output import Received
from tests.support.processes import Server

BACKLOG = 8 << 20
LOUD = "import os; os.execvp('yes', ['yes'])"
QUIET = """
import os, sys, time
for n in range(400):
    print("line", n)
    time.sleep(0.005)
while not os.path.exists(sys.argv[1]): time.sleep(0.01)
for n in range(400, 500):
    print("line", n)
"""


def peak_mib(pid: int) -> float:
    """The most memory that a process has held at once."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


async def test_a_job_that_prints_at_full_speed_waits_for_the_bus_and_others_do_not(
    own_nats: Nats, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    async with make_world(own_nats, tmp_path) as world:
        agent = world.process(backlog_bytes=BACKLOG)
        agent.start()
        try:
            loud = await world.scheduler.submit(world.python(LOUD))
            spool = folder_of(world, loud) / "stdout"
            await until(lambda: spool.exists() and spool.stat().st_size > 2 * BACKLOG)
            quiet = await world.scheduler.submit(world.python(QUIET, argv=("python", "main.py", str(go))))
            await begun(world, quiet)

            own_nats.kill()
            await stands_still(spool)
            size, written = spool.stat().st_size, folder_of(world, quiet) / "stdout"
            await until(lambda: b"line 399\n" in written.read_bytes())
            assert spool.stat().st_size == size, "it did not wait"
            shipped = sum(int(word) for word in (folder_of(world, loud) / "shipped").read_bytes().split())
            # What the agent has last said is shipped, and a piece of either stream.
            assert size <= shipped + BACKLOG + (1 << 20)

            own_nats.start()
            go.touch()
            end = await world.scheduler.end_of(quiet)
            await until(lambda: spool.stat().st_size > size + 2 * BACKLOG)  # it goes on too
            shim = int((folder_of(world, loud) / "running").read_bytes())
            assert isinstance(own_nats.server, Server)
            os.kill(own_nats.server.pid, signal.SIGSTOP)
            await stands_still(spool)
            os.kill(own_nats.server.pid, signal.SIGCONT)
            peaks = peak_mib(agent.pid), peak_mib(shim)
            await world.scheduler.ask_to_cancel(loud)
            loud_end = await world.scheduler.end_of(loud)
        finally:
            agent.stop()
        assert end.exit_code == 0
        assert (await world.output(quiet))[0] == b"".join(b"line %d\n" % n for n in range(500))
        whole = (b"y\n" * (loud_end.stdout_bytes // 2 + 1))[: loud_end.stdout_bytes]
        assert loud_end.stdout_sha256 == hashlib.sha256(whole).hexdigest()
        assert await stored_sha256(world, loud) == loud_end.stdout_sha256
        assert peaks[0] <= 150, peaks
        assert peaks[1] <= 40, peaks


async def begun(world: World, ref: AttemptRef) -> None:
    async def printed() -> bool:
        return b"line 9\n" in (await world.output(ref))[0]

    await until(printed)


async def stored_sha256(world: World, ref: AttemptRef) -> str:
    prefix = f"out.{world.scheduler.agent_id}.{ref.job_id}.{ref.attempt}"
    received = Received()
    async for chunk in Follower(streams=world.streams, subject_prefix=prefix, offsets={}).chunks():
        received.take(chunk.stream, chunk.offset, chunk.data)
    return received.sha256()


async def stands_still(spool: Path) -> None:
    """Return when a file has not grown over many looks."""
    seen: list[int] = []

    def still() -> bool:
        seen.append(spool.stat().st_size)
        return len(seen) > 60 and len(set(seen[-60:])) == 1

    await until(still)
