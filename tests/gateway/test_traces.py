"""Traces through the door: their states, their files packed and unpacked, and what was read off them."""

import gzip
import hashlib
import random
from io import BytesIO
from typing import Any

import aiohttp
import pytest

from chisel_gateway.service import Gateway
from chisel_gateway.storage import takes_gzip
from chisel_gateway.traces import after, not_read, not_stored
from chisel_shared.contract.ids import AgentId, Digest
from chisel_shared.contract.job import EndReason, JobEnd
from chisel_shared.contract.messages import Capture, ReportCaptures, TraceView
from chisel_shared.contract.traces import Reading, TraceState
from chisel_shared.runtime.bus import NatsBus
from tests.gateway.backend import AGENT, OTHER_AGENT, READER, STRANGER, Backend
from tests.gateway.conftest import Http
from tests.gateway.test_api import JOB, asked, view
from tests.support.storage import RunningStorage
from tests.support.waiting import until

EVENTS = ",\n".join(
    f'{{"ph": "X", "cat": "kernel", "name": "k{n % 7}", "pid": 0, "tid": 7, "ts": {10 * n}, "dur": 5,'
    f' "args": {{"device": 0, "stream": 7, "correlation": {n}, "grid": [1, 1, 1], "block": [32, 1, 1]}}}},\n'
    f'{{"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "pid": 1, "tid": 1,'
    f' "ts": {10 * n - 3}, "dur": 1, "args": {{"correlation": {n}}}}}'
    for n in range(1, 20_001)
)
RAW = f'{{"schemaVersion": 1, "traceEvents": [\n{EVENTS}\n]}}'.encode()
NOISE = random.Random(4).randbytes(1_000_000).hex().encode()
TRACES = f"/api/v1/jobs/{JOB}/traces"
AGENT_ID = AgentId("agent-1")


def digest_of(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).hexdigest())


def put_of(raw: bytes, *, name: str = "train.json", attempt: int = 1) -> tuple[str, dict[str, str], bytes]:
    """The address, the query and the body of an agent's upload."""
    packed = gzip.compress(raw, 1)
    query = {
        "name": name, "offset": "0", "size": str(len(packed)), "raw_size": str(len(raw)),
        "raw_sha256": digest_of(raw),
    }  # fmt: skip
    return f"/api/v1/agent/traces/{JOB}/{attempt}/{digest_of(packed)}", query, packed


async def store(http: Http, raw: bytes = RAW, **more: Any) -> bytes:
    address, query, packed = put_of(raw, **more)
    async with http(AGENT).put(address, params=query, data=BytesIO(packed)) as put:
        assert put.status == 201, await put.text()
    return packed


async def tell(bus: NatsBus, number: int, *captures: Capture, attempt: int = 1) -> None:
    told = ReportCaptures(agent_id=AGENT_ID, job_id=JOB, attempt=attempt, number=number, captures=captures)
    await bus.request(told)


async def listed(http: Http) -> list[dict[str, Any]]:
    status, body = await asked(http(), "GET", TRACES)
    assert status == 200
    return list(body["traces"])


@pytest.fixture(autouse=True)
async def attempt(backend: Backend) -> None:
    backend.put(view(attempt=1))
    backend.add(JOB, 1, AGENT_ID)


async def plain(session: aiohttp.ClientSession, path: str, **headers: str) -> tuple[Any, bytes]:
    """An answer as it travels, to one who names no encodings but these."""
    named = {"Accept-Encoding": "identity", **headers}
    async with session.get(path, headers=named) as answer:
        return answer, await answer.read()


# Files


