"""Which files never travel with a job: `.gitignore`, `.chiselignore`, and what nobody wants to upload.

Rules mean what they mean to git: the last one that matches decides, those of a deeper folder come after
those above it, and below a folder that is left out nothing can be brought back. The rules of every
`.chiselignore` come after those of every `.gitignore`, and all of them after the names listed here.
"""

import os
import re
from typing import NamedTuple

NAMES = frozenset(
    {
        # version control
        ".git",
        ".hg",
        ".svn",
        # environments: the backend builds its own from the requirements
        ".venv",
        "venv",
        "node_modules",
        # caches
        "__pycache__",
        ".cache",
        ".ipynb_checkpoints",
        ".mypy_cache",
        ".nox",
        ".pytest_cache",
        ".ruff_cache",
        ".tox",
        # our own credentials
        ".chisel",
        # what a file manager leaves behind
        ".DS_Store",
        "Thumbs.db",
    }
)
"""Names of files and folders that are left out wherever they are, unless a rule brings them back."""

GIT, CHISEL = ".gitignore", ".chiselignore"
ENVIRONMENT_MARKS = frozenset({"pyvenv.cfg", "conda-meta"})
"""A folder that holds one of these is a virtual environment, whatever it is called."""


def excluded_part(path: str) -> str | None:
    """The part of a relative POSIX path that is left out by its name; None when there is none."""
    return next((part for part in path.split("/") if part in NAMES), None)


class Rule(NamedTuple):
    """One line: a regular expression for a whole path; `keeps` what it matches, or leaves it out. One for
    `folders` only is matched against the path with a slash at its end."""

    pattern: str
    keeps: bool
    folders: bool


class _Compiled(NamedTuple):
    """The rules of one file, last line first. They see a path without its first `cut` characters, and
    behind `prefix`: what lies between the rule file's folder and the upload directory above or below it."""

    rules: tuple[tuple[re.Pattern[str], Rule], ...]
    cut: int
    prefix: str
    source: str


class Verdict(NamedTuple):
    """`source` is the file with the rule that decided; empty when none did."""

    keeps: bool
    source: str


_TRAVELS = Verdict(True, "")
ALWAYS = Verdict(False, "always left out")


class Translations:
    """Rule files as rules, remembered by their text: the library that reads them takes longer to load
    than most directories take to pack. `new` says whether it was needed."""

    def __init__(self, known: dict[str, tuple[Rule, ...]] | None = None) -> None:
        self.known = known or {}
        self.used: dict[str, tuple[Rule, ...]] = {}

    @property
    def new(self) -> bool:
        return self.used.keys() != self.known.keys()

    def of(self, text: str) -> tuple[Rule, ...]:
        if text not in self.used:
            found = self.known.get(text)
            self.used[text] = _translate(text) if found is None else found
        return self.used[text]


class Rules:
    """What holds in one folder of the upload directory."""

    def __init__(
        self, translations: Translations, git: tuple[_Compiled, ...] = (), chisel: tuple[_Compiled, ...] = ()
    ) -> None:
        self._translations = translations
        self._files = chisel[::-1] + git[::-1]
        self._git = git
        self._chisel = chisel

    @classmethod
    def above(cls, root: str, translations: Translations) -> "Rules":
        """What holds in `root` before its own files: the `.gitignore` of every folder above it that is
        in the same git repository."""
        found: list[_Compiled] = []
        folder, prefix = os.path.realpath(root), ""
        while not os.path.lexists(os.path.join(folder, ".git")):
            folder, name = os.path.split(folder)
            if not name:
                return cls(translations)
            prefix = f"{name}/{prefix}"
            path = os.path.join(folder, GIT)
            if os.path.isfile(path):
                found.append(_compiled(translations, path, cut=0, prefix=prefix, source=path))
        return cls(translations, tuple(reversed(found)))

    def within(self, folder: str, prefix: str, names: frozenset[str]) -> "Rules":
        """What holds below a folder with these `names` in it; `prefix` is its path and a slash."""
        git, chisel = self._git, self._chisel
        for name in (GIT, CHISEL):
            if name in names:
                path = os.path.join(folder, name)
                one = _compiled(
                    self._translations, path, cut=len(prefix), prefix="", source=f"{prefix}{name}"
                )
                if name == GIT:
                    git = (*git, one)
                else:
                    chisel = (*chisel, one)
        if git is self._git and chisel is self._chisel:
            return self
        return Rules(self._translations, git, chisel)

    def verdict(self, path: str, name: str, *, folder: bool) -> Verdict:
        """Whether the file or folder called `name` at `path` travels, as far as rules go."""
        for file in self._files:
            seen = file.prefix + path[file.cut :]
            for pattern, rule in file.rules:
                if rule.folders:
                    if folder and pattern.fullmatch(seen + "/"):
                        return Verdict(rule.keeps, file.source)
                elif pattern.fullmatch(seen):
                    return Verdict(rule.keeps, file.source)
        return ALWAYS if name in NAMES else _TRAVELS


def _compiled(translations: Translations, path: str, *, cut: int, prefix: str, source: str) -> _Compiled:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
    except OSError:
        text = ""  # git does not mind either; whether it can travel is seen elsewhere
    rules = translations.of(text)
    return _Compiled(
        tuple((re.compile(rule.pattern, re.DOTALL), rule) for rule in reversed(rules)), cut, prefix, source
    )


def _translate(text: str) -> tuple[Rule, ...]:
    from pathspec.patterns.gitignore import GitIgnorePatternError
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

    rules = []
    for line in text.removeprefix("\ufeff").splitlines():
        try:
            pattern, leaves_out = GitIgnoreSpecPattern.pattern_to_regex(line)
        except GitIgnorePatternError:
            continue  # git takes no notice of what makes no sense to it
        if pattern is None or leaves_out is None:
            continue
        folders = line.rstrip().endswith("/")
        # The library's expressions also match whatever lies below a match, which is asked for one by one.
        body = line.rstrip().rstrip("/").removeprefix("!")
        if pattern == ".":
            pattern = ".+"
        elif pattern == "(?P<ps_d>/)":
            pattern = ".+/"
        elif body.endswith("/**"):
            pattern = ".+/.+" if pattern == "/" else pattern.replace("(?P<ps_d>/)", "/") + ".+"
        pattern = pattern.replace("(?:(?P<ps_d>/)|$)", "").replace("(?P<ps_d>/)", "/")
        pattern = pattern.replace("[^", "[^/")  # a slash is no character that could be another
        rules.append(Rule(pattern, not leaves_out, folders))
    return tuple(rules)


_SECRETS = re.compile(
    r"\.env(\..+)?|.+\.(pem|key|p12|pfx|jks|keystore)|id_(rsa|dsa|ecdsa|ed25519)"
    r"|(.*[._-])?credentials(\.json|\.yaml|\.yml|\.toml|\.ini)?|\.netrc|_netrc|\.pypirc|\.pgpass"
    r"|\.git-credentials|\.htpasswd|secrets?\.(json|yaml|yml|toml|ini)|kubeconfig|service[._-]account.*\.json"
)
_EXAMPLES = (".example", ".sample", ".template", ".dist")


def looks_secret(name: str) -> bool:
    """Whether a file called `name` mostly holds what nobody wants to send about."""
    lowered = name.lower()
    return _SECRETS.fullmatch(lowered) is not None and not lowered.endswith(_EXAMPLES)
