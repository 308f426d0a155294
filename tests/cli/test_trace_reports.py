"""What reports of traces look like: wide, narrow, in colours, in ASCII."""

import re

import msgspec
import pytest

from chisel.cli import trace_diff, trace_memory, trace_ranks, trace_summary
from chisel.cli.trace_paper import Paper, table
from chisel_shared.traces.report import Frame, GpuTime, Memory, MemoryPoint
from tests.cli.reports import DIFF, MEMORY, RANKS, SUMMARY

NOTHING = GpuTime(**dict.fromkeys(GpuTime.__struct_fields__, 0))
REPORTS = {
    "summary": lambda paper: trace_summary.summary(SUMMARY, paper),
    "summary with more": lambda paper: trace_summary.summary(SUMMARY, paper, top=20),
    "diff": lambda paper: trace_diff.diff(DIFF, paper),
    "memory": lambda paper: trace_memory.memory(SUMMARY, paper, top=5),
    "ranks": lambda paper: trace_ranks.ranks(RANKS, paper),
}


def shown(name: str, paper: Paper) -> str:
    return paper.written(REPORTS[name](paper))


@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize("width", [80, 100, 200])
def test_every_report_fits_the_terminal(name: str, width: int) -> None:
    for line in shown(name, Paper(width)).splitlines():
        assert len(line) <= width, line


@pytest.mark.parametrize("name", REPORTS)
def test_a_narrow_terminal_loses_columns_before_words(name: str) -> None:
    for line in shown(name, Paper(48)).splitlines():
        assert len(line) <= 48, line


@pytest.mark.parametrize("name", REPORTS)
def test_without_every_letter_it_is_ascii(name: str) -> None:
    assert shown(name, Paper(80, letters=False)).isascii()


@pytest.mark.parametrize("name", REPORTS)
def test_colours_add_nothing_but_colours(name: str) -> None:
    coloured = shown(name, Paper(80, colors=True))
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == shown(name, Paper(80))
    assert "\x1b" not in shown(name, Paper(80))


def test_a_summary_fits_one_screen_and_begins_with_what_matters() -> None:
    lines = shown("summary", Paper(80)).splitlines()
    assert len(lines) < 40
    assert lines[0].startswith("train_step · call 1 (cold) · rank 0 of 2 · H100 80GB HBM3 · torch 2.7.1")
    text = "\n".join(lines)
    assert "busy 567 ms of 1.08 s (52.6 %), 46.8 % of the call's 1.21 s" in text
    assert "compute 552 ms · exposed copy 14.6 ms" in text
    assert "idle 512 ms: waiting for the CPU 505 ms · launch latency 6.80 ms" in text
    assert "1    The GPU waits for Python: 98.7 % of its idle time" in lines
    assert "  →  Resize on the GPU, or in DataLoader workers." in lines
    assert "peak 2.71 GB allocated · 3.60 GB reserved · after 812 ms" in text
    assert "and 55 more kernels" in lines
    assert "LONGEST GAPS" not in text


def test_findings_that_do_not_fit_are_counted() -> None:
    one = msgspec.structs.replace(SUMMARY.findings[0], evidence=("a", "b", "c", "d"))
    found = msgspec.structs.replace(SUMMARY, findings=(one,) * 5)
    lines = trace_summary.summary(found, Paper(80))
    assert "     and 2 more findings: --top 10" in lines
    assert (lines.count("     c"), lines.count("     d")) == (3, 0)
    assert trace_summary.summary(found, Paper(80), top=10).count("     d") == 5


def test_more_of_it_has_the_gaps_with_who_called() -> None:
    text = shown("summary with more", Paper(0))
    assert "zoom scipy/ndimage/_interpolation.py:739 ← preprocess image_processing_owlv2.py:301" in text
    assert "cudaStreamSynchronize" in text


