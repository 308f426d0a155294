"""What is told of captures, from their beginning to the end of their job."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chisel_agent.captures import GIVEN_UP
from chisel_agent.traces import TraceUploads
from chisel_shared.contract.errors import NotFound, Unavailable
from chisel_shared.contract.traces import TraceState
from tests.agent.tracing import EVENTS, MARKER, Backend, begin, save, uploads
from tests.support.waiting import until


@pytest.fixture
async def watched(backend: Backend, tmp_path: Path) -> AsyncIterator[TraceUploads]:
    made = uploads(backend, tmp_path)
    watching = asyncio.create_task(made.watch(), name="watch")
    yield made
    watching.cancel()
    await asyncio.wait([watching])


# What is told


async def test_a_capture_is_told_from_beginning_to_end(
    backend: Backend, traces: Path, watched: TraceUploads
) -> None:
    begin(traces)
    await until(lambda: "train.json" in backend.known)
    told = backend.known["train.json"]
    assert (told.state, told.call, told.rank) == (TraceState.RECORDING, 2, 1)
    assert (told.function, told.started_at) == ("m.train", 5.5)
    save(traces, sidecar=b'{"trace": "train"}')
    await until(lambda: backend.kept == {"train.json": EVENTS})
    await until(lambda: watched.count == 1)
    assert backend.states("train.json")[:2] == [TraceState.RECORDING, TraceState.UPLOADING]
    sidecars = [capture.sidecar for page in backend.told for capture in page if capture.sidecar]
    assert sidecars == [b'{"trace": "train"}']


async def test_a_trace_is_heard_of_before_it_is_sent(backend: Backend, tmp_path: Path, traces: Path) -> None:
    save(traces, sidecar=b'{"call": 3}')
    heard: list[bytes] = []
    backend.on_piece = lambda: heard.append(backend.known["train.json"].sidecar)
    await uploads(backend, tmp_path).upload_all()
    assert heard[0] == b'{"call": 3}'


async def test_storage_that_hears_nothing_delays_no_upload(
    backend: Backend, traces: Path, watched: TraceUploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chisel_agent.traces._TELL_SECONDS", 0.1)
    backend.deaf = Unavailable()
    save(traces)
    await until(lambda: watched.count == 1)
    backend.deaf = None
    await until(lambda: "train.json" in backend.known)


async def test_what_is_recorded_at_the_end_is_lost(backend: Backend, tmp_path: Path, traces: Path) -> None:
    begin(traces)
    save(traces, "saved")
    made = uploads(backend, tmp_path)
    made.end("the job was cancelled while it was recorded")
    await made.upload_all()
    assert (made.count, made.late, made.lost) == (1, 0, 1)
    told = backend.known["train.json"]
    assert (told.state, told.call) == (TraceState.LOST, 2)
    assert told.reason == "the job was cancelled while it was recorded"


async def test_what_was_given_up_is_lost_and_says_so(
    backend: Backend, traces: Path, watched: TraceUploads
) -> None:
    marker = begin(traces)
    await until(lambda: "train.json" in backend.known)
    marker.unlink()
    await until(lambda: backend.known["train.json"].state is TraceState.LOST)
    assert backend.known["train.json"].reason == GIVEN_UP


async def test_what_was_given_up_while_no_agent_looked(
    backend: Backend, tmp_path: Path, traces: Path, watched: TraceUploads
) -> None:
    marker = begin(traces)
    await until(lambda: "train.json" in backend.known)
    marker.unlink()
    after = uploads(backend, tmp_path)
    after.end("it ended")
    await after.upload_all()
    assert (after.lost, backend.known["train.json"].reason) == (1, GIVEN_UP)


async def test_a_stored_trace_that_its_job_removed_is_not_lost(
    backend: Backend, tmp_path: Path, traces: Path
) -> None:
    begin(traces)
    save(traces)
    await uploads(backend, tmp_path).upload_all()
    (traces / "train.json").unlink()
    after = uploads(backend, tmp_path)
    after.end("it ended")
    await after.upload_all()
    assert (after.count, after.lost) == (1, 0)


@pytest.mark.parametrize("content", [b"", b"no JSON", b'{"call": "x"}', b"\xff" * 100, b"[" * 10_000])
async def test_a_marker_that_says_nothing_counts(
    backend: Backend, tmp_path: Path, traces: Path, content: bytes
) -> None:
    """An older SDK leaves it empty."""
    (traces / ".train.open").write_bytes(content)
    made = uploads(backend, tmp_path)
    made.end("it ended")
    await made.upload_all()
    assert backend.known["train.json"].state is TraceState.LOST


async def test_a_marker_or_a_sidecar_that_is_a_link_is_not_followed(
    backend: Backend, tmp_path: Path, traces: Path
) -> None:
    (tmp_path / "elsewhere").write_text(json.dumps(MARKER))
    (traces / ".a.open").symlink_to(tmp_path / "elsewhere")
    (traces / "b.json").write_bytes(EVENTS)
    (traces / "b.meta.json").symlink_to(tmp_path / "elsewhere")
    made = uploads(backend, tmp_path)
    made.end("it ended")
    await made.upload_all()
    assert backend.known["a.json"].function == ""
    assert backend.known["b.json"].sidecar == b""


async def test_a_sidecar_that_is_too_large_is_left_out(
    backend: Backend, tmp_path: Path, traces: Path
) -> None:
    save(traces, sidecar=b" " * (65 << 10))
    await uploads(backend, tmp_path).upload_all()
    assert backend.known["train.json"].sidecar == b""
    assert backend.kept


async def test_many_captures_are_told_in_messages_that_the_bus_takes(
    backend: Backend, tmp_path: Path, traces: Path
) -> None:
    for number in range(300):
        begin(traces, f"train.{number}")
    for number in range(12):
        save(traces, f"saved.{number}", b"{}", sidecar=b" " * 60_000)
    made = uploads(backend, tmp_path)
    made.end("it ended")
    await made.upload_all()
    assert len(backend.known) == 312
    assert len(backend.told) < 40
    assert max(sum(len(capture.sidecar) for capture in page) for page in backend.told) <= 256 << 10


async def test_a_report_that_is_refused_is_not_repeated(
    backend: Backend, tmp_path: Path, traces: Path
) -> None:
    save(traces)
    backend.deaf = NotFound()
    made = uploads(backend, tmp_path)
    await made.upload_all()
    assert made.count == 1


async def test_no_more_captures_are_looked_at_than_can_be_listed(
    backend: Backend, tmp_path: Path, traces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chisel_agent.capture_folder.MOST_CAPTURES", 3)
    for number in range(10):
        save(traces, f"saved.{number}", b"{}")
    made = uploads(backend, tmp_path)
    await made.upload_all()
    assert (made.count, len(backend.known)) == (3, 3)


async def test_a_job_that_begins_captures_for_ever_is_listened_to_no_longer(
    backend: Backend, tmp_path: Path, traces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chisel_agent.capture_folder.MOST_CAPTURES", 3)
    made = uploads(backend, tmp_path)
    for number in range(10):
        marker = begin(traces, f"begun.{number}")
        await made.upload_all()
        marker.unlink()
    assert len(backend.known) == 3
    assert b"begun.3" not in (tmp_path / "traces.seen").read_bytes()