async def test_a_trace_comes_unpacked_or_as_it_is_stored(http: Http, gateway: Gateway) -> None:
    packed = await store(http)
    answer, data = await plain(http(), f"{TRACES}/train.json", Range="bytes=5-9")
    assert (answer.status, data) == (200, RAW)  # no part of what is unpacked on its way
    assert answer.headers["X-Chisel-Sha256"] == digest_of(RAW)
    assert answer.headers["ETag"] == f'"{digest_of(RAW)}"'
    assert int(answer.headers["Content-Length"]) == len(RAW)
    assert "Content-Encoding" not in answer.headers
    raw = aiohttp.ClientSession(auto_decompress=False, headers=http().headers)
    async with raw, raw.get(f"{gateway.url}{TRACES}/train.json") as answer:
        assert (answer.status, await answer.read()) == (200, packed)
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.headers["X-Chisel-Sha256"] == digest_of(packed)
        assert answer.headers["ETag"] == f'"{digest_of(packed)}"'
    async with http().get(f"{TRACES}/train.json") as answer:  # by a client that unpacks by itself
        assert await answer.read() == RAW


async def test_a_packed_download_is_gone_on_with(http: Http, gateway: Gateway) -> None:
    packed = await store(http)
    url = f"{gateway.url}{TRACES}/train.json"
    async with aiohttp.ClientSession(auto_decompress=False, headers=http().headers) as raw:
        got = b""
        for start in range(0, len(packed), 50_000):
            named = {"Range": f"bytes={start}-{start + 49_999}", "If-Range": f'"{digest_of(packed)}"'}
            async with raw.get(url, headers=named) as answer:
                assert answer.status == 206
                got += await answer.read()
        assert got == packed
        async with raw.get(url, headers={"Range": "bytes=5-", "If-Range": '"other"'}) as answer:
            assert (answer.status, await answer.read()) == (200, packed)
        async with raw.get(url, headers={"If-None-Match": f'"{digest_of(packed)}"'}) as answer:
            assert (answer.status, await answer.read()) == (304, b"")


async def test_a_stored_file_that_was_garbled_is_never_taken_for_whole(
    http: Http, storage: RunningStorage, tmp_path: Any
) -> None:
    packed = await store(http, NOISE)
    (blob,) = (tmp_path / "storage" / "traces" / JOB / "1").iterdir()
    blob.write_bytes(packed[:500_000] + bytes(len(packed) - 500_000))
    with pytest.raises(aiohttp.ClientError):
        await plain(http(), f"{TRACES}/train.json")


async def test_an_upload_goes_on_through_the_gateway(http: Http) -> None:
    address, query, packed = put_of(NOISE)
    session = http(AGENT)

    async def cut() -> Any:
        yield packed[:700_000]
        raise ConnectionResetError

    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        await session.put(address, params=query, data=cut(), headers={"Content-Length": str(len(packed))})

    async def have() -> int:
        async with session.head(address) as answer:
            return int(answer.headers["X-Chisel-Have"])

    async def kept() -> bool:
        return await have() > 0

    await until(kept)
    offset = await have()
    query["offset"] = str(offset)
    async with session.put(address, params=query, data=BytesIO(packed[offset:])) as put:
        assert put.status == 201, await put.text()
    assert (await plain(http(), f"{TRACES}/train.json"))[1] == NOISE


async def test_only_its_own_agent_stores_a_trace(http: Http, backend: Backend) -> None:
    address, query, packed = put_of(RAW)
    for key, status in ((OTHER_AGENT, 403), (None, 401)):
        async with http(key).put(address, params=query, data=BytesIO(packed)) as put:
            assert put.status == status
        async with http(key).head(address) as head:
            assert head.status == status
    for bad, status in (
        (address.replace("/1/", "/2/"), 404),
        (address.replace("/1/", "/x/"), 404),
        (address[:-1], 404),
    ):
        async with http(AGENT).put(bad, params=query, data=BytesIO(packed)) as put:
            assert put.status == status
    async with http(AGENT).put(address, params={**query, "name": "../x"}, data=BytesIO(packed)) as put:
        assert put.status == 400
    assert await listed(http) == []


# States


