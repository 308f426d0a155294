"""Packing that is interrupted: whatever comes next, no write goes into a file that is not its own."""

import asyncio
import gzip
import os
import threading
from pathlib import Path

import pytest

from chisel_agent import packing
from chisel_agent.capture_folder import CaptureFolder
from chisel_agent.packing import Moved, Packing


async def test_a_cancel_in_the_middle_of_a_step_spoils_nothing_that_is_packed_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "traces").mkdir()
    for name in ("a.json", "b.json"):
        (tmp_path / "traces" / name).write_bytes(name.encode() * 1000)
    begun, go_on = threading.Event(), threading.Event()
    step = packing._Packer.step

    def held_up(self: packing._Packer) -> bool:
        begun.set()
        go_on.wait()
        return step(self)

    monkeypatch.setattr(packing._Packer, "step", held_up)
    packer = Packing(
        traces=CaptureFolder(tmp_path / "traces"), folder=tmp_path / "packed", reserve_bytes=0, moved=Moved()
    )
    first = asyncio.create_task(packer.pack("a.json", (6000, 1)))
    await asyncio.to_thread(begun.wait)
    first.cancel()
    await asyncio.sleep(0)
    assert not first.done(), "its descriptors would be closed under its thread"
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await first
    packed = await packer.pack("b.json", (6000, 1))
    descriptor = packer.open(packed)
    sent = os.pread(descriptor, packed.size, 0)
    os.close(descriptor)
    assert gzip.decompress(sent) == b"b.json" * 1000
