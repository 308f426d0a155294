"""The commands of the guides: each is one that the real parsers take, and each picture is there."""

import re
import shlex
from pathlib import Path

import pytest

from chisel.cli import table
from chisel.cli.arguments import parse
from chisel.cli.quick import parse as parse_quickly
from tests.support.source import ROOT

PAGES = sorted((ROOT / "docs" / "howto").glob("*.md"))


def commands(page: Path) -> list[list[str]]:
    """The words behind `chisel` on each line of the page's shell blocks."""
    found = []
    for block in re.findall(r"```(?:sh|console)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        for line in block.splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if "|" in words:
                words = words[words.index("|") + 1 :]
            if words[:1] == ["chisel"]:
                found.append(words[1:])
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_its_commands_are_understood(page: Path) -> None:
    for words in commands(page):
        if "python" in words:
            assert parse(words).script, words
            continue
        found = table.find(words)
        assert found is not None, words
        assert parse_quickly(*found) is not None, words


def test_the_guides_have_commands() -> None:
    assert sum(bool(commands(page)) for page in PAGES) >= 6


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.stem)
def test_its_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
