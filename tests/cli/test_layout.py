"""Where things lie below the uploaded directory."""

import re
from pathlib import Path

import pytest

from chisel.layout import BadInput, Layout, locate


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    project = tmp_path / "project"
    (project / "src" / "deep").mkdir(parents=True)
    (project / "train.py").touch()
    (project / "src" / "tool.py").touch()
    (project / "--gpu").touch()
    monkeypatch.chdir(project)
    return project


def test_the_plain_case(project: Path) -> None:
    assert locate("train.py") == Layout(str(project), "train.py", ".", None)


@pytest.mark.parametrize(
    ("here", "script", "upload_dir", "expected"),
    [
        ("src", "tool.py", "..", ("tool.py", "src")),
        ("src", "../train.py", "..", ("../train.py", "src")),
        ("src/deep", "../tool.py", "../..", ("../tool.py", "src/deep")),
        (".", "src/tool.py", "src", ("tool.py", ".")),
        (".", "./src/../train.py", "", ("train.py", ".")),
        (".", "./--gpu", "", ("./--gpu", ".")),
    ],
)
def test_a_job_works_where_the_user_is(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    here: str,
    script: str,
    upload_dir: str,
    expected: tuple[str, str],
) -> None:
    monkeypatch.chdir(project / here)
    found = locate(script, upload_dir=upload_dir or ".")
    assert (found.script, found.workdir) == expected


def test_a_script_outside_has_the_words_of_the_reference(project: Path) -> None:
    expected = f"Script {project}/train.py is not inside upload_dir {project}/src"
    with pytest.raises(AssertionError, match=f"^{re.escape(expected)}$"):
        locate("train.py", upload_dir="src")


def test_a_directory_with_a_longer_name_is_outside(project: Path) -> None:
    (project / "src2").mkdir()
    (project / "src2" / "x.py").touch()
    with pytest.raises(AssertionError):
        locate("src2/x.py", upload_dir="src")


def test_a_directory_reached_by_a_link_is_inside(project: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(project)
    assert locate(str(tmp_path / "link" / "train.py")).script == "train.py"


@pytest.mark.parametrize(
    ("script", "upload_dir", "says"),
    [
        ("nope.py", ".", "the script .*/nope.py does not exist$"),
        ("trian.py", ".", r"the script .*/trian.py does not exist; did you mean train.py\?$"),
        ("src", ".", "the script .*/src is a directory, not a file"),
        ("train.py", "nope", "the upload directory .*/nope does not exist"),
        ("train.py", "train.py", "the upload directory .*/train.py is not a directory"),
    ],
)
def test_what_is_missing_is_said(project: Path, script: str, upload_dir: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        locate(script, upload_dir=upload_dir)


def test_a_script_that_would_not_travel_is_refused(project: Path) -> None:
    (project / ".venv").mkdir()
    (project / ".venv" / "x.py").touch()
    with pytest.raises(BadInput, match=r"leaves out everything called \.venv"):
        locate(".venv/x.py")


class TestRequirements:
    def test_none_by_default(self, project: Path) -> None:
        assert locate("train.py").requirements is None

    def test_the_default_name_in_the_root(self, project: Path) -> None:
        (project / "requirements.txt").touch()
        assert locate("train.py").requirements == "requirements.txt"

    def test_the_default_name_where_the_user_is(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (project / "src" / "requirements.txt").touch()
        monkeypatch.chdir(project / "src")
        assert locate("tool.py", upload_dir="..").requirements == "src/requirements.txt"
        assert locate("../train.py", upload_dir="../").requirements == "src/requirements.txt"

    def test_a_named_file_is_looked_for_here_and_in_the_root(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (project / "base.txt").touch()
        (project / "src" / "own.txt").touch()
        monkeypatch.chdir(project / "src")
        assert locate("tool.py", upload_dir="..", requirements="own.txt").requirements == "src/own.txt"
        assert locate("tool.py", upload_dir="..", requirements="base.txt").requirements == "base.txt"

    def test_a_named_file_must_exist(self, project: Path) -> None:
        with pytest.raises(BadInput, match=r"the requirements file .*/nope\.txt does not exist"):
            locate("train.py", requirements="nope.txt")

    def test_the_default_name_said_aloud_must_exist(self, project: Path) -> None:
        with pytest.raises(BadInput, match="does not exist"):
            locate("train.py", requirements="requirements.txt")

    def test_a_named_file_must_travel(self, project: Path, tmp_path: Path) -> None:
        (tmp_path / "far.txt").touch()
        with pytest.raises(BadInput, match="not inside the upload directory"):
            locate("train.py", requirements="../far.txt")


def test_a_scripts_metadata_comes_before_the_default_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "requirements.txt").touch()
    (tmp_path / "named.txt").touch()
    script = tmp_path / "x.py"
    script.write_text("# /// script\n# dependencies = ['numpy']\n# ///\n")
    assert locate("x.py").requirements == "x.py"
    assert locate("x.py", requirements="named.txt").requirements == "named.txt"
    for without in (
        "import numpy\n",
        "# /// script\n# [tool.x]\n# ///\n",
        "# /// script\n# dependencies = []\n",
    ):
        script.write_text(without)
        assert locate("x.py").requirements == "requirements.txt"
    # What it runs with is looked at in any case, unless a file says what to install.
    script.write_text("# /// script\n# requires-python = '>=3.11'\n# ///\n")
    assert locate("x.py").requirements == "requirements.txt"
    (tmp_path / "requirements.txt").unlink()
    assert locate("x.py").requirements == "x.py"
