"""T: a trace of 64 MB on its way, by HTTP as it goes and as chunks of the output protocol, and what a line of
live output waits meanwhile.

`python -m tests.bench.t_traces [REPEATS]`, on services of its own. A second process is the running job: it
stores a line every 20 ms and measures how long each takes to be stored. What travels is noise, so that
packing plays no part. By the bus the trace is only stored on the bus: that storage has to read it from there
and write it once more is left out, in favour of the bus.
"""

import asyncio
import hashlib
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import msgspec

from chisel_agent.gateway import Gateway
from chisel_agent.outgoing import OutgoingTrace
from chisel_agent.packing import pieces
from chisel_shared.contract.ids import Digest, JobId, new_id
from chisel_shared.contract.messages import AgentCredentials, AttemptRef
from chisel_shared.runtime.bus import nats_connection
from chisel_shared.runtime.output import Shipper
from chisel_shared.runtime.streams import Streams, attempt_subject
from tests.bench.figures import Figure, percentile, table
from tests.support.cluster import Cluster, running_cluster

TRACE_BYTES = 64_000_000
_EVERY_SECONDS = 0.02
_QUIET_SECONDS = 3.0


class Lines:
    """The other process, which stores lines; `delays` are those between two moments."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._found: list[tuple[float, float]] = []
        self._reading = asyncio.create_task(self._read(), name="lines")

    @classmethod
    async def start(cls, known: AgentCredentials) -> "Lines":
        here = [sys.executable, "-m", "tests.bench.t_traces", "lines"]
        facts = msgspec.json.encode(known).decode()
        process = await asyncio.create_subprocess_exec(*here, facts, stdout=asyncio.subprocess.PIPE)
        return cls(process)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            at, delay = line.split()
            self._found.append((float(at), float(delay)))

    def delays(self, begin: float, end: float) -> list[float]:
        return [delay for at, delay in self._found if begin <= at <= end]

    async def stop(self) -> None:
        self._process.kill()
        await self._process.wait()
        await self._reading


async def lines(known: AgentCredentials) -> None:
    """Be the other process: store a line every 20 ms, print when, and how many milliseconds it took."""
    access = {"user": known.nats_user, "password": known.nats_password, "inbox": "_INBOX_agent"}
    async with nats_connection(known.nats_url, name="lines", **access) as connection:
        streams = Streams(connection)
        subject = attempt_subject(known.agent_id, JobId(new_id()), 1, "stdout")
        after = offset = 0
        while True:
            begin = time.monotonic()
            after = await streams.append(subject, b"x" * 80, offset=offset, after=after)
            took = time.monotonic() - begin
            offset += 80
            sys.stdout.write(f"{begin} {1000 * took}\n")
            sys.stdout.flush()
            await asyncio.sleep(max(0.0, _EVERY_SECONDS - took))


async def by_bus(known: AgentCredentials, path: Path) -> None:
    access = {"user": known.nats_user, "password": known.nats_password, "inbox": "_INBOX_agent"}
    async with nats_connection(known.nats_url, name="trace", **access) as connection:
        subject = attempt_subject(known.agent_id, JobId(new_id()), 1, "stdout")
        shipper = Shipper(streams=Streams(connection), subject=subject, spool=path)
        shipper.finish(TRACE_BYTES)
        await shipper.run()


async def by_http(known: AgentCredentials, path: Path, url: str, ref: AttemptRef) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        digest = await asyncio.to_thread(_digest, path)

        def read(offset: int) -> AsyncIterator[bytes]:
            return pieces(descriptor, offset, TRACE_BYTES)

        trace = OutgoingTrace(
            name=f"{digest[:8]}.json", size=TRACE_BYTES, digest=digest, raw=None, pieces=read
        )
        async with aiohttp.ClientSession() as session:
            gateway = Gateway(url=url, session=session)
            gateway.authenticate(known.key)
            await gateway.store_trace(ref, trace, await gateway.trace_bytes(ref, trace))
    finally:
        os.close(descriptor)


def _write(path: Path, data: bytes) -> None:
    """On the disk when this returns: its writing is not what is measured."""
    with path.open("wb") as file:
        file.write(data)
        os.fsync(file.fileno())


def _digest(path: Path) -> Digest:
    with path.open("rb") as file:
        return Digest(hashlib.file_digest(file, "sha256").hexdigest())


async def measured(cluster: Cluster, ref: AttemptRef, repeats: int) -> list[Figure]:
    credentials = cluster.folder / "agent-agent" / "credentials.json"
    known = msgspec.json.decode(credentials.read_bytes(), type=AgentCredentials)
    other = await Lines.start(known)
    found: dict[str, tuple[list[float], list[float], list[float]]] = {}
    chance = random.Random(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "trace")
            ways: dict[str, Callable[[], Awaitable[None]]] = {
                "nothing": lambda: asyncio.sleep(_QUIET_SECONDS),
                "HTTP": lambda: by_http(known, path, cluster.url, ref),
                "the bus": lambda: by_bus(known, path),
            }
            for _ in range(repeats):
                for name, way in ways.items():
                    await asyncio.to_thread(_write, path, chance.randbytes(TRACE_BYTES))
                    await asyncio.sleep(1.0)
                    begin = time.monotonic()
                    await way()
                    end = time.monotonic()
                    await asyncio.sleep(0.3)  # until the last line of that time is heard of
                    delays = other.delays(begin, end)
                    speeds, middles, tails = found.setdefault(name, ([], [], []))
                    speeds.append(TRACE_BYTES / 1e6 / (end - begin))
                    middles.append(percentile(delays, 0.5))
                    tails.append(percentile(delays, 0.99))
    finally:
        await other.stop()
    figures = []
    for name, (speeds, middles, tails) in found.items():
        if name != "nothing":
            figures.append(
                Figure(letter="T", what=f"a trace of 64 MB by {name}", unit="MB/s", values=tuple(speeds))
            )
        what = f"a line beside {name}"
        figures.append(Figure(letter="T", what=f"{what}, p50", unit="ms", values=tuple(middles)))
        figures.append(Figure(letter="T", what=f"{what}, p99", unit="ms", values=tuple(tails)))
    return figures


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with running_cluster(agents={"agent": 1}) as cluster, tempfile.TemporaryDirectory() as folder:
        Path(folder, "job.py").write_text("import time; print('up', flush=True); time.sleep(600)\n")
        running = cluster.spawn(["python", "-a", "beside", "job.py"], cwd=Path(folder))
        running.wait_for_output(b"up\n")
        ref = AttemptRef(job_id=JobId(cluster.job("beside")["id"]), attempt=1)
        print(table(asyncio.run(measured(cluster, ref, repeats))))
        cluster.run(["cancel", ref.job_id])
        running.finish()


if __name__ == "__main__":
    if sys.argv[1:2] == ["lines"]:
        asyncio.run(lines(msgspec.json.decode(sys.argv[2], type=AgentCredentials)))
    else:
        main()
