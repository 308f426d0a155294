"""Which escapes of a script reach the terminal, however they are split."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chisel.cli.escapes import Filter


def filtered(*pieces: bytes) -> bytes:
    one = Filter()
    return b"".join([*(bytes(one.feed(piece)) for piece in pieces), one.end()])


PASSED = [
    b"plain text\r\n\ttab \x07\x08 \x0e\x0f",
    b"50 %|#####     | 1/2\r",
    "naïve 日本語 🙂 ÿ".encode(),
    b"\x1b[31mred\x1b[0m \x1b[1;38;5;208mbold\x1b[m \x1b[38:2::1:2:3mtrue\x1b[39m",
    b"\x1b[2K\x1b[1A\x1b[3;4H\x1b[s\x1b[u\x1b7\x1b8\x1bM\x1b[?25l\x1b[?25h\x1b[?1049h\x1b[?2004h",
    b"\x1b(B\x1b[!p\x1b[2 q",
    b"\x1b]8;;https://example.com\x1b\\link\x1b]8;;\x1b\\",
    b"\x1b]8;id=1;https://example.com\x07link\x1b]8;;\x07",
    b"\x1b[?1000l\x1b[?1004l",
    b"\xff\xfe\xa0 no UTF-8",
]

LEFT_OUT = [
    (b"a\x1b]52;c;ZWNobw==\x07b", b"ab"),
    (b"a\x1b]0;title\x07b\x1b]1;icon\x1b\\c\x1b]2;t\x1b\\d", b"abcd"),
    (b"a\x1b]10;?\x1b\\b\x1b]1337;File=:AAAA\x07c", b"abc"),
    (b"a\x1bP1$r0m\x1b\\b\x1b_Gi=1;AAAA\x1b\\c\x1b^private\x1b\\d\x1bXstart\x1b\\e", b"abcde"),
    (b"a\x1bktitle\x1b\\b", b"ab"),
    (b"a\x1b[6nb\x1b[5nc\x1b[?6nd\x1b[ce\x1b[>cf\x1b[=cg\x1bZh\x05i", b"abcdefghi"),
    (b"a\x1b[21tb\x1b[8;1;1tc\x1b[xd\x1b[?2026$pe\x1b[>qf\x1b[?ug\x1b[>1uh\x1b[4ii\x1b[1*yj", b"abcdefghij"),
    (b"a\x1b[?1000hb\x1b[?25;1003hc\x1b[?1004hd", b"abcd"),
    # 8-bit controls, as bytes and as characters.
    (b"a\x9b6nb\x9d0;t\x07c\x90q\x9cd", b"a?6nb?0;t\x07c?q?d"),
    ("a\x9b6nb\x9d0;t\x07".encode(), b"a?6nb?0;t\x07"),
    # A string ends where a terminal would end it, and where a line does.
    (b"a\x1b]0;never ended\nb", b"a\nb"),
    (b"a\x1b]0;t\x1b[31mb", b"a\x1b[31mb"),
    (b"a\x1b]0;t\x18b", b"ab"),
    (b"a\x1bPq\npicture\n\x1b\\b", b"ab"),
    (b"a\x1b]8;;x\x01\x1b\\b", b"ab"),
    ("a\x1b]0;t\x9cb".encode(), b"ab"),
    # What is broken off.
    (b"a\x1b[31\nb", b"a[31\nb"),
    (b"a\x1b\x1b[1mb", b"a\x1b[1mb"),
    (b"a\x1b[" + b"1;" * 200 + b"mb", b"ab"),
    (b"a\x1b[31", b"a"),
    (b"a\xe2\x82", b"a\xe2\x82"),
]


@pytest.mark.parametrize("text", PASSED)
def test_what_draws_passes_untouched(text: bytes) -> None:
    assert filtered(text) == text
    assert filtered(*(text[at : at + 1] for at in range(len(text)))) == text


@pytest.mark.parametrize(("text", "left"), LEFT_OUT)
def test_what_does_more_is_left_out(text: bytes, left: bytes) -> None:
    assert filtered(text) == left


PIECES = st.one_of(
    st.binary(max_size=8),
    st.text(max_size=4).map(lambda text: text.encode()),
    st.sampled_from([text for text, _ in LEFT_OUT] + PASSED),
    st.sampled_from([b"\x1b", b"\x1b[", b"\x1b]", b"\x1bP", b"\x1b\\", b"\x07", b"\xc2", b"\x9b", b"\x05"]),
)


@given(st.lists(PIECES, max_size=6).map(b"".join), st.lists(st.integers(0, 80), max_size=8))
def test_where_it_is_split_does_not_matter(data: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in pairwise(places)]
    assert filtered(*pieces) == filtered(data)


@given(st.lists(PIECES, max_size=6).map(b"".join))
def test_nothing_harmful_is_left(data: bytes) -> None:
    left = filtered(data)
    assert filtered(left) == left
    assert b"\x05" not in left
    for intro in (
        b"\x1bP",
        b"\x1b_",
        b"\x1b^",
        b"\x1bX",
        b"\x1bk",
        b"\x1bZ",
        b"\x1b]0",
        b"\x1b]2",
        b"\x1b]52",
    ):
        assert intro not in left


@given(st.lists(st.text(st.characters(exclude_categories=["Cc", "Cs"])), max_size=5))
def test_ordinary_text_never_waits(pieces: list[str]) -> None:
    one = Filter()
    for piece in pieces:
        assert one.feed(piece.encode()) == piece.encode()


def test_a_string_without_end_does_not_swallow_everything() -> None:
    one = Filter()
    one.feed(b"\x1bP")
    for _ in range(300):
        one.feed(b"x" * 4096)
    assert one.feed(b"seen\n") == b"seen\n"
