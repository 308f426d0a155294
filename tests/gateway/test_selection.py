"""Output from where it is wanted: the last lines, what is new, one stream, with times; live and archived."""

import asyncio
import time
from pathlib import Path

import pytest

from chisel_gateway.selection import line_starts
from chisel_shared.contract.errors import BadRequest
from chisel_shared.contract.frames import Begin, Failure, Follow, Position, Stamp
from chisel_shared.contract.job import EndReason, JobEnd
from chisel_shared.contract.outputs import Mark
from chisel_shared.runtime.streams import Chunk, Streams
from chisel_storage.archive import Place
from tests.gateway.backend import Backend
from tests.gateway.client import Socket, connected, submitted
from tests.gateway.conftest import Http
from tests.support.output import Received, Spool
from tests.support.storage import RunningStorage
from tests.support.waiting import until


async def printed(spool: Spool, streams: Streams, *pieces: tuple[str, bytes]) -> list[float]:
    """Let a job print, each piece a chunk of its own; when each was stored, by its reader's clock."""
    times = []
    async with spool.shipping(streams):
        for stream, data in pieces:
            spool.write(data, stream)
            subject = f"{spool.prefix}.{stream}"

            async def stored(subject: str = subject, stream: str = stream) -> bool:
                last = await streams.last(subject)
                return last is not None and last.end == spool.written[stream]

            await until(stored)
            times.append(time.time())
            await asyncio.sleep(0.02)  # so that the next one has another time, whatever the clock's grain
    return times


async def asked(http: Http, spool: Spool, **wanted: object) -> Socket:
    async with connected(http()) as socket:
        if isinstance(position := wanted.get("position"), Position):
            socket.received[1] = Received({"stdout": position.stdout, "stderr": position.stderr})
        await socket.say(Follow(job_id=spool.job_id, live=False, **wanted))  # type: ignore[arg-type]
        await socket.end()
        return socket


def shown(socket: Socket, stream: str = "stdout") -> bytes:
    return b"".join(socket.data.get((1, stream), []))


PIECES = (
    ("stdout", b"one\ntwo\n"),
    ("stderr", b"a warning\n"),
    ("stdout", b"thr"),
    ("stdout", b"ee\nfour\n"),
    ("stderr", b"another\n"),
    ("stdout", b"five"),
)


@pytest.fixture(params=["on the bus", "archived", "relieved"])
async def job(
    request: pytest.FixtureRequest, http: Http, streams: Streams, backend: Backend,
    storage: RunningStorage, tmp_path: Path,
) -> tuple[Spool, list[float]]:  # fmt: skip
    """A job that has printed `PIECES`, in every place where they can lie."""
    spool = Spool(tmp_path)
    async with connected(http()) as socket:
        await submitted(socket, http(), spool, follow=False)
    await backend.assign(spool)
    times = await printed(spool, streams, *PIECES[:4])
    place = Place(spool.agent_id, spool.job_id, 1)
    if request.param == "relieved":
        await storage.archiver.relieve(place)
    times += await printed(spool, streams, *PIECES[4:])
    if request.param == "archived":
        await spool.ship_all(streams)
        await backend.end(spool)
        end = JobEnd(
            reason=EndReason.EXIT, exit_code=0,
            stdout_bytes=spool.written["stdout"], stderr_bytes=spool.written["stderr"],
        )  # fmt: skip
        assert await storage.archiver.take_over(backend.add(spool.job_id, 1, spool.agent_id, end))
        await backend.change(spool.job_id, archived=True)
    return spool, times


@pytest.mark.parametrize(
    ("lines", "stdout", "stderr"),
    [
        (0, b"", b""),
        (1, b"five", b""),
        (2, b"five", b"another\n"),
        (3, b"four\nfive", b"another\n"),
        (4, b"three\nfour\nfive", b"another\n"),
        (5, b"three\nfour\nfive", b"a warning\nanother\n"),
        (7, b"one\ntwo\nthree\nfour\nfive", b"a warning\nanother\n"),
        (100, b"one\ntwo\nthree\nfour\nfive", b"a warning\nanother\n"),
    ],
)
async def test_the_last_lines_of_both_streams(
    http: Http, job: tuple[Spool, list[float]], lines: int, stdout: bytes, stderr: bytes
) -> None:
    socket = await asked(http, job[0], tail=lines)
    assert (shown(socket), shown(socket, "stderr")) == (stdout, stderr)


