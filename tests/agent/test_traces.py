"""Traces of an attempt: which files are, and how they travel."""

import asyncio
import os
from pathlib import Path

import pytest

from chisel_agent import packing
from chisel_shared.contract.errors import NotFound
from chisel_shared.contract.traces import TraceState
from tests.agent.tracing import EVENTS, Backend, save, uploads

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


async def test_names_that_cannot_travel_do_not_fill_the_log(
    backend: Backend, tmp_path: Path, traces: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = uploads(backend, tmp_path)
    for round_ in range(3):
        for number in range(200):
            (traces / f"{round_} {number}.json").write_text("no")
        save(traces, f"whole{round_}")
        await made.upload_all()
    assert len(backend.kept) == 3
    assert 0 < caplog.messages.count("trace_name_refused") <= 10


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
