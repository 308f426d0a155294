"""Traces that come packed and in parts: what is kept of a broken upload, and what is believed."""

import asyncio
import gzip
import hashlib
import os
import random
import time
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from types import MappingProxyType

import aiohttp
import pytest

from chisel_shared.contract.files import FileKind
from chisel_shared.contract.ids import Digest, JobId
from chisel_shared.contract.traces import TraceState
from chisel_storage.blobs import file_key
from tests.support.storage import PROJECT, TOKEN, RunningStorage
from tests.support.waiting import until

JOB = JobId("job-1")
RAW = random.Random(7).randbytes(5_000_000).hex().encode()
PACKED = gzip.compress(RAW, 1)


def sha256(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).hexdigest())


ADDRESS = f"/traces/{JOB}/1/{sha256(PACKED)}"
KEY = file_key(FileKind.TRACE, JOB, 1, sha256(PACKED))


def query(offset: int = 0, changes: Mapping[str, str | int] = MappingProxyType({})) -> dict[str, str]:
    known = {
        "name": "train.json",
        "project": PROJECT,
        "offset": offset,
        "size": len(PACKED),
        "raw_size": len(RAW),
        "raw_sha256": sha256(RAW),
    }
    return {name: str(value) for name, value in {**known, **changes}.items()}


def place(storage: RunningStorage, data: bytes) -> None:
    """Put a file where the blob is looked for."""
    found = Path(storage.blobs._root, KEY)
    found.parent.mkdir(parents=True)
    found.write_bytes(data)


async def have(http: aiohttp.ClientSession, address: str = ADDRESS) -> int:
    return int((await http.head(address)).headers["X-Chisel-Have"])


async def break_off(storage: RunningStorage, offset: int) -> int:
    """Send two megabytes from `offset` on, then vanish in the middle; how much is kept."""
    host, port = storage.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    words = "&".join(f"{name}={value}" for name, value in query(offset).items())
    head = f"PUT {ADDRESS}?{words} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    body = PACKED[offset : offset + 2_000_000]
    writer.write(f"{head}Content-Length: {len(PACKED) - offset}\r\n\r\n".encode() + body)
    await writer.drain()
    await until(lambda: storage.parts.size(KEY) > offset)
    writer.transport.abort()
    await until(lambda: KEY not in storage.parts._turns)
    return storage.parts.size(KEY)


async def test_an_upload_goes_on_where_it_broke_and_after_a_restart(storage: RunningStorage) -> None:
    kept = await break_off(storage, await break_off(storage, 0))
    assert 2_000_000 < kept < len(PACKED)
    assert (await storage.trace_store.traces(JOB)) == ()
    await storage.stop()
    await storage.start()
    async with storage.http() as http:
        assert await have(http) == kept
        put = await http.put(ADDRESS, params=query(kept), data=BytesIO(PACKED[kept:]))
        assert put.status == 201, await put.text()
        assert await have(http) == len(PACKED)
        # Whoever has not heard the answer asks again, and has nothing left to send.
        again = await http.put(ADDRESS, params=query(len(PACKED)))
        assert again.status == 201
    (trace,) = await storage.trace_store.traces(JOB)
    assert (trace.name, trace.state, trace.size_bytes, trace.sha256) == (
        "train.json", TraceState.READY, len(RAW), sha256(RAW),
    )  # fmt: skip
    assert (trace.stored_bytes, trace.stored_sha256) == (len(PACKED), sha256(PACKED))
    found = storage.blobs.find(KEY)
    assert found is not None
    assert found.read_bytes() == PACKED


async def test_a_blob_whose_row_was_not_written_is_found_again(storage: RunningStorage) -> None:
    """The service was killed between the two."""
    place(storage, PACKED)
    async with storage.http() as http:
        assert await have(http) == len(PACKED)
        assert (await http.put(ADDRESS, params=query(len(PACKED), {"raw_size": len(RAW) - 1}))).status == 400
        assert (await http.put(ADDRESS, params=query(len(PACKED)))).status == 201
        assert len(await storage.trace_store.traces(JOB)) == 1


async def test_a_garbled_blob_is_sent_anew(storage: RunningStorage) -> None:
    place(storage, bytes(len(PACKED)))
    async with storage.http() as http:
        assert (await http.put(ADDRESS, params=query(len(PACKED)))).status == 503
        assert await have(http) == 0


