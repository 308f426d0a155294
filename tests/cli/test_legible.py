"""Names that a job put into a trace must not steer the terminal of whoever reads it."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chisel.cli import main
from chisel.cli.legible import harmless, legible, printable, styled
from tests.cli.reports import DIFF, MEMORY, RANKS, SUMMARY
from tests.traces.build import Trace

EVIL = "\x1b]0;title\x07\x1b[2J\x9b31m\r\nforged\u202egnp.\x7f"


def steers(text: str) -> list[str]:
    """Its characters that a terminal does not simply show."""
    return [c for c in text if not c.isprintable() and c not in "\n\t"]


@given(st.text())
def test_whatever_a_text_is_it_steers_nothing(text: str) -> None:
    assert printable(text).isprintable()
    assert not any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in harmless(text) if c not in "\n\t")
    assert json.loads(harmless(json.dumps(text, ensure_ascii=False))) == text


def test_plain_text_stays_what_it_is() -> None:
    text = "naïve 日本語 🙂 ÿ"
    assert printable(text) == harmless(text) == styled(text) == text
    assert harmless("two\nlines\tand a tab") == "two\nlines\tand a tab"


def test_colours_stay_where_a_report_has_them() -> None:
    assert styled("\x1b[1mbold\x1b[0m \x1b[2J") == "\x1b[1mbold\x1b[0m \\u001b[2J"


@pytest.mark.parametrize("report", [SUMMARY, MEMORY, DIFF, RANKS, (SUMMARY, RANKS)])
def test_a_report_without_anything_odd_is_the_same(report: object) -> None:
    assert legible(report) == report


def test_every_text_of_a_report_is_cleaned() -> None:
    trace = msgspec.structs.replace(SUMMARY.trace, gpu=EVIL, options=(EVIL,))
    cleaned = legible(msgspec.structs.replace(SUMMARY, trace=trace, notes=(EVIL,)))
    assert [steers(text) for text in (cleaned.trace.gpu, *cleaned.trace.options, *cleaned.notes)] == [[]] * 3
    assert "\n" not in cleaned.notes[0]


@pytest.mark.parametrize(
    "words",
    ["summary {0}", "summary -q {0}", "summary {0} --top 50", "summary {0} --json", "diff {0} {1}",
     "diff {0} {1} --json", "memory {0}", "memory {0} --json", "ranks {0} {1}", "ranks {0} {1} --json"],
)  # fmt: skip
def test_no_name_of_a_trace_reaches_the_terminal_as_an_escape(
    words: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = []
    for rank in (0, 1):
        trace = Trace(deviceProperties=[{"id": 0, "name": EVIL}], distributedInfo={"rank": rank})
        for at in range(0, 50_000, 1000):
            trace.op(EVIL, at, 400)
            trace.python(f"{EVIL}/train.py(3): {EVIL}", at, 500)
            trace.kernel(at + 300, 50, launch=at + 200, name=EVIL)
            waits: dict[str, Any] = {"Collective name": EVIL}
            trace.kernel(at + 400, 50, launch=at + 300, name=f"nccl{EVIL}", stream=8, **waits)
            trace.allocate(at + 100, 1 << 20, at << 20, address=at)
        path = tmp_path / f"{EVIL.replace('/', '')}.rank{rank}.json"
        path.write_text(json.dumps({"traceEvents": trace.events, **trace.metadata}))
        path.with_name(f"{path.stem}.meta.json").write_text(
            json.dumps({"schema": 1, "trace": EVIL, "function": EVIL, "ended_by": EVIL, "error": EVIL})
        )
        paths.append(str(path))
    main(["trace", *(word.format(*paths) for word in words.split())])
    shown = capfd.readouterr()
    assert "forged" in shown.out
    assert steers(shown.out) == steers(shown.err) == []
    if words.endswith("--json"):
        assert "forged" in json.dumps(json.loads(shown.out))
