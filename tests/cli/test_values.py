"""How the texts of options are read."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chisel.cli import values
from chisel.cli.values import UsageError


@given(st.text())
def test_a_count_of_gpus_is_one_of_the_catalogue(text: str) -> None:
    assume(not (text.isascii() and text.isdecimal()))
    with pytest.raises(UsageError, match="1, 2, 4 or 8"):
        values.gpu(text)
    assert [values.gpu(str(count)) for count in (1, 2, 4, 8)] == [1, 2, 4, 8]


DURATIONS = {
    "90": 90, "45s": 45, "2m": 120, "90m": 5400, "1h30m": 5400, "1d": 86_400, "1d2h3m4s": 93_784,
    "01:30:00": 5400, "100:00:01": 360_001,
}  # fmt: skip


@pytest.mark.parametrize(("text", "seconds"), DURATIONS.items())
def test_durations(text: str, seconds: int) -> None:
    assert values.duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "0", "0h", "h", "1x", "30m1h", "1h1h", "-5", "1.5h", "1:30", "1:60:00", "00:00:00", "²s", "1h "],
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match="write it like 1h30m"):
        values.duration(text)


@given(st.integers(1, 23), st.integers(0, 59), st.integers(0, 59))
def test_both_spellings_of_a_duration_are_one(hours: int, minutes: int, seconds: int) -> None:
    spelt = values.duration(f"{hours}h{minutes}m{seconds}s")
    assert spelt == values.duration(f"{hours:02}:{minutes:02}:{seconds:02}")


def test_numbers_and_switches() -> None:
    assert (values.count("3"), values.integer("-3"), values.switch("Yes"), values.switch("0")) == (
        3, -3, True, False,
    )  # fmt: skip
    for read, text in (
        (values.count, "-1"),
        (values.integer, "--1"),
        (values.switch, "maybe"),
        (values.on_interrupt, "x"),
    ):
        with pytest.raises(UsageError, match=r"expected|ask, cancel or detach"):
            read(text)
