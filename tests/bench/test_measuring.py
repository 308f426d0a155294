"""The benchmark's own judgement: a measurement that is wrong must not look fast."""

import sys
from pathlib import Path

import pytest

from tests.bench import c1_stream, c2_latency, client
from tests.bench.figures import Figure, percentile, table


def figure(*values: float, **more: object) -> Figure:
    return Figure(letter="A", what="hello", unit="ms", values=values, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("made", "holds"),
    [
        (figure(1, 9, 2), None),
        (figure(1, 9, 2, must=2), True),
        (figure(1, 9, 3, must=2), False),
        (figure(1, 9, 3, must=2, more_is_better=True), True),
        (figure(1, must=2, fault="a line was lost"), False),
        (figure(must=2), False),
    ],
)
def test_the_median_is_held_against_what_must_be(made: Figure, holds: bool | None) -> None:
    assert made.holds is holds


def test_the_table_names_what_does_not_hold() -> None:
    text = table([figure(1.0, must=2.0), figure(30.0, must=2.0, aim=1.0, fault="too slow")])
    assert text.splitlines()[2].split("|")[7].strip() == "yes"
    assert "too slow" in text.splitlines()[3]
    assert text.splitlines()[3].split("|")[7].strip() == "**no**"


def test_percentiles_are_values_that_were_seen() -> None:
    assert percentile([5, 1, 3], 0.5) == 3
    assert percentile(list(range(1, 101)), 0.99) == 99
    assert percentile([7], 0.99) == 7


LINES = [c1_stream._line(n) for n in range(5)]


@pytest.mark.parametrize(
    ("arrived", "fault"),
    [
        (LINES, ""),
        (LINES[:4], "1 lines lost, 0 doubled, 0 torn, 0 out of order"),
        ([*LINES, LINES[4]], "0 lines lost, 1 doubled, 0 torn, 0 out of order"),
        ([LINES[1], LINES[0], *LINES[2:]], "0 lines lost, 0 doubled, 0 torn, 1 out of order"),
        ([LINES[0], LINES[1][:50] + b"\n", *LINES[2:]], "1 lines lost, 0 doubled, 1 torn, 0 out of order"),
    ],
)
def test_a_stream_counts_only_when_every_line_came(
    arrived: list[bytes], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(c1_stream, "LINES", len(LINES))
    c1_stream._wanted_digest.cache_clear()
    done = client.Run(exit_status=0, chunks=[(0, b"".join(arrived))])
    assert c1_stream.verdict(done) == fault
    c1_stream._wanted_digest.cache_clear()


def test_a_stamp_split_over_two_reads_arrives_with_the_second() -> None:
    stamp = b"T1000000000000000000E\n"
    sent = 1_000_000_000_000_000_000
    done = client.Run(chunks=[(sent, stamp[:7]), (sent + 3_000_000, stamp[7:] + stamp)])
    assert c2_latency.latencies(done) == [3.0, 3.0]


def test_a_command_is_timed_from_its_start_to_its_end(tmp_path: Path) -> None:
    code = "import sys; print('one'); sys.stdout.flush(); print('mark'); sys.exit(3)"
    done = client.run([sys.executable, "-c", code], env={}, cwd=tmp_path, marker=b"mark")
    assert done.stdout == b"one\nmark\n"
    assert done.exit_status == 3
    assert done.marker_at is not None
    assert 0 < done.marker_at <= done.wall
    with pytest.raises(RuntimeError, match="ended with 3"):
        client.must_succeed(done)
