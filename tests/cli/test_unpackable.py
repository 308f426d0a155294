"""What cannot travel is refused before anything is sent, by its name and with a way out."""

import os
import socket
from pathlib import Path

import pytest

from chisel import contents
from chisel.bundle import Bundle
from chisel.stat_cache import Mark
from chisel.tree import walk
from chisel_shared.contract import bundles, manifest
from chisel_shared.contract.errors import BadRequest, TooLarge
from chisel_shared.contract.manifest import Link
from tests.cli.packing import Packing


@pytest.fixture
def packing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Packing:
    # Every file of a test is written in the moment before it is packed; that has tests of its own.
    monkeypatch.setattr(Mark, "may_still_change", lambda mark, read_at_ns: False)
    return Packing(tmp_path)


def listed(made: Bundle) -> dict[str, manifest.Entry]:
    return {entry.path: entry for entry in manifest.decode(made.manifest).entries}


def test_links_inside_travel_as_links(packing: Packing) -> None:
    packing.write("pkg/data.bin", "x")
    packing.write("train.py", "x")
    (packing.root / "pkg" / "up").symlink_to("../train.py")
    (packing.root / "absolute").symlink_to(packing.root / "pkg" / "data.bin")
    (packing.root / "folder").symlink_to("pkg")
    (packing.root / "dangling").symlink_to("pkg/not-yet")
    with packing.pack() as made:
        targets = {path: entry.target for path, entry in listed(made).items() if isinstance(entry, Link)}
    assert targets == {
        "pkg/up": "../train.py",
        "absolute": "pkg/data.bin",
        "folder": "pkg",
        "dangling": "pkg/not-yet",
    }


@pytest.mark.parametrize("target", ["/etc/passwd", "../secret", "pkg/../../secret", ".."])
def test_links_that_lead_outside_are_refused(packing: Packing, target: str) -> None:
    packing.write("pkg/x", "x")
    (packing.root.parent / "secret").write_text("secret")
    (packing.root / "link").symlink_to(target)
    with pytest.raises(BadRequest, match=r"root/link is a link to .*, outside the upload directory"):
        packing.pack()
    packing.write(".chiselignore", "link")
    packing.pack().close()


def test_a_link_over_another_that_leads_outside_is_refused(packing: Packing) -> None:
    packing.write("pkg/x", "x")
    (packing.root.parent / "outside").mkdir()
    (packing.root / "pkg" / "out").symlink_to(packing.root.parent / "outside")
    (packing.root / "link").symlink_to("pkg/out/file")
    with pytest.raises(BadRequest, match="outside the upload directory"):
        packing.pack()


def test_a_link_to_what_is_no_text_is_refused_here(packing: Packing) -> None:
    os.symlink(b"caf\xe9.py", os.fsencode(packing.root / "link"))
    with pytest.raises(BadRequest, match="link is a link whose target is not UTF-8"):
        packing.pack()


def test_sockets_and_pipes_are_left_out_and_named(packing: Packing, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(packing.root / "pipe")
    packing.write("file", "x")
    monkeypatch.chdir(packing.root)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        with packing.pack() as made:
            assert made.tree.skipped == ("pipe", "socket")
            assert made.tree.files == 1


def test_an_unreadable_file_is_named(packing: Packing, monkeypatch: pytest.MonkeyPatch) -> None:
    packing.write("file", "x")

    def refuse(path: str, flags: int) -> int:
        raise PermissionError(13, "Permission denied", path)

    # Root may read everything, so the refusal itself is played.
    monkeypatch.setattr("chisel.contents.os.open", refuse)
    with pytest.raises(BadRequest, match=r"file cannot be read \(Permission denied\): make it readable"):
        packing.pack()


def test_too_much_is_refused_with_the_largest_files(
    packing: Packing, monkeypatch: pytest.MonkeyPatch
) -> None:
    packing.write("small", b"x")
    packing.write("large", b"x" * 1000)
    monkeypatch.setattr(bundles, "MAX_UNPACKED_BYTES", 1000)
    with pytest.raises(TooLarge) as caught:
        packing.pack()
    assert str(caught.value).splitlines()[1].endswith("large")


def test_many_packs_go_over_the_disk_and_stay_the_same(
    packing: Packing, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        packing.write(f"{number}", os.urandom(1 << 20))
    packing.sent()
    in_memory = dict(packing.backend)
    assert len(in_memory) > 1
    monkeypatch.setattr(contents, "_MEMORY_BYTES", 1000)
    [path] = packing.cache.iterdir()
    path.unlink()
    packing.backend.clear()
    packing.sent()
    assert packing.backend == in_memory


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (b"back\\slash", "backslash"),
        (b"new\nline", "control character"),
        (b"caf\xe9.py", "is not UTF-8"),
        (b"/".join([b"d"] * 65), "64 folders deep"),
    ],
)
def test_a_name_that_no_agent_would_unpack_is_refused_here(tmp_path: Path, name: bytes, says: str) -> None:
    path = os.path.join(os.fsencode(tmp_path), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Path(os.fsdecode(path)).touch()
    with pytest.raises(BadRequest, match=says) as caught:
        walk(str(tmp_path))
    str(caught.value).encode()  # it can be shown
    assert os.path.basename(path).decode(errors="backslashreplace")[:3] in str(caught.value)
