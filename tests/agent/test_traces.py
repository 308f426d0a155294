"""Traces of an attempt: which files are, how they travel, and what is told of captures meanwhile."""

import asyncio
import gzip
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from chisel_agent import packing
from chisel_agent.captures import GIVEN_UP
from chisel_agent.outgoing import OutgoingTrace
from chisel_agent.traces import TraceUploads
from chisel_shared.contract.errors import BadRequest, ChiselError, NotFound, Unavailable
from chisel_shared.contract.ids import JobId, new_id
from chisel_shared.contract.messages import AttemptRef, Capture
from chisel_shared.contract.traces import TraceState
from tests.support.waiting import until

REF = AttemptRef(job_id=JobId(new_id()), attempt=1)
EVENTS = json.dumps({"traceEvents": [{"name": f"kernel {n}", "ts": n} for n in range(50_000)]}).encode()


class Backend:
    """Where traces go and captures are told: keeps what comes, breaks when told to."""

    def __init__(self) -> None:
        self.parts: dict[str, bytes] = {}
        self.kept: dict[str, bytes] = {}
        self.offsets: list[int] = []
        self.cut: int | None = None
        self.refuses: ChiselError | None = None
        self.deaf: ChiselError | None = None
        self.told: list[tuple[Capture, ...]] = []
        self.on_piece: Callable[[], None] = lambda: None

    async def trace_bytes(self, ref: AttemptRef, trace: OutgoingTrace) -> int:
        if self.refuses is not None:
            raise self.refuses
        return len(self.parts.get(trace.digest, b""))

    async def store_trace(self, ref: AttemptRef, trace: OutgoingTrace, offset: int) -> None:
        self.offsets.append(offset)
        data = self.parts.get(trace.digest, b"")[:offset]
        async for piece in trace.pieces(offset):
            data += piece
            self.parts[trace.digest] = data
            self.on_piece()
            if self.cut is not None and len(data) >= self.cut:
                self.cut = None
                raise Unavailable
        if hashlib.sha256(data).hexdigest() != trace.digest or len(data) != trace.size:
            raise BadRequest("another file arrived")
        self.kept[trace.name] = gzip.decompress(data) if trace.raw else data

    async def report(self, ref: AttemptRef, captures: tuple[Capture, ...]) -> None:
        if self.deaf is not None:
            raise self.deaf
        self.told.append(captures)

    @property
    def known(self) -> dict[str, Capture]:
        return {capture.name: capture for page in self.told for capture in page}

    def states(self, name: str) -> list[TraceState]:
        """What was told of a capture, repeats left out."""
        found = [capture.state for page in self.told for capture in page if capture.name == name]
        return [state for number, state in enumerate(found) if number == 0 or found[number - 1] != state]


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    """The job's folder."""
    folder = tmp_path / "traces"
    folder.mkdir()
    return folder


def uploads(backend: Backend, folder: Path, **more: int) -> TraceUploads:
    return TraceUploads(store=backend, reports=backend, ref=REF, folder=folder, **more)


@pytest.fixture
async def watched(backend: Backend, tmp_path: Path) -> AsyncIterator[TraceUploads]:
    made = uploads(backend, tmp_path)
    watching = asyncio.create_task(made.watch(), name="watch")
    yield made
    watching.cancel()
    await asyncio.wait([watching])


MARKER = {"name": "train", "function": "m.train", "call": 2, "rank": 1, "pid": 7, "started_at": 5.5}


def begin(folder: Path, stem: str = "train") -> Path:
    """A capture has begun."""
    marker = folder / f".{stem}.open"
    marker.write_text(json.dumps(MARKER))
    return marker


def save(folder: Path, stem: str = "train", data: bytes = EVENTS, sidecar: bytes = b"{}") -> None:
    """A capture is saved, as the SDK does it."""
    (folder / f"{stem}.meta.json").write_bytes(sidecar)
    aside = folder / f".{stem}.7.tmp.json"
    aside.write_bytes(data)
    aside.rename(folder / f"{stem}.json")
    (folder / f".{stem}.open").unlink(missing_ok=True)


# Which files are traces


async def test_only_whole_plain_files_are_traces(backend: Backend, tmp_path: Path, traces: Path) -> None:
    (traces / ".hidden.json").write_text("{")
    (traces / "note.txt").write_text("no")
    (traces / "a b.json").write_text("no")
    (traces / "folder.json").mkdir()
    os.mkfifo(traces / "pipe.json")
    (tmp_path / "secret").write_text("secret")
    (traces / "link.json").symlink_to(tmp_path / "secret")
    save(traces, "whole")
    made = uploads(backend, tmp_path)
    await made.upload_all()
    assert backend.kept == {"whole.json": EVENTS}
    assert (made.count, made.late, made.lost) == (1, 0, 0)


