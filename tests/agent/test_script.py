"""Script metadata: what a script says it needs becomes its requirements."""

from pathlib import Path

import pytest

from chisel_agent.requirements import BadRequirements, read_requirements
from chisel_agent.script import BadMetadata, Metadata, read_metadata

BLOCK = """\
#!/usr/bin/env python
# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "numpy<3",
#
#   "rich",
# ]
# ///
import numpy
"""


@pytest.mark.parametrize(
    ("text", "metadata"),
    [
        (BLOCK, Metadata(("numpy<3", "rich"), ">=3.11")),
        (BLOCK.replace("\n", "\r\n"), Metadata(("numpy<3", "rich"), ">=3.11")),
        ("import numpy\n", Metadata()),
        ("# /// script\n# ///\n", Metadata()),
        ("# /// script\n# dependencies = ['a']\n", Metadata()),
        ("# /// other\n# dependencies = ['a']\n# ///\n", Metadata()),
        ("x = '''\n # /// script\n# dependencies = ['a']\n# ///\n'''", Metadata()),
    ],
)
def test_what_a_script_says(text: str, metadata: Metadata) -> None:
    assert read_metadata(text, "x.py") == metadata


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("dependencies = [", "x.py is not valid TOML"),
        ("dependencies = 'a'", "must be a list of texts"),
        ("requires-python = 3", "must be a text"),
        ("dependencies = ['-r other.txt']", "must be requirements, not options"),
    ],
)
def test_what_makes_no_sense_is_said(content: str, says: str) -> None:
    with pytest.raises(BadMetadata, match=says):
        read_metadata(f"# /// script\n# {content}\n# ///\n", "x.py")


def test_two_blocks_are_one_too_many() -> None:
    with pytest.raises(BadMetadata, match="more than one block"):
        read_metadata(BLOCK + BLOCK, "x.py")


def test_a_script_stands_for_its_requirements(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "x.py").write_text(BLOCK)
    found = read_requirements(work, "x.py")
    assert (found.lines(), found.python, found.local) == (["numpy<3", "rich"], ">=3.11", False)
    assert found.path.read_text() == "numpy<3\nrich\n"
    assert [path.name for path in work.iterdir()] == ["x.py"]
    (work / "x.py").write_text("# /// script\n# dependencies = 1\n# ///\n")
    with pytest.raises(BadRequirements, match="must be a list"):
        read_requirements(work, "x.py")
