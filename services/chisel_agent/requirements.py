"""What a requirements file asks for, read far enough to name the environment that satisfies it. Pure
but for reading the files; the installer alone decides what the lines mean."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from chisel_agent.script import BadMetadata, read_metadata

_NESTED = ("-r", "--requirement", "-c", "--constraint")
_ARCHIVES = (".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar")
_MAX_FILES = 32
_MAX_BYTES = 1 << 20


class BadRequirements(Exception):
    """The file, or one it names, cannot be used; the text says why, for the user."""


@dataclass(frozen=True, slots=True)
class Requirements:
    """A requirements file and all it includes, as one text."""

    path: Path
    text: str
    local: bool
    """Something is installed from a path of this machine, the bundle's most likely."""
    python: str = ""
    """Which versions of Python are wanted, as in `>=3.11`; empty: any."""

    def lines(self) -> list[str]:
        """What the files say, comments dropped, includes still in place."""
        return [line for text in self.text.split("\0") for line in logical_lines(text)]

    def digest(self, *parts: str) -> str:
        """The name of an environment made from these requirements and `parts`."""
        sha256 = hashlib.sha256()
        for part in (self.text, *parts):
            sha256.update(len(part.encode()).to_bytes(8, "big") + part.encode())
        return sha256.hexdigest()[:32]


def read_requirements(root: Path, name: str) -> Requirements:
    """The file `name` below `root` and every file of the bundle that it includes. A Python script stands
    for its metadata, which is written as a file of requirements beside `root`."""
    if name.endswith(".py"):
        return _of_script(root, name)
    texts: list[str] = []
    first = _inside(root, root / name, name)
    seen = {first}
    waiting = [(first, name)]
    size = 0
    while waiting:
        path, shown = waiting.pop(0)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise BadRequirements(f"{shown} cannot be read: {error}") from error
        size += len(text)
        if len(seen) > _MAX_FILES or size > _MAX_BYTES:
            raise BadRequirements("the requirements name too many or too large files")
        texts.append(text)
        for line in logical_lines(text):
            target = included(line)
            if target is not None and "://" not in target:
                nested = _inside(root, path.parent / target, target)
                if nested not in seen:
                    seen.add(nested)
                    waiting.append((nested, target))
    text = "\0".join(texts)
    return Requirements(first, text, any(is_local(line) for line in logical_lines(text.replace("\0", "\n"))))


def _of_script(root: Path, name: str) -> Requirements:
    try:
        metadata = read_metadata(_inside(root, root / name, name).read_text(encoding="utf-8-sig"), name)
    except BadMetadata as error:
        raise BadRequirements(str(error)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequirements(f"{name} cannot be read: {error}") from error
    text = "".join(f"{line}\n" for line in metadata.dependencies)
    path = root.with_name(f"{root.name}-requirements.txt")
    path.write_text(text, encoding="utf-8")
    return Requirements(path, text, any(map(is_local, metadata.dependencies)), metadata.python)


def _inside(root: Path, path: Path, shown: str) -> Path:
    real = path.resolve()
    if not real.is_relative_to(root.resolve()):
        raise BadRequirements(f"{shown} lies outside the uploaded directory")
    if not real.is_file():
        raise BadRequirements(f"{shown} is not in the uploaded directory")
    return real


def logical_lines(text: str) -> list[str]:
    """The lines that mean something: comments dropped, continued lines joined."""
    lines = []
    for raw in text.replace("\\\n", "").splitlines():
        line = raw.strip()
        if " #" in line:
            line = line[: line.index(" #")].rstrip()
        if line and not line.startswith("#"):
            lines.append(line)
    return lines


def included(line: str) -> str | None:
    """The file that a line includes, None when it includes none."""
    for option in _NESTED:
        if line.startswith(option):
            rest = line[len(option) :]
            if option.startswith("--") and rest[:1] not in ("=", " ", "\t"):
                continue
            return rest.lstrip("= \t").strip("\"'")
    return None


def is_local(line: str) -> bool:
    """Whether a line installs from a path: an editable project, a file URL, a folder, an archive."""
    if line.startswith(("-e", "--editable", "-f", "--find-links")) or "file:" in line:
        return True
    if line.startswith("-") or "://" in line:
        return False
    what = re.split(r"[\s;\[<>=!~@]", line, maxsplit=1)[0]
    return what.startswith(".") or "/" in what or what.endswith(_ARCHIVES)
