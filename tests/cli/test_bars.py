"""The bar on a terminal while something large is packed and sent."""

from pathlib import Path

import pytest

from chisel import contents
from chisel.bundle import pack
from tests.cli.conftest import Command
from tests.cli.gateway import Gateway
from tests.cli.packing import Packing
from tests.cli.terminal import on_terminal

RUN = ("python", "hello.py", "-a", "hello")


def _large(chisel: Command) -> None:
    with open(chisel.project / "large", "wb") as file:
        for number in range(5):
            file.write(bytes([number]) * (8 << 20))


def test_a_large_directory_shows_how_far_it_is(gateway: Gateway, chisel: Command) -> None:
    _large(chisel)
    with on_terminal(chisel, *RUN) as terminal:
        terminal.wait_for(b"chisel: packing 2 files, 41.9 MB\r\n")
        terminal.wait_for(b"/41.9 MB")
        assert terminal.finish() == 0
        assert b"\x1b[?25l" not in terminal.shown  # the cursor stays, whatever ends the command
        assert all(len(line) <= 80 for line in terminal.shown.decode().splitlines() if "\x1b" not in line)
    assert gateway.submissions


def test_nothing_of_it_goes_into_a_file(chisel: Command) -> None:
    _large(chisel)
    done = chisel(*RUN)
    assert done.status == 0
    assert "MB" not in done.stderr


def test_how_far_it_is_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packing = Packing(tmp_path)
    monkeypatch.setattr(contents, "PACK_BYTES", 4096)
    for name in ("a", "b", "c"):
        packing.write(name, name * 2000)
    packing.write("same", "a" * 2000)
    told: list[tuple[str, int, int]] = []
    pack(
        str(packing.root), cache_folder=str(packing.cache), progress=lambda *parts: told.append(parts)
    ).close()
    reading = [("reading", done, 8000) for done in (2000, 4000, 6000, 8000)]
    assert told == [*reading, ("packing", 2000, 6000), ("packing", 4000, 6000), ("packing", 6000, 6000)]