async def test_a_trace_is_listed_from_its_beginning_to_its_summary(http: Http, bus: NatsBus) -> None:
    facts = {"call": 2, "rank": 1, "function": "m.train", "started_at": 7.0}
    await tell(bus, 1, Capture("train.json", TraceState.RECORDING, **facts))  # type: ignore[arg-type]
    (seen,) = await listed(http)
    assert {name: seen[name] for name in ("state", *facts)} == {"state": "recording", **facts}
    for part in ("", "/summary"):
        status, body = await asked(http(), "GET", f"{TRACES}/train.json{part}")
        assert (status, "train.json is recording" in body["error"]["message"]) == (409, True)
    sidecar = b'{"call":2,"rank":1}'
    await tell(
        bus, 2, Capture("train.json", TraceState.UPLOADING, sent_bytes=1, total_bytes=4, sidecar=sidecar)
    )
    status, body = await asked(http(), "GET", f"{TRACES}/train.json")
    assert (status, "25 % of it is here" in body["error"]["message"]) == (409, True)
    assert await asked(http(), "GET", f"{TRACES}/train.json/meta") == (200, {"call": 2, "rank": 1})
    packed = await store(http)

    async def read() -> bool:
        return bool((await listed(http))[0]["reading"] == "done")

    await until(read)
    (seen,) = await listed(http)
    assert (seen["state"], seen["events"], seen["size_bytes"]) == ("ready", 40_000, len(RAW))
    assert (seen["stored_bytes"], seen["sha256"]) == (len(packed), digest_of(RAW))
    assert 0.4 < seen["gpu_busy"] < 0.6
    assert seen["finding"]
    status, summary = await asked(http(), "GET", f"{TRACES}/train.json/summary?attempt=1")
    assert (status, summary["trace"]["rank"], summary["gpu"]["events"]) == (200, 1, 20_000)
    assert {kernel["name"] for kernel in summary["kernels"]} == {f"k{n}" for n in range(7)}


