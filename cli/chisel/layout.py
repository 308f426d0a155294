"""Where script, requirements and working directory lie below the directory that is uploaded."""

import os
import posixpath
from typing import NamedTuple

from chisel.ignore import excluded_part
from chisel_shared.contract.errors import BadRequest

DEFAULT_REQUIREMENTS = "requirements.txt"

_METADATA_BYTES = 1 << 20
"""How far into a script its metadata is looked for."""


class BadInput(BadRequest):
    """What was asked for is not there."""

    exit_code = 2


class Layout(NamedTuple):
    """`root` is a path of this machine; the others are POSIX paths, `script` relative to `workdir`,
    `workdir` and `requirements` relative to `root`. `script` is empty for a module or code."""

    root: str
    script: str
    workdir: str
    requirements: str | None

    def needed(self) -> tuple[str, ...]:
        """What must be uploaded for the job to start: paths relative to `root`."""
        script = posixpath.normpath(posixpath.join(self.workdir, self.script)) if self.script else "."
        return tuple(path for path in (script, self.workdir, self.requirements) if path)


def locate(script: str | None, *, upload_dir: str = ".", requirements: str | None = None) -> Layout:
    """Find the parts of a job on this machine.

    The job works where the user is when that is below `upload_dir`, otherwise in its root.
    `requirements` must exist when named; without a name, they are the dependencies in the script's own
    metadata where it has some, or a `requirements.txt` in the root or where the user is. `BadInput` says
    what is missing, `AssertionError` that the script is outside.
    """
    root = os.path.abspath(upload_dir)
    if not os.path.isdir(root):
        raise BadInput(f"the upload directory {root} {_is_not(root, 'a directory')}")
    found = None if script is None else _script(root, script)
    workdir = relative_to(root, os.getcwd()) or "."
    if excluded_part(workdir):
        workdir = "."
    return Layout(
        root=root,
        script="" if found is None else _below(found, workdir),
        workdir=workdir,
        requirements=_requirements(root, requirements, script, found),
    )


def _below(found: str, workdir: str) -> str:
    path = os.path.relpath(found, workdir).replace(os.sep, "/")
    return f"./{path}" if path.startswith("-") else path  # Python would take it for an option


def _script(root: str, script: str) -> str:
    wanted = os.path.abspath(script)
    if not os.path.isfile(wanted):
        raise BadInput(f"the script {wanted} {_is_not(wanted, 'a file')}{_meant(wanted)}")
    found = relative_to(root, wanted)
    if found is None:
        raise AssertionError(f"Script {wanted} is not inside upload_dir {root}")
    _must_travel(wanted, found)
    return found


def relative_to(root: str, path: str) -> str | None:
    """`path` as a POSIX path below `root`, as written or with links followed; None when outside."""
    for base, one in ((root, path), (os.path.realpath(root), os.path.realpath(path))):
        if one == base:
            return "."
        if one.startswith(base.rstrip(os.sep) + os.sep):
            return os.path.relpath(one, base).replace(os.sep, "/")
    return None


def _requirements(root: str, named: str | None, script: str | None, found: str | None) -> str | None:
    if (
        named is None
        and script is not None
        and found is not None
        and _declares(script, found, b"dependencies")
    ):
        return found
    name = named or DEFAULT_REQUIREMENTS
    here, there = os.path.abspath(name), os.path.abspath(os.path.join(root, name))
    for path in (here, there) if named else (there, here):
        if os.path.isfile(path):
            inside = relative_to(root, path)
            if inside is not None and not (named is None and excluded_part(inside)):
                _must_travel(path, inside)
                return inside
            if named:
                raise BadInput(f"the requirements file {path} is not inside the upload directory {root}")
    if named:
        raise BadInput(f"the requirements file {here} {_is_not(here, 'a file')}")
    if script is not None and found is not None and _declares(script, found, b"requires-python"):
        return found
    return None


def _declares(script: str, found: str, key: bytes) -> bool:
    """Whether the script's own metadata have `key`; the agent reads and judges them."""
    if not found.endswith(".py"):
        return False
    try:
        with open(script, "rb") as file:
            content = file.read(_METADATA_BYTES)
    except OSError:
        return False  # packing it explains why
    lines = [line.rstrip() for line in content.splitlines()]
    if b"# /// script" not in lines:
        return False
    behind = lines[lines.index(b"# /// script") + 1 :]
    block = behind[: behind.index(b"# ///")] if b"# ///" in behind else []
    return any(line.startswith(b"# " + key) for line in block)


def _meant(wanted: str) -> str:
    """The file beside it that has nearly this name, as a question."""
    from difflib import get_close_matches

    folder, name = os.path.split(wanted)
    beside = os.listdir(folder) if os.path.isdir(folder) else []
    close = get_close_matches(name, beside, n=1, cutoff=0.75)
    return f"; did you mean {close[0]}?" if close and close[0] != name else ""


def _must_travel(path: str, found: str) -> None:
    left_out = excluded_part(found)
    if left_out is not None:
        raise BadInput(f"{path} would not be uploaded: chisel leaves out everything called {left_out}")


def _is_not(path: str, kind: str) -> str:
    if not os.path.lexists(path):
        return "does not exist"
    return f"is a directory, not {kind}" if os.path.isdir(path) else f"is not {kind}"