async def test_a_part_that_a_crash_garbled_is_sent_anew(storage: RunningStorage, tmp_path: Path) -> None:
    half = await break_off(storage, 0)
    (part,) = (tmp_path / "storage" / "parts").iterdir()
    part.write_bytes(PACKED[:100] + b"\0" * (half - 100))
    async with storage.http() as http:
        put = await http.put(ADDRESS, params=query(half), data=BytesIO(PACKED[half:]))
        assert put.status == 503
        assert await have(http) == 0
        assert (await http.put(ADDRESS, params=query(), data=BytesIO(PACKED))).status == 201


async def test_a_sender_who_knows_more_than_is_here_is_told(storage: RunningStorage) -> None:
    async with storage.http() as http:
        put = await http.put(ADDRESS, params=query(100), data=BytesIO(PACKED[100:]))
        assert (put.status, await have(http)) == (503, 0)
        assert "send it from there" in (await put.json())["error"]["message"]


async def test_a_second_connection_takes_an_upload_over(storage: RunningStorage) -> None:
    """The first one's sender is long gone, but nobody has told us."""
    host, port = storage.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    words = "&".join(f"{name}={value}" for name, value in query().items())
    head = f"PUT {ADDRESS}?{words} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    writer.write(f"{head}Content-Length: {len(PACKED)}\r\n\r\n".encode())
    await writer.drain()
    async with storage.http() as http:
        await until(lambda: KEY in storage.parts._turns)
        assert (await http.put(ADDRESS, params=query(), data=BytesIO(PACKED))).status == 201
    writer.write(PACKED)
    assert b" 503 " in await reader.readline()
    writer.close()


BOMB = gzip.compress(bytes(50_000_000), 9)


@pytest.mark.parametrize(
    ("data", "raw_size", "says"),
    [
        (BOMB, 1_000_000, "unpacks to more than the 1,000,000 bytes"),
        (PACKED, len(RAW) - 1, "unpacks to more than"),
        (PACKED, len(RAW) + 1, "is not what was promised"),
        (PACKED[:-1], len(RAW), "is not what was promised"),
        (PACKED + PACKED, len(RAW), "follows the end"),
        (b"no gzip at all", 14, "no gzip file"),
    ],
    ids=["bomb", "more", "less", "cut", "two", "none"],
)
async def test_what_is_packed_is_looked_into(
    storage: RunningStorage, data: bytes, raw_size: int, says: str
) -> None:
    address = f"/traces/{JOB}/1/{sha256(data)}"
    asked = query(changes={"size": len(data), "raw_size": raw_size})
    async with storage.http() as http:
        put = await http.put(address, params=asked, data=BytesIO(data))
        assert put.status == 400
        assert says in (await put.json())["error"]["message"]
        assert await have(http, address) == 0
    assert (await storage.trace_store.traces(JOB)) == ()


async def test_a_trace_may_come_as_it_is(storage: RunningStorage) -> None:
    address = f"/traces/{JOB}/1/{sha256(RAW)}"
    asked = {
        name: value for name, value in query(changes={"size": len(RAW)}).items() if not name.startswith("raw")
    }
    async with storage.http() as http:
        assert (await http.put(address, params=asked, data=BytesIO(RAW))).status == 201
    (trace,) = await storage.trace_store.traces(JOB)
    assert (trace.size_bytes, trace.sha256, trace.stored_sha256) == (len(RAW), sha256(RAW), "")


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../x.json"}, {"name": ".hidden"}, {"name": ""}, {"project": "Ü"}, {"offset": "-1"},
        {"size": ""}, {"raw_size": "x"}, {"raw_sha256": "abc"}, {"size": 5 << 30},
        {"raw_size": 5 << 30},
    ],
)  # fmt: skip
async def test_what_makes_no_sense_is_refused(storage: RunningStorage, change: dict[str, str | int]) -> None:
    async with storage.http() as http:
        put = await http.put(ADDRESS, params=query(changes=change), data=BytesIO(PACKED))
        assert put.status in (400, 413)
        assert await have(http) == 0
        assert (await http.head("/traces/job-1/1/abc")).status == 404


async def test_a_full_disk_keeps_what_has_come(
    storage: RunningStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = await break_off(storage, 0)
    monkeypatch.setattr(storage.blobs, "has_room", lambda: False)
    async with storage.http() as http:
        put = await http.put(ADDRESS, params=query(half), data=BytesIO(PACKED[half:]))
        assert (put.status, (await put.json())["error"]["code"]) == (507, "storage_full")
        assert await have(http) == half


async def test_a_part_that_nobody_goes_on_with_is_dropped(storage: RunningStorage, tmp_path: Path) -> None:
    await break_off(storage, 0)
    (part,) = (tmp_path / "storage" / "parts").iterdir()
    storage.parts.prepare()
    assert part.exists()
    os.utime(part, (0, time.time() - 4 * 86400))
    storage.parts.prepare()
    assert not part.exists()
