"""Unpacking: what a manifest lists arrives byte for byte, nothing else does, and nothing lands outside."""

import gzip
import io
import os
import stat
import tarfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from chisel_agent.extract import Cancelled, Extraction
from chisel_agent.tar import BadArchive
from chisel_shared.contract.bundles import CHUNK_BYTES
from chisel_shared.contract.ids import Digest
from chisel_shared.contract.manifest import Chunk, Entry, File, Folder, Link, Manifest, Pack, decode
from tests.support.packs import bundle, pack, sha256


def extract(manifest: Manifest, packs: Mapping[str, bytes], into: Path) -> Path:
    extraction = Extraction(manifest, into, cancelled=threading.Event())
    extraction.begin()
    for number, listed in reversed(list(enumerate(manifest.packs))):  # in any order
        extraction.unpack(number, io.BytesIO(packs[listed.sha256]))
    extraction.finish()
    return into


def one(content: bytes, packed: bytes, *, size: int | None = None) -> tuple[Manifest, dict[str, bytes]]:
    """A manifest of one file that is to be found in `packed`."""
    size = len(content) if size is None else size
    file = File("a", executable=False, size=size, chunks=(Chunk(sha256(content), 0),))
    return Manifest(1, (Pack(sha256(packed), len(packed)),), (file,)), {sha256(packed): packed}


def test_files_folders_and_links_arrive(tmp_path: Path) -> None:
    made = bundle(
        {"main.py": "print()", "a/b/data.bin": b"\0" * 70_000, "ünïcode.txt": "u", "empty": ""},
        Folder("nothing"),
        Link("a/link", "../main.py"),
        Link("dangling", "a/nowhere"),
        Link("folder", "a/b"),
    )
    root = extract(decode(made.manifest), made.packs, tmp_path / "into")
    assert (root / "main.py").read_bytes() == b"print()"
    assert stat.S_IMODE((root / "main.py").stat().st_mode) == 0o644
    assert (root / "a/b/data.bin").stat().st_size == 70_000
    assert (root / "ünïcode.txt").read_text() == "u"
    assert (root / "empty").read_bytes() == b""
    assert (root / "nothing").is_dir()
    assert (root / "a/link").read_bytes() == b"print()"
    assert os.readlink(root / "dangling") == "a/nowhere"
    assert (root / "folder/data.bin").exists()


def test_one_content_in_many_places_and_what_is_not_listed(tmp_path: Path) -> None:
    digest, packed = pack(b"same" * 1000, b"of a file that is gone")
    chunks = (Chunk(sha256(b"same" * 1000), 0),)
    entries = tuple(File(name, executable=name == "b", size=4000, chunks=chunks) for name in "abc")
    root = extract(Manifest(1, (Pack(digest, len(packed)),), entries), {digest: packed}, tmp_path / "into")
    assert {path.name: path.read_bytes() for path in root.iterdir()} == dict.fromkeys("abc", b"same" * 1000)
    assert [os.access(root / name, os.X_OK) for name in "abc"] == [False, True, False]


def test_a_large_file_is_put_together_from_its_chunks(tmp_path: Path) -> None:
    whole, end = b"\1" * CHUNK_BYTES, b"\2" * 100
    packs: dict[str, bytes] = dict([pack(whole), pack(end)])
    numbers = {digest: number for number, digest in enumerate(packs)}
    first, last = Chunk(sha256(whole), numbers[pack(whole)[0]]), Chunk(sha256(end), numbers[pack(end)[0]])
    size = 2 * CHUNK_BYTES + 100
    listed = Manifest(
        1,
        tuple(Pack(Digest(digest), len(data)) for digest, data in packs.items()),
        (File("large", executable=False, size=size, chunks=(first, first, last)),),
    )
    root = extract(listed, packs, tmp_path / "into")
    assert (root / "large").read_bytes() == whole + whole + end


CONTENT = b"content"
GOOD = pack(CONTENT)[1]


def special(name: str, kind: bytes, target: str = "") -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        archive.addfile(info)
    return gzip.compress(raw.getvalue())


def renamed(change: Callable[[bytes], bytes]) -> bytes:
    return gzip.compress(change(gzip.decompress(GOOD)))


HOSTILE: dict[str, bytes] = {
    "another content": pack(b"other")[1],
    "nothing": gzip.compress(bytes(10240)),
    "a content under a wrong name": renamed(lambda raw: raw.replace(CONTENT, b"changed")),
    "a path upwards": special("../precious", tarfile.REGTYPE),
    "a link": special(sha256(CONTENT), tarfile.SYMTYPE, "/etc/passwd"),
    "a hard link": special(sha256(CONTENT), tarfile.LNKTYPE, "../precious"),
    "a folder": special(sha256(CONTENT), tarfile.DIRTYPE),
    "a device": special(sha256(CONTENT), tarfile.CHRTYPE),
    "cut short": GOOD[:60],
    "no end": renamed(lambda raw: raw[:1024]),
    "something after the end": renamed(lambda raw: raw + b"evil" * 128),
    "garbage after gzip": GOOD + b"garbage",
    "not gzip": b"PK\x03\x04" + b"\0" * 600,
    "a damaged header": gzip.compress(b"a" * 1024),
    "a size that is no number": renamed(lambda raw: raw[:124] + b"x" * 11 + raw[135:]),
    "a bomb": gzip.compress(bytes(1024) + bytes(64 << 20)),
    "empty": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_packs_that_are_not_what_they_should_be_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "precious").write_text("untouched")
    with pytest.raises(BadArchive):
        extract(*one(CONTENT, HOSTILE[name]), tmp_path / "into")
    assert {path.name for path in tmp_path.iterdir()} == {"precious", "into"}
    assert (tmp_path / "precious").read_text() == "untouched"


def test_a_content_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadArchive, match="another size"):
        extract(*one(CONTENT, GOOD, size=8), tmp_path / "into")


LINKS: dict[str, tuple[Entry, ...]] = {
    "upwards": (Link("a", "../precious"),),
    "to the folder above": (Link("a", ".."),),
    "upwards from below": (Folder("a"), Link("a/b", "../../precious")),
    "a chain": (Folder("a"), Link("a/b", ".."), Link("c", "a/b/..")),
    "a long chain": (
        Folder("d"),
        Folder("d/d"),
        Link("d/d/l2", "../.."),
        Link("l1", "d/d"),
        Link("l3", "l1/l2/.."),
        Link("l4", "l3/precious"),
    ),
}


@pytest.mark.parametrize("name", LINKS)
def test_links_that_lead_outside_are_refused(tmp_path: Path, name: str) -> None:
    made = bundle({}, *LINKS[name])
    with pytest.raises(BadArchive, match="leads outside"):
        extract(decode(made.manifest), {}, tmp_path / "into")


def test_what_compresses_well_is_fine(tmp_path: Path) -> None:
    content = bytes(CHUNK_BYTES)
    root = extract(*one(content, pack(content)[1]), tmp_path / "into")
    assert (root / "a").read_bytes() == content


def test_it_gives_up_when_cancelled(tmp_path: Path) -> None:
    cancelled = threading.Event()
    manifest, _ = one(CONTENT, GOOD)
    extraction = Extraction(manifest, tmp_path / "into", cancelled=cancelled)
    extraction.begin()
    cancelled.set()
    with pytest.raises(Cancelled):
        extraction.unpack(0, io.BytesIO(GOOD))
