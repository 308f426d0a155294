"""The inner door, over real HTTP."""

import asyncio
import hashlib
import random
from io import BytesIO
from pathlib import Path

import msgspec
import pytest

from chisel_shared.contract.ids import Digest, JobId
from chisel_shared.contract.messages import Files, ListTraces
from chisel_shared.runtime.bus import NatsBus
from chisel_storage.service import sole_owner
from chisel_storage.store import Archived
from tests.support.storage import PROJECT, RunningStorage
from tests.support.waiting import until

DATA = random.Random(2).randbytes(2_500_000)
SHA256 = Digest(hashlib.sha256(DATA).hexdigest())
PACK = f"/packs/{PROJECT}/{SHA256}"


async def test_an_upload_that_is_cut_leaves_nothing(storage: RunningStorage, tmp_path: Path) -> None:
    host, port = storage.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"PUT {PACK} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer storage-token-of-the-tests\r\n"
    writer.write(f"{head}Content-Length: {len(DATA)}\r\n\r\n".encode() + DATA[:1_500_000])
    await writer.drain()
    incoming = tmp_path / "storage" / "incoming"
    await until(lambda: any(incoming.iterdir()))
    writer.transport.abort()
    await until(lambda: not any(incoming.iterdir()))
    async with storage.http() as http:
        assert (await http.get(PACK)).status == 404
        assert (await http.put(PACK, data=BytesIO(DATA))).status == 201


@pytest.mark.parametrize("token", ["", "wrong", "störage"])
async def test_only_the_gateway_gets_in(storage: RunningStorage, token: str) -> None:
    async with storage.http(token) as http:
        for method, path in (("GET", PACK), ("PUT", PACK), ("GET", "/ready"), ("GET", "/unknown")):
            answer = await http.request(method, path)
            assert answer.status == 401, path


async def test_traces_are_listed_and_the_later_upload_counts(storage: RunningStorage, bus: NatsBus) -> None:
    job = JobId("job-1")
    async with storage.http() as http:
        for attempt, name, data in ((1, "b.json", b"one"), (1, "a.json", b"two"), (2, "b.json", b"x" * 3)):
            for content in (b"earlier", data):
                put = await http.put(
                    f"/files/{job}/{attempt}/trace?path={name}&project={PROJECT}",
                    data=content,
                    headers={"X-Chisel-Sha256": hashlib.sha256(content).hexdigest()},
                )
                assert put.status == 201
        listed = (await bus.request(ListTraces(job_id=job))).traces
        assert [(t.attempt, t.name, t.size_bytes) for t in listed] == [
            (1, "a.json", 3),
            (1, "b.json", 3),
            (2, "b.json", 3),
        ]
        assert await (await http.get(f"/files/{job}/1/trace/{listed[0].sha256}")).read() == b"two"
        for other in (
            f"/files/{job}/3/trace/{listed[0].sha256}",
            f"/files/{job}/1/output/{listed[0].sha256}",
        ):
            assert (await http.get(other)).status == 404


async def test_outputs_keep_their_paths_and_modes(storage: RunningStorage, bus: NatsBus) -> None:
    job = JobId("job-3")
    async with storage.http() as http:
        for path, mode, content in (
            ("b/é #?&%2e.txt", "plain", b"two"),
            ("run", "executable", b"two"),
            ("a", "link", b"run"),
            ("b/é #?&%2e.txt", "plain", b""),
        ):
            put = await http.put(
                f"/files/{job}/1/output",
                params={"path": path, "mode": mode, "project": PROJECT},
                data=content,
                headers={"X-Chisel-Sha256": hashlib.sha256(content).hexdigest()},
            )
            assert put.status == 201
        files = msgspec.json.decode(await (await http.get(f"/files/{job}/1/output")).read(), type=Files).files
        assert [(file.path, file.mode, file.size_bytes) for file in files] == [
            ("a", "link", 3),
            ("b/é #?&%2e.txt", "plain", 0),
            ("run", "executable", 3),
        ]
        part = await http.get(f"/files/{job}/1/output/{files[2].sha256}", headers={"Range": "bytes=1-"})
        assert (part.status, await part.read()) == (206, b"wo")
        assert (await (await http.get(f"/files/{job}/2/output")).json()) == {"files": []}
        assert (await bus.request(ListTraces(job_id=job))).traces == ()


@pytest.mark.parametrize(
    ("kind", "query", "digest"),
    [
        ("trace", {"path": "../x", "project": PROJECT}, SHA256),
        ("trace", {"path": ".hidden", "project": PROJECT}, SHA256),
        ("trace", {"path": "folder/x.json", "project": PROJECT}, SHA256),
        ("trace", {"path": "a.json"}, SHA256),
        ("trace", {"path": "a.json", "project": PROJECT}, "abc"),
        ("output", {"path": "", "project": PROJECT}, SHA256),
        ("output", {"path": "/etc/passwd", "project": PROJECT}, SHA256),
        ("output", {"path": "a/../../x", "project": PROJECT}, SHA256),
        ("output", {"path": "a", "project": PROJECT, "mode": "device"}, SHA256),
    ],
)
async def test_a_file_with_a_path_that_is_none_is_refused(
    storage: RunningStorage, kind: str, query: dict[str, str], digest: str
) -> None:
    async with storage.http() as http:
        headers = {"X-Chisel-Sha256": digest}
        put = await http.put(f"/files/job-4/1/{kind}", params=query, data=BytesIO(DATA), headers=headers)
        assert put.status == 400
        assert (await (await http.get(f"/files/job-4/1/{kind}")).json()) == {"files": []}


async def test_archived_output_is_served_from_an_offset_up_to_what_is_recorded(
    storage: RunningStorage,
) -> None:
    job = JobId("job-2")
    async with storage.http() as http:
        assert (await http.get(f"/outputs/{job}/1/stdout")).status == 404
        storage.outputs.append(job, 1, "stdout", at=0, data=DATA)
        await storage.store.record(job, 1, Archived(stdout=2_000_000))
        for offset in (0, 1, 1_999_999, 2_000_000, 3_000_000):
            answer = await http.get(f"/outputs/{job}/1/stdout?offset={offset}")
            assert await answer.read() == DATA[offset:2_000_000]
        for path in (f"/outputs/{job}/1/stdout?offset=-1", f"/outputs/{job}/1/stdin"):
            assert (await http.get(path)).status == 400
        assert (await http.get(f"/outputs/{job}/1/stderr")).status == 404
        assert (await http.get(f"/outputs/{job}/0/stdout")).status == 404


async def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    entered = asyncio.Event()

    async def second() -> None:
        async with sole_owner(tmp_path):
            entered.set()

    async with sole_owner(tmp_path):
        waiting = asyncio.create_task(second())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(entered.wait()), 0.3)
    await asyncio.wait_for(waiting, 2)
