"""What storage says of traces: what agents report, and what outranks it."""

import hashlib
from typing import Any

import msgspec
import pytest

from chisel_shared.contract.errors import Forbidden, NotFound
from chisel_shared.contract.ids import AgentId, Digest, JobId
from chisel_shared.contract.messages import (
    Capture,
    GetTraceFacts,
    ListTraces,
    ReportCaptures,
    TraceView,
)
from chisel_shared.contract.traces import Reading, TraceState
from chisel_shared.runtime.bus import NatsBus
from chisel_shared.traces.sidecar import Sidecar, encode
from chisel_storage.trace_store import Due, Read, StoredTrace
from tests.support.storage import PROJECT, FakeAttempts, RunningStorage

JOB, AGENT = JobId("job-1"), AgentId("agent-1")
SHA256, OTHER = Digest("a" * 64), Digest("b" * 64)
SIDECAR = encode(Sidecar(trace="train", call=2, seconds=1.5))
STORED = StoredTrace(job_id=JOB, attempt=1, name="train.json", size_bytes=10, sha256=SHA256)


def told(number: int, *captures: Capture, agent: AgentId = AGENT) -> ReportCaptures:
    return ReportCaptures(agent_id=agent, job_id=JOB, attempt=1, number=number, captures=captures)


RECORDING = Capture("train.json", TraceState.RECORDING, call=2, rank=0, function="m.train", started_at=5.0)
UPLOADING = Capture("train.json", TraceState.UPLOADING, sent_bytes=3, total_bytes=9, sidecar=SIDECAR)
LOST = Capture("train.json", TraceState.LOST, reason="killed")


@pytest.fixture(autouse=True)
def attempt(attempts: FakeAttempts) -> None:
    attempts.add(JOB, 1, AGENT)


async def shown(bus: NatsBus) -> TraceView:
    (trace,) = (await bus.request(ListTraces(job_id=JOB))).traces
    return trace


async def test_a_capture_is_seen_from_its_beginning_to_its_end(storage: RunningStorage, bus: NatsBus) -> None:
    await bus.request(told(1, RECORDING))
    assert await shown(bus) == TraceView(
        job_id=JOB, attempt=1, name="train.json", size_bytes=0, sha256=Digest(""),
        state=TraceState.RECORDING, call=2, rank=0, function="m.train", started_at=5.0,
    )  # fmt: skip
    await bus.request(told(2, UPLOADING))
    seen = await shown(bus)
    assert (seen.state, seen.sent_bytes, seen.total_bytes) == (TraceState.UPLOADING, 3, 9)
    assert (seen.call, seen.rank, seen.function) == (2, 0, "m.train")
    await storage.trace_store.put(STORED, PROJECT)
    seen = await shown(bus)
    assert (seen.state, seen.size_bytes, seen.sent_bytes) == (TraceState.READY, 10, 0)
    assert seen.reading is Reading.PENDING
    facts = await bus.request(GetTraceFacts(job_id=JOB, attempt=1, name="train.json"))
    assert (facts.summary, facts.sidecar) == (b"", SIDECAR)


async def test_what_was_being_recorded_is_lost_and_says_why(storage: RunningStorage, bus: NatsBus) -> None:
    await bus.request(told(1, RECORDING))
    await bus.request(told(2, LOST))
    seen = await shown(bus)
    assert (seen.state, seen.reason, seen.function) == (TraceState.LOST, "killed", "m.train")


@pytest.mark.parametrize("late", [RECORDING, UPLOADING, LOST])
async def test_nothing_takes_a_stored_trace_back(
    storage: RunningStorage, bus: NatsBus, late: Capture
) -> None:
    await storage.trace_store.put(STORED, PROJECT)
    await bus.request(told(9, late))
    assert (await shown(bus)).state is TraceState.READY


async def test_a_report_that_comes_late_changes_nothing(storage: RunningStorage, bus: NatsBus) -> None:
    await bus.request(told(5, LOST))
    for number in (4, 5):
        await bus.request(told(number, RECORDING))
        assert (await shown(bus)).state is TraceState.LOST
    await bus.request(told(6, UPLOADING))
    await bus.request(told(6, UPLOADING))
    assert (await shown(bus)).state is TraceState.UPLOADING


async def test_only_its_own_agent_is_heard(storage: RunningStorage, bus: NatsBus) -> None:
    with pytest.raises(Forbidden):
        await bus.request(told(1, RECORDING, agent=AgentId("agent-2")))
    with pytest.raises(NotFound):
        await bus.request(msgspec.structs.replace(told(1, RECORDING), attempt=7))
    assert (await bus.request(ListTraces(job_id=JOB))).traces == ()


async def test_a_capture_that_nobody_saw_begin_is_known_by_its_sidecar(
    storage: RunningStorage, bus: NatsBus
) -> None:
    said = encode(Sidecar(call=3, rank=1, function="m.train", started_at=7.5))
    await bus.request(told(1, Capture("train.json", TraceState.UPLOADING, sidecar=said)))
    seen = await shown(bus)
    assert (seen.call, seen.rank, seen.function, seen.started_at) == (3, 1, "m.train", 7.5)