async def test_a_trace_that_is_cut_is_partial(http: Http) -> None:
    await store(http, RAW[: len(RAW) // 2])

    async def read() -> bool:
        return bool((await listed(http))[0]["reading"] == "done")

    await until(read)
    (seen,) = await listed(http)
    assert seen["state"] == "partial"
    assert "ends in the middle" in seen["reason"]
    assert 15_000 < seen["events"] < 25_000
    assert (await plain(http(), f"{TRACES}/train.json"))[1] == RAW[: len(RAW) // 2]


async def test_what_is_no_trace_can_be_fetched_all_the_same(http: Http) -> None:
    await store(http, b"no trace at all")

    async def read() -> bool:
        return bool((await listed(http))[0]["reading"] == "failed")

    await until(read)
    status, body = await asked(http(), "GET", f"{TRACES}/train.json/summary")
    assert (status, body["error"]["code"]) == (409, "conflict")
    assert "has no summary" in body["error"]["message"]
    assert (await plain(http(), f"{TRACES}/train.json"))[1] == b"no trace at all"


async def test_what_a_lost_agent_was_about_to_send_is_lost(
    http: Http, bus: NatsBus, backend: Backend
) -> None:
    await tell(
        bus,
        1,
        Capture("sent.json", TraceState.UPLOADING),
        Capture("open.json", TraceState.RECORDING),
        Capture("gone.json", TraceState.LOST, reason="killed"),
    )
    assert [trace["state"] for trace in await listed(http)] == ["lost", "recording", "uploading"]
    backend.add(JOB, 1, AGENT_ID, JobEnd(reason=EndReason.AGENT_LOST))
    seen = await listed(http)
    assert [trace["state"] for trace in seen] == ["lost", "lost", "lost"]
    assert [trace["reason"] for trace in seen] == [
        "killed", "the job ended while it was recorded", "its agent was lost before it was uploaded",
    ]  # fmt: skip
    status, body = await asked(http(), "GET", f"{TRACES}/gone.json")
    assert (status, body["error"]["message"]) == (409, "gone.json is lost: killed")


async def test_of_equal_names_the_newest_that_is_stored_is_meant(
    http: Http, bus: NatsBus, backend: Backend
) -> None:
    backend.add(JOB, 2, AGENT_ID)
    backend.add(JOB, 3, AGENT_ID)
    await store(http, RAW)
    await store(http, NOISE, attempt=2)
    await tell(bus, 1, Capture("train.json", TraceState.RECORDING), attempt=3)
    assert (await plain(http(), f"{TRACES}/train.json"))[1] == NOISE
    assert (await plain(http(), f"{TRACES}/train.json?attempt=1"))[1] == RAW
    assert (await asked(http(), "GET", f"{TRACES}/train.json?attempt=3"))[0] == 409
    assert (await asked(http(), "GET", f"{TRACES}/train.json?attempt=4"))[0] == 404
    assert (await asked(http(), "GET", f"{TRACES}/other.json/summary"))[0] == 404
    assert (await asked(http(), "GET", f"{TRACES}/train.json/meta?attempt=1"))[0] == 404


@pytest.mark.parametrize("part", ["", "/train.json", "/train.json/summary", "/train.json/meta"])
async def test_others_see_nothing(http: Http, part: str) -> None:
    await store(http)
    assert (await asked(http(STRANGER), "GET", TRACES + part))[0] == 404
    assert (await asked(http(READER), "GET", TRACES + part))[0] == 403


# Words and rules


def trace(state: TraceState, **more: Any) -> TraceView:
    return TraceView(
        job_id=JOB, attempt=1, name="t.json", size_bytes=0, sha256=Digest(""), state=state, **more
    )


@pytest.mark.parametrize(
    ("state", "end", "expected"),
    [
        (TraceState.RECORDING, None, TraceState.RECORDING),
        (TraceState.RECORDING, JobEnd(reason=EndReason.EXIT, exit_code=0), TraceState.LOST),
        (TraceState.UPLOADING, None, TraceState.UPLOADING),
        (TraceState.UPLOADING, JobEnd(reason=EndReason.EXIT, exit_code=0), TraceState.UPLOADING),
        (TraceState.UPLOADING, JobEnd(reason=EndReason.USER), TraceState.UPLOADING),
        (TraceState.UPLOADING, JobEnd(reason=EndReason.AGENT_LOST), TraceState.LOST),
        (TraceState.UPLOADING, JobEnd(reason=EndReason.LEASE_EXPIRED), TraceState.LOST),
        (TraceState.UPLOADING, JobEnd(reason=EndReason.AGENT_LOST, traces_late=1), TraceState.UPLOADING),
        (TraceState.READY, JobEnd(reason=EndReason.AGENT_LOST), TraceState.READY),
        (TraceState.PARTIAL, JobEnd(reason=EndReason.AGENT_LOST), TraceState.PARTIAL),
        (TraceState.LOST, JobEnd(reason=EndReason.EXIT), TraceState.LOST),
    ],
)
def test_what_the_end_of_a_job_makes_of_its_traces(
    state: TraceState, end: JobEnd | None, expected: TraceState
) -> None:
    assert after(trace(state), end).state is expected


@pytest.mark.parametrize(
    ("seen", "says"),
    [
        (trace(TraceState.RECORDING), "t.json is recording: ask again in a while"),
        (trace(TraceState.UPLOADING), "t.json is uploading: ask again in a while"),
        (
            trace(TraceState.UPLOADING, sent_bytes=999, total_bytes=1000),
            "t.json is uploading, 99 % of it is here: ask again in a while",
        ),
        (trace(TraceState.LOST, reason="killed"), "t.json is lost: killed"),
        (trace(TraceState.LOST), "t.json is lost: nobody knows why"),
    ],
)
def test_why_a_trace_cannot_be_had(seen: TraceView, says: str) -> None:
    assert not_stored(seen) == says


def test_why_there_is_no_summary() -> None:
    pending = trace(TraceState.READY, reading=Reading.PENDING)
    failed = trace(TraceState.READY, reading=Reading.FAILED, reason="too large")
    assert not_read(pending) == "t.json is stored and will be read in a moment: ask again"
    assert not_read(failed) == "t.json has no summary: too large"


@pytest.mark.parametrize(
    ("header", "takes"),
    [
        ("", False), ("identity", False), ("gzip", True), ("gzip, deflate, br", True), ("GZIP;q=0.5", True),
        ("br, gzip; q=1.0", True), ("gzip;q=0", False), ("gzip; q=0.000", False), ("xgzip", False),
    ],
)  # fmt: skip
def test_who_takes_gzip(header: str, takes: bool) -> None:
    assert takes_gzip(header) is takes