def test_without_a_gpu_operators_have_their_cpu_time() -> None:
    found = msgspec.structs.replace(SUMMARY, gpu=NOTHING, devices=(), kernels=(), findings=(), memory=())
    text = Paper().written(trace_summary.summary(found, Paper()))
    assert "no GPU work was recorded in 1.21 s" in text
    assert "TOP KERNELS" not in text
    assert re.search(r"TOP OPERATORS +CPU SELF ms +CALLS", text)
    found = msgspec.structs.replace(found, cpu=(Frame("load", "train.py", 12, 900_000.0),))
    text = Paper().written(trace_summary.summary(found, Paper()))
    assert re.search(r"TOP LINES +ms +WHERE\nload +900.00 +train.py:12", text)
    found = msgspec.structs.replace(found, cpu=(Frame("aten::mm", "", 0, 900_000.0),))
    assert "TOP LINES" not in Paper().written(trace_summary.summary(found, Paper()))


def test_what_limits_the_reading_is_said_before_the_numbers() -> None:
    info = msgspec.structs.replace(SUMMARY.trace, truncated=True)
    found = msgspec.structs.replace(SUMMARY, trace=info, notes=("7 spans overlap",))
    lines = trace_summary.summary(found, Paper(80))
    told = [line for line in lines if line.startswith("!")]
    assert told == [
        "!    the file is cut off: this covers the whole events before the cut",
        "!    7 spans overlap",
    ]
    assert lines.index(told[1]) < lines.index("1    The GPU waits for Python: 98.7 % of its idle time")


def test_a_difference_says_what_it_rests_on_and_where_it_lies() -> None:
    lines = shown("diff", Paper(80)).splitlines()
    assert lines[0] == "train_step  34.89 → 33.13 ms (-5.0 %)  faster"
    assert lines[1].strip() == "indicative: 1 capture each"
    assert "!    the GPU differs: H100 in A, MI300X in B" in lines
    assert "compute     30.00  27.84   -2.16  -7.2 %" in lines
    assert "aten::mm    6.66  8.65   +1.99  +29.9 %     10  slower" in lines
    assert not [line for line in lines if line.startswith(("aten::relu", "exposed comm"))]
    assert "1 the same" in lines
    assert "kernels: no change that counts" in lines
    assert lines[-1] == "20 kernels in both · 1 only in B"


def test_ranks_name_the_straggler() -> None:
    text = shown("ranks", Paper())
    assert text.startswith(
        "Rank 1 makes the others wait: it arrives last in 38 of 40 collectives, and they wait 178 ms"
    )
    nobody = msgspec.structs.replace(RANKS, straggler=None)
    assert trace_ranks.ranks(nobody, Paper())[0] == "3 ranks: none of them makes the others wait"


def test_memory_that_was_not_recorded_says_how_to_record_it() -> None:
    found = msgspec.structs.replace(SUMMARY, memory=())
    assert "profile_memory=True" in trace_memory.memory(found, Paper(), top=5)[0]


def test_a_chart_keeps_the_peak_however_short_it_is() -> None:
    points = [MemoryPoint(float(at), 10, 10) for at in range(1000)]
    points[501] = MemoryPoint(501.0, 1000, 1000)
    columns = trace_memory.sampled(points, 20)
    assert len(columns) == 20
    assert max(columns) == 1000
    assert sorted(columns)[:19] == [10] * 19
    assert trace_memory.sampled(points[:1], 5) == [10] * 5


def test_a_chart_of_bytes_is_as_high_as_what_was_allocated() -> None:
    rows = trace_memory.chart(MEMORY, Paper(80, letters=False))
    assert rows[0].startswith("2.71 GB |")
    assert [row.count("#") for row in rows[:8]] == sorted(row.count("#") for row in rows[:8])
    assert rows[7].count("#") == 64
    assert rows[8].split() == ["0", "1.20", "s"]
    empty = Memory("cpu", 0, 0, 0.0, 0, 0, (), ())
    assert trace_memory.chart(empty, Paper(80)) == []


def test_a_table_drops_columns_in_the_order_it_was_told() -> None:
    rows = [("a kernel with quite a long name", "1.0", "20 %", "aten::convolution_overrideable")]
    heading = ("KERNEL", "MS", "SHARE", "OPERATOR")
    wide = table(Paper(100), heading, rows, drop=(2,), left=(0, 3))
    assert wide[1] == "a kernel with quite a long name  1.0   20 %  aten::convolution_overrideable"
    narrow = table(Paper(40), heading, rows, drop=(2,), left=(0, 3))
    assert "SHARE" not in narrow[0]
    assert all(len(line) <= 40 for line in narrow)