async def test_a_folder_that_is_a_link_has_no_traces(backend: Backend, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    save(elsewhere)
    (tmp_path / "traces").symlink_to(elsewhere)
    await uploads(backend, tmp_path).upload_all()
    assert not backend.kept


# How they travel


async def test_a_trace_travels_packed_and_leaves_nothing_behind(
    backend: Backend, tmp_path: Path, traces: Path
) -> None:
    save(traces)
    await uploads(backend, tmp_path).upload_all()
    assert backend.kept == {"train.json": EVENTS}
    ((sent,),) = [tuple(backend.parts.values())]
    assert len(sent) < len(EVENTS) / 5
    assert list((tmp_path / "traces.packed").iterdir()) == []
    assert (traces / "train.json").read_bytes() == EVENTS
    await uploads(backend, tmp_path).upload_all()  # another agent
    assert backend.offsets == [0]


async def test_without_room_it_travels_as_it_is(backend: Backend, tmp_path: Path, traces: Path) -> None:
    save(traces)
    # More than is free of any disk is a twentieth of it at most: so all of it has to be taken.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "room", lambda folder: packing_room(free=0))
        await uploads(backend, tmp_path, reserve_bytes=1 << 40).upload_all()
    assert backend.kept == {"train.json": EVENTS}
    assert list(backend.parts.values()) == [EVENTS]


async def test_a_disk_that_fills_up_while_it_is_packed(
    backend: Backend, tmp_path: Path, traces: Path
) -> None:
    save(traces)
    left = [1 << 40, 0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "room", lambda folder: packing_room(free=left.pop(0) if left else 0))
        await uploads(backend, tmp_path, reserve_bytes=1 << 30).upload_all()
    assert list(backend.parts.values()) == [EVENTS]
    assert list((tmp_path / "traces.packed").iterdir()) == []


def packing_room(*, free: int) -> object:
    from chisel_shared.runtime.disk import Room

    return Room(free_bytes=free, total_bytes=1 << 40)


async def test_an_upload_that_broke_goes_on(backend: Backend, tmp_path: Path, traces: Path) -> None:
    data = os.urandom(6_000_000)
    save(traces, data=data)
    backend.cut = 5_000_000
    await uploads(backend, tmp_path).upload_all()
    assert backend.kept == {"train.json": data}
    first, second = backend.offsets
    assert (first, second >= 5_000_000) == (0, True)


async def test_what_was_packed_of_another_file_goes(backend: Backend, tmp_path: Path, traces: Path) -> None:
    save(traces, data=os.urandom(6_000_000))
    await killed_while_sending(backend, tmp_path)
    save(traces, data=EVENTS)
    await uploads(backend, tmp_path).upload_all()
    assert backend.kept == {"train.json": EVENTS}
    assert list((tmp_path / "traces.packed").iterdir()) == []


async def killed_while_sending(backend: Backend, folder: Path) -> None:
    made = uploads(backend, folder)
    sending = asyncio.create_task(made.upload_all(), name="sending")
    reached = asyncio.Event()
    backend.on_piece = reached.set
    await reached.wait()
    sending.cancel()
    await asyncio.wait([sending])
    backend.on_piece = lambda: None


async def test_what_was_packed_is_not_packed_again(
    backend: Backend, tmp_path: Path, traces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(6_000_000)
    save(traces, data=data)
    await killed_while_sending(backend, tmp_path)
    monkeypatch.delattr(packing, "_Packer")
    made = uploads(backend, tmp_path)
    await made.upload_all()
    assert backend.kept == {"train.json": data}
    assert backend.offsets[0] == 0
    assert backend.offsets[-1] > 0
    assert list((tmp_path / "traces.packed").iterdir()) == []


async def test_half_packed_files_go(backend: Backend, tmp_path: Path, traces: Path) -> None:
    packed = tmp_path / "traces.packed"
    packed.mkdir()
    for name in ("abc.new", "abc.gz", "def.json"):
        (packed / name).write_text("{}")
    save(traces)
    await uploads(backend, tmp_path).upload_all()
    assert list(packed.iterdir()) == []


async def test_a_file_that_changes_while_it_is_sent_is_sent_again(
    backend: Backend, tmp_path: Path, traces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sent as it is, for want of room."""
    monkeypatch.setattr(packing, "room", lambda folder: packing_room(free=0))
    path = traces / "train.json"
    save(traces, data=b"a" * 3_000_000)

    def change() -> None:
        path.write_bytes(b"b" * 2_000_000)
        backend.on_piece = lambda: None

    backend.on_piece = change
    made = uploads(backend, tmp_path, reserve_bytes=1)
    await made.upload_all()
    assert backend.kept == {"train.json": b"b" * 2_000_000}
    assert (made.count, made.lost) == (1, 0)


async def test_a_file_that_is_gone_is_lost(backend: Backend, tmp_path: Path, traces: Path) -> None:
    save(traces, "first")
    save(traces, "second")
    backend.on_piece = lambda: (traces / "second.json").unlink(missing_ok=True)
    made = uploads(backend, tmp_path)
    await made.upload_all()
    assert (made.count, made.lost) == (1, 1)
    assert backend.known["second.json"].state is TraceState.LOST
    assert "cannot be read" in backend.known["second.json"].reason


async def test_what_storage_does_not_take_says_why(backend: Backend, tmp_path: Path, traces: Path) -> None:
    save(traces)
    backend.refuses = NotFound("there is no such attempt")
    made = uploads(backend, tmp_path)
    await made.upload_all()
    assert (made.count, made.lost) == (0, 1)
    again = uploads(backend, tmp_path)  # another agent knows it too
    await again.upload_all()
    assert (again.count, again.lost) == (0, 1)
    assert backend.known["train.json"].reason == "there is no such attempt"


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
