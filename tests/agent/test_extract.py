"""Unpacking: what a bundle may hold arrives, and no archive reaches outside or grows without bound."""

import gzip
import io
import os
import stat
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from chisel_agent.extract import Cancelled, Limits, extract
from chisel_agent.tar import BadArchive

Build = Callable[[tarfile.TarFile], None]


def file(name: str, data: bytes = b"x", **fields: object) -> Build:
    def add(archive: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        for key, value in fields.items():
            setattr(info, key, value)
        archive.addfile(info, io.BytesIO(data))

    return add


def special(name: str, kind: bytes, target: str = "", **fields: object) -> Build:
    def add(archive: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        for key, value in fields.items():
            setattr(info, key, value)
        archive.addfile(info)

    return add


def link(name: str, target: str) -> Build:
    return special(name, tarfile.SYMTYPE, target)


def folder(name: str) -> Build:
    return special(name, tarfile.DIRTYPE, mode=0o700)


def packed(*builds: Build, format: int = tarfile.PAX_FORMAT, after: bytes = b"") -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=format) as archive:
        for build in builds:
            build(archive)
    return gzip.compress(raw.getvalue() + after)


class Place:
    """A folder with something precious beside where archives are unpacked."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.into = root / "into"
        self.precious = root / "precious"
        self.precious.write_text("untouched")

    def extract(self, data: bytes, *, limits: Limits | None = None) -> Path:
        archive = self.root / "archive"
        archive.write_bytes(data)
        with archive.open("rb") as source:
            extract(source, self.into, limits=limits)
        return self.into

    def nothing_happened(self) -> bool:
        there = {path.name for path in self.root.iterdir()} - {"archive"}
        return there == {"precious"} and self.precious.read_text() == "untouched"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "place").mkdir()
    return Place(tmp_path / "place")


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_files_folders_and_links_inside_arrive(place: Place, format: int) -> None:
    long = "/".join(["part" * 8] * 5) + "/file.txt"
    data = packed(
        folder("empty"),
        file("./main.py", b"print()", mode=0o755),
        file("a/b/data.bin", b"\0" * 70_000, mode=0o4644),
        file(long, b"deep"),
        file("ünïcode.txt", b"u"),
        link("a/link", "../main.py"),
        link("dangling", "a/nowhere"),
        link("folder", "a/b"),
        format=format,
    )
    root = place.extract(data)
    assert (root / "main.py").read_bytes() == b"print()"
    assert stat.S_IMODE((root / "main.py").stat().st_mode) & 0o111
    assert (root / "a/b/data.bin").stat().st_size == 70_000
    assert stat.S_IMODE((root / "a/b/data.bin").stat().st_mode) == 0o644
    assert (root / long).read_bytes() == b"deep"
    assert (root / "ünïcode.txt").read_bytes() == b"u"
    assert (root / "a/link").read_bytes() == b"print()"
    assert os.readlink(root / "dangling") == "a/nowhere"
    assert (root / "folder/data.bin").exists()
    assert (root / "empty").is_dir()


def test_a_gzip_of_several_members_is_one_stream(place: Place) -> None:
    whole = gzip.decompress(packed(file("a", b"1" * 3000)))
    root = place.extract(gzip.compress(whole[:700]) + gzip.compress(whole[700:]))
    assert (root / "a").read_bytes() == b"1" * 3000


def test_an_empty_archive_is_an_empty_folder(place: Place) -> None:
    assert list(place.extract(packed()).iterdir()) == []


HOSTILE: dict[str, bytes] = {
    "absolute path": packed(file("/tmp/evil")),
    "parent": packed(file("../precious", b"overwritten")),
    "parent in the middle": packed(file("a/../../precious", b"overwritten")),
    "parent of a folder": packed(folder("../evil")),
    "empty part": packed(file("a//b")),
    "empty name": packed(file("")),
    "backslash": packed(file("a\\..\\b")),
    "newline in a name": packed(file("a\nb")),
    "name not UTF-8": packed(file("a\udcff"), format=tarfile.GNU_FORMAT),
    "file twice": packed(file("a"), file("a")),
    "file twice by a dot": packed(file("a"), file("./a")),
    "file and folder": packed(file("a"), folder("a")),
    "file below a file": packed(file("a"), file("a/b")),
    "hard link": packed(file("a"), special("b", tarfile.LNKTYPE, "a")),
    "hard link outside": packed(special("b", tarfile.LNKTYPE, "../precious")),
    "character device": packed(special("null", tarfile.CHRTYPE, devmajor=1, devminor=3)),
    "block device": packed(special("disk", tarfile.BLKTYPE)),
    "named pipe": packed(special("pipe", tarfile.FIFOTYPE)),
    "unknown kind": packed(special("x", b"Z")),
    "absolute link": packed(link("a", "/etc/passwd")),
    "link upwards": packed(link("a", "../precious")),
    "link to the folder above": packed(link("a", "..")),
    "link upwards from below": packed(link("a/b", "../../precious")),
    "link without a target": packed(link("a", "")),
    "link, then a file through it": packed(link("a", "."), file("a/b")),
    "link out, then a file through it": packed(link("a", ".."), file("a/precious", b"overwritten")),
    "link twice": packed(link("a", "b"), link("a", "c")),
    "chain of links": packed(folder("a"), link("a/b", ".."), link("c", "a/b/..")),
    "long chain of links": packed(
        folder("d/d"),
        link("l1", "d/d"),
        link("d/d/l2", "../.."),
        link("l3", "l1/l2/.."),
        link("l4", "l3/precious"),
    ),
    "link with content": packed(special("a", tarfile.SYMTYPE, "b", size=512)),
    "too deep": packed(file("/".join("d" * 65))),
    "name too long": packed(file("n" * 256)),
    "cut short": packed(file("a", b"1" * 5000))[:60],
    "no end": gzip.compress(gzip.decompress(packed(file("a")))[:1024]),
    "something after the end": packed(file("a"), after=b"evil" * 128),
    "garbage after gzip": packed(file("a")) + b"garbage",
    "not gzip": b"PK\x03\x04" + b"\0" * 600,
    "damaged header": gzip.compress(b"a" * 1024),
    "empty": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_are_refused_whole(place: Place, name: str) -> None:
    with pytest.raises(BadArchive):
        place.extract(HOSTILE[name])
    assert place.nothing_happened()


def header(name: bytes, size: int, kind: bytes) -> bytes:
    """A raw header that no library would write."""
    block = bytearray(512)
    block[: len(name)] = name
    block[100:108] = b"0000644\0"
    block[124:136] = b"%011o\0" % size
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def test_a_pax_header_may_not_be_huge(place: Place) -> None:
    data = gzip.compress(header(b"p", 1 << 30, b"x") + b"\0" * 4096)
    with pytest.raises(BadArchive, match="more header"):
        place.extract(data)


def test_a_pax_header_may_not_change_a_size(place: Place) -> None:
    record = b"16 size=1000000\n"
    data = (
        header(b"p", len(record), b"x")
        + record.ljust(512, b"\0")
        + header(b"a", 1, b"0")
        + b"x".ljust(512, b"\0")
    )
    with pytest.raises(BadArchive, match="size"):
        place.extract(gzip.compress(data + b"\0" * 1024))


@pytest.mark.parametrize(
    ("builds", "limits", "says"),
    [
        ([file(str(n)) for n in range(11)], Limits(entries=10), "entries"),
        ([file("a", b"\0" * 2000)], Limits(file_bytes=1000), "larger"),
        ([file("a", b"\0" * 900_000), file("b", b"\0" * 900_000)],
         Limits(total_bytes=1 << 20, entries=10), "unpacks to more"),
    ],
)  # fmt: skip
def test_bombs_are_refused(place: Place, builds: list[Build], limits: Limits, says: str) -> None:
    with pytest.raises(BadArchive, match=says):
        place.extract(packed(*builds), limits=limits)
    assert place.nothing_happened()


def test_what_compresses_well_is_fine(place: Place) -> None:
    root = place.extract(packed(file("zeros", b"\0" * (80 << 20))))
    assert (root / "zeros").stat().st_size == 80 << 20


def test_it_gives_up_when_cancelled(place: Place) -> None:
    archive = place.root / "archive"
    archive.write_bytes(packed(file("a", b"1" * 100_000)))
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(Cancelled), archive.open("rb") as source:
        extract(source, place.into, cancelled=cancelled)
    assert place.nothing_happened()
