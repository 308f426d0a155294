"""The API reference, promise by promise."""

from operator import attrgetter
from pathlib import Path

import pytest

from tests.e2e import promises_terminal as promises_terminal
from tests.e2e import promises_trace as promises_trace
from tests.e2e.promises import PROMISES, Promise, Reader
from tests.support.cluster import Cluster
from tests.support.source import ROOT

pytestmark = pytest.mark.e2e

PAGE = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
HEADINGS = {
    "capture_trace", "GPU Types", "chisel command", "Chisel CLI Options", "Interactive Mode",
    "Utility Commands", "Environment Variables", "Authentication Functions", "Credential Storage",
    "Common Exceptions", "Best Practices", "Advanced Usage", "Type Hints", "CLI Workflow",
}  # fmt: skip


def name(row: Promise) -> str:
    return f"line {row.line}, {row.heading}: {row.words}"


@pytest.fixture
def reader(cluster: Cluster, tmp_path: Path) -> Reader:
    return Reader(cluster, tmp_path)


@pytest.mark.parametrize("row", sorted(PROMISES, key=attrgetter("line")), ids=name)
def test_a_promise_is_kept(reader: Reader, row: Promise) -> None:
    row.check(reader)
    assert not [process for process in reader.cluster.get("/api/v1/jobs?unfinished=true")["jobs"]]


@pytest.mark.parametrize("row", [row for row in PROMISES if row.documented], ids=name)
def test_our_own_page_says_so_too(row: Promise) -> None:
    assert row.documented in PAGE


def test_every_part_of_the_reference_has_its_rows() -> None:
    assert {row.heading for row in PROMISES} == HEADINGS
    assert len({(row.line, row.words) for row in PROMISES}) == len(PROMISES)
