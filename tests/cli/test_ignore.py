"""Which files travel. Where git is installed it is asked what it thinks of the same rules."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chisel import ignore
from chisel.ignore import Rule, Translations, looks_secret
from chisel.tree import walk
from chisel_shared.contract.errors import BadRequest

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def write(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def travelling(root: Path) -> set[str]:
    """The files that travel, without the ones with rules."""
    tree = walk(str(root))
    names = (ignore.GIT, ignore.CHISEL)
    return {
        entry.name
        for entry in tree.entries
        if not os.path.isdir(entry.path) and os.path.basename(entry.name) not in names
    }


def kept_by_git(root: Path) -> set[str]:
    if not (root / ".git").exists():
        subprocess.run(["git", "init", "-q", str(root)], check=True)
    listed = subprocess.run(
        ["git", "-c", "core.excludesFile=/dev/null", "ls-files", "-o", "-z", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
    ).stdout
    return {name for name in listed.decode().split("\0") if name and not name.endswith(ignore.GIT)}


FILES = (
    "a.py", "a.log", "b.log", "sub/a.log", "sub/b.py", "sub/deep/a.log", "sub/deep/keep.log", "build/x.o",
    "build/keep", "src/build/y.o", "data/1.bin", "data/raw/2.bin", "data/raw/deep/3.bin", "foo", "x/foo/y",
    "docs/index.txt", "docs/api/index.txt", "doc.txt", "sp ace", "tail ", "#hash", "!bang", "[br]", "a?b",
    "UPPER.LOG", "é.log", ".hidden", "sub/.hidden",
)  # fmt: skip

RULES = (
    "",
    "*.log",
    "*.log\n!keep.log",
    "*.log\n!sub/deep/keep.log",
    "/a.log",
    "/sub/*.log",
    "sub/*.log",
    "build",
    "build/",
    "/build/",
    "/build",
    "build/*\n!build/keep",
    "build/\n!build/keep",
    "data/**",
    "data/**\n!data/raw",
    "data/**\n!data/raw/",
    "data/*\n!data/raw/",
    "data/**/\n",
    "**/foo",
    "foo",
    "foo/",
    "**/foo/**",
    "x/**/y",
    "x/foo/**",
    "docs/**/*.txt",
    "docs/**/index.txt",
    "**/index.txt",
    "*.txt\n!*.txt",
    "*",
    "*\n!*/\n!*.py",
    "/*",
    "/*\n!/sub",
    "/*\n!/sub/\n/sub/*\n!/sub/b.py",
    "**",
    "sp\\ ace",
    "sp ace",
    "tail\\ ",
    "tail ",
    "\\#hash",
    "#hash",
    "\\!bang",
    "!bang",
    "\\[br\\]",
    "[br]",
    "[a-c].log",
    "[!x].py",
    "a?log",
    "a?b",
    "a\\?b",
    "*.LOG",
    "é.log",
    ".*",
    ".*\n!.hidden",
    "sub/deep",
    "sub/deep/",
    "deep/a.log",
    "**/deep/a.log",
    "/**/a.log",
    "sub/**",
    "sub/**\n!*.py",
    "*.log\r\n!a.log\r\n",
    "\ufeff*.log",
    "   *.log",
    "a.log\\",
    "[",
    "[]-]",
    "foo/**/y",
    "*/foo",
    "*/a.log",
    "**.log",
    "**/*/**",
    "/**/*/**",
    "*/**",
    "**/**",
    "s*b",
    "sub\n!sub",
    "sub\n!sub/",
    "foo\n!foo/",
)


@needs_git
@pytest.mark.parametrize("rules", RULES)
def test_rules_mean_what_they_mean_to_git(tmp_path: Path, rules: str) -> None:
    root = write(tmp_path, dict.fromkeys(FILES, "x"))
    (root / ".gitignore").write_text(rules, newline="")
    assert travelling(root) == kept_by_git(root)


@needs_git
@pytest.mark.parametrize("rules", RULES)
def test_rules_of_a_folder_above_and_below(tmp_path: Path, rules: str) -> None:
    root = write(tmp_path, {f"sub/project/{name}": "x" for name in FILES})
    (root / ".gitignore").write_text("*.bin\n!/sub/project/data/1.bin\nsub/project/docs\n")
    (root / "sub" / ".gitignore").write_text(rules, newline="")
    (root / "sub" / "project" / "sub" / ".gitignore").write_text("!a.log\nb.py\n")
    everything = kept_by_git(root)
    below = {name.removeprefix("sub/project/") for name in everything if name.startswith("sub/project/")}
    assert travelling(root) == everything
    # Seen from the project itself, the same rules hold for what is in it.
    if below:
        assert travelling(root / "sub" / "project") == below


PARTS = st.sampled_from(["a", "b", "*", "**", "a*", "?", "[ab]", "a.b", ".a"])
LINES = st.builds(
    lambda bang, lead, parts, tail: f"{bang}{lead}{'/'.join(parts)}{tail}",
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["", "", "/"]),
    st.lists(PARTS, min_size=1, max_size=3),
    st.sampled_from(["", "", "/"]),
)
NAMES = st.sampled_from(["a", "b", "aa", "a.b", ".a", "c"])


@needs_git
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(LINES, min_size=1, max_size=4),
    st.lists(LINES, max_size=2),
    st.sets(st.lists(NAMES, min_size=1, max_size=4).map("/".join), min_size=1, max_size=8),
)
def test_any_rules_mean_what_they_mean_to_git(
    tmp_path: Path, rules: list[str], deeper: list[str], names: set[str]
) -> None:
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    files = {name for name in names if not any(other.startswith(name + "/") for other in names)}
    write(tmp_path, dict.fromkeys(files, "x"))
    (tmp_path / ".gitignore").write_text("\n".join(rules))
    if (tmp_path / "a").is_dir():
        (tmp_path / "a" / ".gitignore").write_text("\n".join(deeper))
    assert travelling(tmp_path) == kept_by_git(tmp_path)


@pytest.mark.parametrize(
    ("chisel", "kept"),
    [
        ({}, {"a.py", "sub/a.py", "sub/keep.csv"}),
        (
            {".chiselignore": "!data/\n!*.csv\n"},
            {"a.py", "data/1.csv", "data/2.csv", "sub/a.py", "sub/keep.csv"},
        ),
        ({".chiselignore": "!data/"}, {"a.py", "sub/a.py", "sub/keep.csv"}),
        ({".chiselignore": "!data/1.csv"}, {"a.py", "sub/a.py", "sub/keep.csv"}),
        (
            {".chiselignore": "!data/\ndata/*\n!data/1.csv\n"},
            {"a.py", "data/1.csv", "sub/a.py", "sub/keep.csv"},
        ),
        ({".chiselignore": "sub/"}, {"a.py"}),
        ({".chiselignore": "*.py", "sub/.chiselignore": "!a.py"}, {"sub/a.py", "sub/keep.csv"}),
        ({"sub/.chiselignore": "*"}, {"a.py"}),
        ({".chiselignore": "*.csv\n"}, {"a.py", "sub/a.py"}),
        (
            {".chiselignore": "!node_modules/"},
            {"a.py", "sub/a.py", "sub/keep.csv", "node_modules/x.js"},
        ),
    ],
)
def test_chiselignore_comes_after_every_gitignore(
    tmp_path: Path, chisel: dict[str, str], kept: set[str]
) -> None:
    names = ("a.py", "data/1.csv", "data/2.csv", "sub/a.py", "sub/keep.csv", "node_modules/x.js")
    root = write(tmp_path, dict.fromkeys(names, "x"))
    write(root, {".gitignore": "data/\n*.csv\n", "sub/.gitignore": "!keep.csv\n", **chisel})
    assert travelling(root) == kept


@pytest.mark.parametrize("name", sorted(ignore.NAMES))
def test_what_nobody_wants_to_upload_stays(tmp_path: Path, name: str) -> None:
    write(tmp_path, {f"sub/{name}/file": "", "sub/file": ""})
    tree = walk(str(tmp_path))
    assert [entry.name for entry in tree.entries] == ["sub", "sub/file"]
    assert tree.left_out == ((f"sub/{name}/", "always left out"),)


@pytest.mark.parametrize("mark", sorted(ignore.ENVIRONMENT_MARKS))
def test_an_environment_is_known_by_what_is_in_it(tmp_path: Path, mark: str) -> None:
    write(tmp_path, {f"my-env/{mark}": "", "my-env/lib/x.py": "", "job.py": "", mark: ""})
    tree = walk(str(tmp_path))  # the directory that was asked for may be one itself
    assert [entry.name for entry in tree.entries] == sorted(["job.py", mark])
    assert tree.left_out == (("my-env/", "a virtual environment"),)
    (tmp_path / ".chiselignore").write_text("!my-env/")
    assert "my-env/lib/x.py" in travelling(tmp_path)


def test_private_folders_never_travel_whatever_rules_say(tmp_path: Path) -> None:
    write(tmp_path, {"deep/stack/key": "secret", "job.py": "", ".chiselignore": "!stack/\n!deep/stack/\n"})
    tree = walk(str(tmp_path), never=[str(tmp_path / "deep" / "stack"), "/nowhere"])
    assert [entry.name for entry in tree.entries] == [".chiselignore", "deep", "job.py"]


def test_what_is_needed_and_left_out_is_said_with_the_rule(tmp_path: Path) -> None:
    write(tmp_path, {"out/job.py": "", ".gitignore": "out/\n"})
    tree = walk(str(tmp_path))
    tree.require(".")
    with pytest.raises(
        BadRequest, match=r"out/job.py is not uploaded \(\.gitignore\): .* !/out/ in \.chisel"
    ):
        tree.require("out/job.py")


def test_rules_are_translated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"a.log": "", "b.py": "", ".gitignore": "*.log\n", "sub/.gitignore": "*.log\n"})
    first = Translations()
    assert len(walk(str(tmp_path), translations=first).left_out) == 1
    assert first.new
    monkeypatch.setattr(ignore, "_translate", lambda text: pytest.fail("the library was needed"))
    again = Translations(first.used)
    assert len(walk(str(tmp_path), translations=again).left_out) == 1
    assert not again.new
    assert again.used == {"*.log\n": (Rule(r"^(?:.+/)?[^//]*\.log", keeps=False, folders=False),)}


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        (".env", True), (".env.local", True), ("prod.pem", True), ("id_rsa", True), ("id_ed25519", True),
        ("credentials", True), ("credentials.json", True), ("aws-credentials.json", True),
        ("server.key", True),
        (".netrc", True), (".pypirc", True), ("service-account-1.json", True), ("secrets.yaml", True),
        (".env.example", False), ("id_rsa.pub", False), ("env.py", False), ("environment.yml", False),
        ("keys.py", False), ("secret_santa.py", False), ("credentials.py", False), ("monkey", False),
    ],
)  # fmt: skip
def test_what_looks_like_a_secret(name: str, secret: bool) -> None:
    assert looks_secret(name) is secret
