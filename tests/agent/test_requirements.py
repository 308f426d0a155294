"""Reading requirements: what belongs to the name of an environment."""

from pathlib import Path

import pytest

from chisel_agent.requirements import BadRequirements, included, is_local, logical_lines, read_requirements


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a\n\n# comment\n  b==1  # why\n", ["a", "b==1"]),
        ("a>=1,\\\n<2\n", ["a>=1,<2"]),
        ("pkg @ https://host/x.whl#egg=pkg\n", ["pkg @ https://host/x.whl#egg=pkg"]),
        ("\ufeff", ["\ufeff"]),
        ("", []),
    ],
)
def test_lines_that_mean_something(text: str, lines: list[str]) -> None:
    assert logical_lines(text) == lines


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("-r other.txt", "other.txt"),
        ("-rother.txt", "other.txt"),
        ("--requirement other.txt", "other.txt"),
        ("--requirement=other.txt", "other.txt"),
        ("-c limits.txt", "limits.txt"),
        ("--constraint 'limits.txt'", "limits.txt"),
        ("requests", None),
        ("--require-hashes", None),
    ],
)
def test_what_a_line_includes(line: str, file: str | None) -> None:
    assert included(line) == file


@pytest.mark.parametrize(
    "line",
    [
        "-e .",
        "./lib",
        "/abs/lib",
        "lib/mine",
        "lib/mine[extra]",
        "my-1.0.whl ; python_version > '3'",
        "pkg @ file:///x",
        "--find-links wheels",
    ],
)
def test_what_comes_from_a_path(line: str) -> None:
    assert is_local(line)


@pytest.mark.parametrize(
    "line", ["pkg", "pkg[a]>=1.0", "pkg @ https://host/x.whl", "git+https://host/x", "-r lib/more.txt"]
)
def test_what_does_not(line: str) -> None:
    assert not is_local(line)


def test_included_files_belong_to_the_name(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "requirements.txt").write_text("-r sub/more.txt\na\n")
    (tmp_path / "sub/more.txt").write_text("-c limits.txt\nb\n")
    (tmp_path / "sub/limits.txt").write_text("b<2\n-r ../requirements.txt\n")
    first = read_requirements(tmp_path, "requirements.txt")
    assert [line for line in first.lines() if not included(line)] == ["a", "b", "b<2"]
    (tmp_path / "sub/limits.txt").write_text("b<3\n")
    second = read_requirements(tmp_path, "requirements.txt")
    assert first.digest("base") != second.digest("base") != second.digest("another base")
    assert second.digest("base") == read_requirements(tmp_path, "requirements.txt").digest("base")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"-r missing.txt", "missing.txt is not in the uploaded directory"),
        (b"-r ../outside.txt", "outside the uploaded directory"),
        (b"\xff\xfe", "cannot be read"),
        (b"#" * (2 << 20), "too large"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "outside.txt").write_text("a")
    root = tmp_path / "root"
    root.mkdir()
    (root / "requirements.txt").write_bytes(content)
    with pytest.raises(BadRequirements, match=says):
        read_requirements(root, "requirements.txt")


def test_a_named_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadRequirements, match=r"named.txt is not in the uploaded directory"):
        read_requirements(tmp_path, "named.txt")
