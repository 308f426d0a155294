"""A pack: what any tar program reads, and the same bytes for the same content."""

import gzip
import io
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


def test_a_pack_says_nothing_of_this_machine() -> None:
    packed = pack([("a" * 64, b"content")])
    assert packed[4:8] == bytes(4)  # gzip's time
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
        [member] = archive
    assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
    assert (member.name, member.mode, member.isfile()) == ("a" * 64, 0o644, True)