async def test_the_last_lines_of_one_stream(http: Http, job: tuple[Spool, list[float]]) -> None:
    socket = await asked(http, job[0], tail=1, streams=("stderr",))
    assert (shown(socket), shown(socket, "stderr")) == (b"", b"another\n")


async def test_what_came_since_a_moment(http: Http, job: tuple[Spool, list[float]]) -> None:
    spool, times = job
    for index, stdout, stderr in (
        (0, b"three\nfour\nfive", b"a warning\nanother\n"),
        (1, b"three\nfour\nfive", b"another\n"),
        (3, b"five", b"another\n"),
        (4, b"five", b""),
        (5, b"", b""),
    ):
        socket = await asked(http, spool, since=times[index])
        assert (shown(socket), shown(socket, "stderr")) == (stdout, stderr), index
    socket = await asked(http, spool, since=-600.0)
    assert shown(socket) == b"one\ntwo\nthree\nfour\nfive"
    socket = await asked(http, spool, since=times[1], tail=1)
    assert (shown(socket), shown(socket, "stderr")) == (b"five", b"")


async def test_every_part_is_stamped_with_when_it_came(http: Http, job: tuple[Spool, list[float]]) -> None:
    spool, times = job
    socket = await asked(http, spool, timestamps=True, streams=("stdout",))
    assert shown(socket) == b"one\ntwo\nthree\nfour\nfive"
    stamps = [frame.time for frame in socket.frames if isinstance(frame, Stamp)]
    assert stamps == sorted(stamps)
    distinct = sorted(set(stamps))
    assert len(distinct) == 4  # one a chunk
    for stamp, stored in zip(distinct, (times[0], times[2], times[3], times[5]), strict=True):
        assert stored - 1.0 < stamp <= stored + 0.1


async def test_a_position_is_not_moved_by_a_wish_for_what_is_new(
    http: Http, job: tuple[Spool, list[float]]
) -> None:
    """Who lost the connection and comes back has told how far it got."""
    socket = await asked(http, job[0], since=job[1][5], position=Position(attempt=1, stdout=4))
    assert shown(socket) == b"two\nthree\nfour\nfive"
    assert not [frame for frame in socket.frames if isinstance(frame, Begin)]


async def test_a_follow_without_output_tells_of_the_end_only(
    http: Http, streams: Streams, backend: Backend, tmp_path: Path
) -> None:
    spool = Spool(tmp_path)
    async with connected(http()) as socket:
        await submitted(socket, http(), spool, follow=False)
        await backend.assign(spool)
        await socket.say(Follow(job_id=spool.job_id, output=False))
        await printed(spool, streams, ("stdout", b"nobody asked\n"))
        await spool.ship_all(streams)
        await backend.end(spool, exit_code=3)
        end = await socket.end()
        assert end.job.end is not None
        assert (end.job.end.exit_code, socket.received) == (3, {})


@pytest.mark.parametrize("wrong", [{"tail": -1}, {"tail": 10**9}, {"streams": ("stdin",)}, {"since": 1e300}])
async def test_wishes_that_make_no_sense(
    http: Http, job: tuple[Spool, list[float]], wrong: dict[str, object]
) -> None:
    async with connected(http()) as socket:
        await socket.say(Follow(job_id=job[0].job_id, **wrong))  # type: ignore[arg-type]
        assert (await socket.until(Failure)).code == BadRequest.code


def chunk(offset: int, data: bytes, moment: float) -> Chunk:
    return Chunk(stream="stdout", offset=offset, data=data, sequence=1, time=moment)


@pytest.mark.parametrize(
    ("chunks", "starts"),
    [
        ([], []),
        ([chunk(0, b"", 1)], []),
        ([chunk(0, b"a", 1)], [(0, 1)]),
        ([chunk(0, b"a\n", 1)], [(0, 1)]),
        ([chunk(0, b"a\n", 1), chunk(2, b"b\n\n", 2)], [(0, 1), (2, 2), (4, 2)]),
        ([chunk(5, b"x\ny", 1)], [(7, 1)]),  # what was before is not known
        ([chunk(5, b"x\n", 1), chunk(7, b"y", 2)], [(7, 2)]),
        ([chunk(0, b"a\nb\n", 1), chunk(2, b"b\nc\n", 2)], [(0, 1), (2, 1), (4, 2)]),  # overlapping
        ([chunk(0, b"\n\n", 1)], [(0, 1), (1, 1)]),
    ],
)
def test_where_lines_begin(chunks: list[Chunk], starts: list[tuple[int, float]]) -> None:
    assert list(line_starts(chunks)) == [Mark(offset=offset, time=moment) for offset, moment in starts]
