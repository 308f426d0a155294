"""Head, notice and tail are the right bytes, whatever was written and wherever the writer was killed."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chisel_agent import shim_tail
from chisel_agent.shim_stream import Stream
from chisel_agent.shim_tail import HEADER_BYTES, notice, places, steps

SIZES = st.lists(st.integers(0, 40), max_size=30)


def numbered(size: int, begin: int = 0) -> bytes:
    """Bytes that tell where they belong, as well as a byte can."""
    return bytes(n % 251 for n in range(begin, begin + size))


class Ring:
    """A ring in memory, and a writer that may be killed between two bytes; the count is one write of eight
    bytes, which the kernel does whole."""

    def __init__(self, tail: int, slack: int) -> None:
        self.tail, self.room = tail, tail + slack
        self.data = bytearray(HEADER_BYTES + self.room)

    @property
    def counted(self) -> int:
        return int.from_bytes(self.data[:8], "big")

    def write(self, data: bytes, strength: int) -> int:
        """Write, but die after `strength` bytes; what strength is left."""
        for place, piece in steps(self.counted, self.tail, self.room, data):
            if place == 0:
                if strength < len(piece):
                    return 0
                done = len(piece)
            else:
                done = min(strength, len(piece))
                assert HEADER_BYTES <= place <= place + len(piece) <= len(self.data)
            self.data[place : place + done] = piece[:done]
            strength -= done
            if done < len(piece):
                return 0
        return strength

    def kept(self, skip: int = 0) -> bytes:
        found = places(self.counted, self.tail, self.room, skip)
        return b"".join(self.data[place : place + size] for place, size in found)


@given(tail=st.integers(0, 50), slack=st.integers(1, 20), sizes=SIZES, strength=st.integers(0, 2_000))
def test_the_last_bytes_are_kept_wherever_the_writer_is_killed(
    tail: int, slack: int, sizes: list[int], strength: int
) -> None:
    ring, begin = Ring(tail, slack), 0
    for size in sizes:
        strength = ring.write(numbered(size, begin), strength)
        begin += size
        assert begin - size <= ring.counted <= begin
        if ring.counted < begin:
            break
    counted = ring.counted
    assert ring.kept() == numbered(counted)[max(0, counted - tail) :]


@given(tail=st.integers(0, 50), slack=st.integers(1, 20), sizes=SIZES, skip=st.integers(0, 60))
def test_what_was_kept_can_be_read_from_any_place_on(
    tail: int, slack: int, sizes: list[int], skip: int
) -> None:
    ring = Ring(tail, slack)
    for begin, size in zip((sum(sizes[:n]) for n in range(len(sizes))), sizes, strict=True):
        ring.write(numbered(size, begin), 1 << 30)
    assert ring.kept(skip) == ring.kept()[skip:]


@pytest.mark.parametrize(
    ("counted", "tail", "within_line", "said"),
    [
        (0, 5, True, b""),
        (5, 5, True, b""),
        (6, 5, False, b"[chisel: 1 byte was left out here]\n"),
        (12_345_683, 5, True, b"\n[chisel: 12,345,678 bytes were left out here]\n"),
    ],
)
def test_a_line_says_what_is_missing_if_anything_is(
    counted: int, tail: int, within_line: bool, said: bytes
) -> None:
    assert notice(counted, tail, within_line=within_line) == said


@given(
    head=st.integers(1, 60),
    tail=st.integers(0, 40),
    sizes=SIZES,
    cuts=st.lists(st.integers(0, 200), max_size=4),
)
def test_a_spool_has_head_and_tail_once_however_often_putting_them_together_is_killed(
    tmp_path_factory: pytest.TempPathFactory, head: int, tail: int, sizes: list[int], cuts: list[int]
) -> None:
    folder = tmp_path_factory.getbasetemp() / os.urandom(8).hex()
    folder.mkdir()
    spool = folder / "stdout"
    stream = Stream(str(spool), head=head, tail=tail)
    written = 0
    for size in sizes:
        stream.keep(numbered(size, written))
        written += size
    before = spool.stat().st_size
    assert before == min(written, head)
    shim_tail.append(str(spool))
    whole = spool.read_bytes()
    for cut in cuts:
        os.truncate(spool, min(len(whole), before + cut))  # as far as a killed one came
        left_out = shim_tail.left_out(str(spool))
        assert left_out >= max(0, written - head - tail)
        shim_tail.append(str(spool))
        assert spool.read_bytes() == whole
    said = notice(max(0, written - head), tail, within_line=whole[head - 1 : head] != b"\n")
    ended = numbered(written)
    assert whole == ended[:head] + said + ended[head:][max(0, written - head - tail) :]
    assert shim_tail.left_out(str(spool)) == max(0, written - head - tail)
    os.close(stream.spool)
    if stream.tail is not None:
        os.close(stream.tail.file)


def test_a_ring_whose_writer_was_killed_before_it_began_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "stdout").write_bytes(b"head")
    (tmp_path / "stdout.tail").touch()
    shim_tail.append(str(tmp_path / "stdout"))
    assert (tmp_path / "stdout").read_bytes() == b"head"
    assert shim_tail.left_out(str(tmp_path / "stdout")) == 0


def test_what_could_not_be_put_back_counts_as_left_out(tmp_path: Path) -> None:
    spool = tmp_path / "stdout"
    stream = Stream(str(spool), head=4, tail=10)
    stream.keep(b"head" + b"a" * 100 + b"0123456789")
    said = notice(110, 10, within_line=True)
    for kept, missing in ((0, 110), (3, 110), (len(said), 110), (len(said) + 4, 106)):
        spool.write_bytes(b"head" + (said + b"0123456789")[:kept])
        assert shim_tail.left_out(str(spool)) == missing
