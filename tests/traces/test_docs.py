"""The page on traces knows every field and every finding, and no finding that does not exist."""

import re

import pytest

from chisel_shared.traces import hints, report
from chisel_shared.traces.gaps import CAUSES
from chisel_shared.traces.gpu import KINDS
from tests.support.source import ROOT

PAGE = (ROOT / "docs/reference/traces.md").read_text()
STRUCTS = (
    report.TraceInfo,
    report.GpuTime,
    report.Idle,
    report.Kernel,
    report.Op,
    report.Memory,
    report.Step,
)
OBVIOUS = {"name", "grid", "block", "kind", "device", "count"}


@pytest.mark.parametrize("kind", STRUCTS)
def test_every_field_has_its_definition(kind: type) -> None:
    fields = set(kind.__struct_fields__) - OBVIOUS  # type: ignore[attr-defined]
    assert sorted(field for field in fields if f"`{field}`" not in PAGE) == []


def test_every_finding_has_its_row() -> None:
    section = PAGE.partition("## Findings")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `([a-z0-9-]+)` \|", section, re.MULTILINE) != []
    assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", section, re.MULTILINE)) == set(hints.RULES)


@pytest.mark.parametrize("word", [*KINDS, *CAUSES])
def test_kinds_and_causes_are_explained(word: str) -> None:
    assert re.search(rf"^\| `{word}` \|", PAGE, re.MULTILINE)
