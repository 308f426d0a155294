"""What a manifest may say. Whoever reads one believes it afterwards."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chisel_shared.contract.bundles import CHUNK_BYTES
from chisel_shared.contract.errors import BadRequest, ChiselError, TooLarge
from chisel_shared.contract.ids import Digest
from chisel_shared.contract.manifest import (
    Chunk,
    Entry,
    File,
    Folder,
    Link,
    Manifest,
    Pack,
    decode,
    encode,
)

A, B = Digest("a" * 64), Digest("b" * 64)
PACK = Pack(A, 10)


def file(path: str, size: int = 1, pack: int = 0) -> File:
    return File(path, executable=False, size=size, chunks=(Chunk(B, pack),))


def listed(*entries: Entry, packs: tuple[Pack, ...] = (PACK,), version: int = 1) -> bytes:
    return encode(Manifest(version, packs, entries))


def test_a_manifest_is_read_as_it_was_written() -> None:
    large = File("d/large", executable=True, size=CHUNK_BYTES + 1, chunks=(Chunk(A, 0), Chunk(B, 1)))
    made = Manifest(
        1,
        (PACK, Pack(B, 1)),
        (Folder("d"), large, Link("d/link", "../é"), File("e", executable=False, size=0)),
    )
    assert decode(encode(made)) == made
    assert decode(listed(packs=())).entries == ()


REFUSED: dict[str, bytes] = {
    "no JSON": b"nonsense",
    "no UTF-8": b"\xff\xfe",
    "another version": listed(file("a"), version=2),
    "spaces": listed(file("a")).replace(b":", b": "),
    "another field": listed(file("a"))[:-1] + b',"x":1}',
    "unknown kind": listed(file("a")).replace(b'["f"', b'["z"'),
    "absolute": listed(file("/a")),
    "upwards": listed(Folder(".."), file("../a")),
    "upwards in the middle": listed(Folder("a"), Folder("a/.."), file("a/../b")),
    "a dot": listed(Folder("."), file("./a")),
    "empty name": listed(file("")),
    "empty part": listed(Folder("a"), Folder("a/"), file("a//b")),
    "slash at the end": listed(Folder("a/"), packs=()),
    "backslash": listed(file("a\\b")),
    "control character": listed(file("a\nb")),
    "NUL": listed(file("a\0b")),
    "too deep": listed(*(Folder("/".join("d" * n)) for n in range(1, 66)), packs=()),
    "name too long": listed(file("n" * 256)),
    "twice": listed(file("a"), file("a")),
    "out of order": listed(file("b"), file("a")),
    "file and folder": listed(Folder("a"), file("a")),
    "no folder": listed(file("a/b")),
    "below a file": listed(file("a"), file("a/b")),
    "below a link": listed(Link("a", "."), file("a/b")),
    "link without target": listed(Link("a", ""), packs=()),
    "absolute link": listed(Link("a", "/etc/passwd"), packs=()),
    "link with a NUL": listed(Link("a", "b\0"), packs=()),
    "pack twice": listed(file("a"), file("b", pack=1), packs=(PACK, PACK)),
    "pack is no digest": listed(file("a"), packs=(Pack(Digest("../x"), 1),)),
    "pack nobody needs": listed(packs=(PACK,)),
    "no such pack": listed(file("a", pack=1)),
    "pack before the first": listed(file("a", pack=-1)),
    "chunk is no digest": listed(File("a", executable=False, size=1, chunks=(Chunk(Digest("x"), 0),))),
    "no chunks": listed(File("a", executable=False, size=1), packs=()),
    "chunks of nothing": listed(file("a", size=0)),
    "too few chunks": listed(file("a", size=CHUNK_BYTES + 1)),
    "negative size": listed(File("a", executable=False, size=-1), packs=()),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_be_understood_differently_is_refused(name: str) -> None:
    with pytest.raises(BadRequest):
        decode(REFUSED[name])


def test_limits_are_named() -> None:
    with pytest.raises(TooLarge, match="at most 1 files and folders"):
        decode(listed(file("a"), file("b")), max_entries=1)
    with pytest.raises(TooLarge, match="at most 99 bytes"):
        decode(listed(file("a", size=100)), max_bytes=99)
    with pytest.raises(TooLarge, match="a pack has at most"):
        decode(listed(file("a"), packs=(Pack(A, 1 << 30),)))


@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_no_bytes_do_worse_than_be_refused(data: bytes) -> None:
    with pytest.raises(ChiselError):
        decode(data)


VALUES = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text()


@given(st.recursive(VALUES, st.lists, max_leaves=20))
def test_no_entries_do_worse_than_be_refused(value: object) -> None:
    data = msgspec.json.encode({"version": 1, "packs": [], "entries": [value]})
    with pytest.raises(ChiselError):
        decode(data)
