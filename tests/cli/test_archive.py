"""A pack: what any tar program reads, and the same bytes for the same content."""

import gzip
import io
import random
import tarfile

from hypothesis import given, settings
from hypothesis import strategies as st

from chisel.archive import pack, tar_size
from tests.support.packs import members, sha256


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=3000), max_size=8, unique=True))
def test_tar_programs_read_what_was_written(contents: list[bytes]) -> None:
    named = [(sha256(content), content) for content in contents]
    packed = pack(named)
    assert packed == pack(iter(named))
    assert list(members(packed).items()) == named
    raw = gzip.decompress(packed)
    assert len(raw) % 10240 == 0
    assert len(raw) >= sum(tar_size(len(content)) for content in contents) + 1024


def test_what_does_not_shrink_is_not_compressed() -> None:
    noise = random.Random(1).randbytes(1 << 20)
    text = b"one line like the next\n" * 40_000
    for content in (noise, text, noise[:1000] + text):
        packed = pack([(sha256(content), content), (sha256(b"x"), b"x")])
        assert members(packed) == {sha256(content): content, sha256(b"x"): b"x"}
        assert (packed[8] == 4) is (content is noise)  # gzip's word for the fastest there is
    small = noise[:1000]  # a level is no matter there
    assert members(pack([(sha256(small), small)])) == {sha256(small): small}


def test_a_pack_says_nothing_of_this_machine() -> None:
    packed = pack([("a" * 64, b"content")])
    assert packed[4:8] == bytes(4)  # gzip's time
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
        [member] = archive
    assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
    assert (member.name, member.mode, member.isfile()) == ("a" * 64, 0o644, True)