@pytest.mark.parametrize(
    ("capture", "expected"),
    [
        (Capture("../x.json", TraceState.RECORDING), None),
        (Capture("a.json", TraceState.READY), {"state": TraceState.UPLOADING}),
        (Capture("a.json", TraceState.LOST, reason="a\0b" * 400), {"reason": ("ab" * 400)[:300]}),
        (Capture("a.json", TraceState.LOST, function="ü\0"), {"function": "ü"}),
        (Capture("a.json", TraceState.LOST, call=1 << 70, rank=-5), {"call": None, "rank": -5}),
        (Capture("a.json", TraceState.UPLOADING, sent_bytes=-1, total_bytes=1 << 90), {"sent_bytes": 0}),
    ],
)
async def test_what_a_job_wrote_into_it_does_no_harm(
    storage: RunningStorage, bus: NatsBus, capture: Capture, expected: dict[str, Any] | None
) -> None:
    await bus.request(told(1, capture))
    traces = (await bus.request(ListTraces(job_id=JOB))).traces
    if expected is None:
        assert traces == ()
    else:
        assert {name: getattr(traces[0], name) for name in expected} == expected


@pytest.mark.parametrize("data", [b"no JSON", b"[]", b'{"call": "x"}', b"{}" + b" " * (64 << 10)])
async def test_a_sidecar_that_is_none_is_left_out(storage: RunningStorage, bus: NatsBus, data: bytes) -> None:
    await bus.request(told(1, msgspec.structs.replace(RECORDING, sidecar=data)))
    assert (await shown(bus)).state is TraceState.RECORDING
    asked = GetTraceFacts(job_id=JOB, attempt=1, name="train.json")
    assert (await bus.request(asked)).sidecar == b""


# What is due


async def due(storage: RunningStorage, schema: int = 1) -> Due:
    found = await storage.trace_store.begin(schema)
    assert found is not None
    return found


DONE = Read(events=7, wall_us=2.0, gpu_busy=0.5, cold=True, finding="waits", summary=b"{}")


async def test_a_trace_is_read_once_and_again_for_another_kind_of_summary(storage: RunningStorage) -> None:
    store = storage.trace_store
    await store.put(STORED, PROJECT)
    first = await due(storage)
    assert (first.name, first.sha256, first.tries) == ("train.json", SHA256, 1)
    await store.record(first, DONE, 1)
    assert await store.begin(1) is None
    (seen,) = await store.traces(JOB)
    assert (seen.reading, seen.events, seen.gpu_busy, seen.cold) == (Reading.DONE, 7, 0.5, True)
    await store.put(STORED, PROJECT)  # repeated by an agent that was not sure
    assert await store.begin(1) is None
    await store.record(await due(storage, 2), Read(reason="nonsense"), 2)
    (seen,) = await store.traces(JOB)
    assert (seen.state, seen.reading, seen.reason) == (TraceState.READY, Reading.FAILED, "nonsense")
    assert await store.begin(2) is None


async def test_a_cut_file_is_partial(storage: RunningStorage) -> None:
    await storage.trace_store.put(STORED, PROJECT)
    await storage.trace_store.record(await due(storage), Read(truncated=True, events=3, summary=b"{}"), 1)
    (seen,) = await storage.trace_store.traces(JOB)
    assert (seen.state, seen.events) == (TraceState.PARTIAL, 3)


async def test_another_file_or_a_new_sidecar_is_another_reading(storage: RunningStorage) -> None:
    store = storage.trace_store
    await store.put(STORED, PROJECT)
    begun = await due(storage)
    await store.report(JOB, 1, 1, [UPLOADING])
    await store.record(begun, DONE, 1)  # it was read without the sidecar
    again = await due(storage)
    assert again.sidecar == SIDECAR
    await store.record(again, DONE, 1)
    await store.report(JOB, 1, 2, [UPLOADING])
    assert await store.begin(1) is None
    await store.put(msgspec_replace(STORED, sha256=OTHER), PROJECT)
    (seen,) = await store.traces(JOB)
    assert seen.reading is Reading.PENDING
    await store.record(again, DONE, 1)  # of the file before
    assert (await due(storage)).sha256 == OTHER


async def test_tries_are_counted_before_they_begin(storage: RunningStorage) -> None:
    await storage.trace_store.put(STORED, PROJECT)
    assert [(await due(storage)).tries for _ in range(3)] == [1, 2, 3]


def msgspec_replace(trace: StoredTrace, *, sha256: Digest) -> StoredTrace:
    import dataclasses

    return dataclasses.replace(trace, sha256=sha256)


async def test_traces_of_before_are_listed_and_read(storage: RunningStorage, bus: NatsBus) -> None:
    """A plain upload, as agents of before send it."""
    data = b'{"traceEvents": []}'
    digest = hashlib.sha256(data).hexdigest()
    async with storage.http() as http:
        put = await http.put(
            f"/files/{JOB}/1/trace?path=a.json&project={PROJECT}",
            data=data,
            headers={"X-Chisel-Sha256": digest},
        )
        assert put.status == 201
    seen = await shown(bus)
    assert (seen.size_bytes, seen.sha256, seen.stored_sha256) == (len(data), digest, "")
