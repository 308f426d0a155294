"""Where script, requirements and working directory lie below the directory that is uploaded."""

import os
from typing import NamedTuple

from chisel.ignore import excluded_part
from chisel_shared.contract.errors import BadRequest

DEFAULT_REQUIREMENTS = "requirements.txt"


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


def locate(script: str | None, *, upload_dir: str = ".", requirements: str | None = None) -> Layout:
    """Find the parts of a job on this machine.

    The job works where the user is when that is below `upload_dir`, otherwise in its root.
    `requirements` must exist when named; without a name, `requirements.txt` may be in the root or
    where the user is. `BadInput` says what is missing, `AssertionError` that the script is outside.
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
        script="" if found is None else os.path.relpath(found, workdir).replace(os.sep, "/"),
        workdir=workdir,
        requirements=_requirements(root, requirements),
    )


def _script(root: str, script: str) -> str:
    wanted = os.path.abspath(script)
    if not os.path.isfile(wanted):
        raise BadInput(f"the script {wanted} {_is_not(wanted, 'a file')}")
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


def _requirements(root: str, named: str | None) -> str | None:
    name = named or DEFAULT_REQUIREMENTS
    here, there = os.path.abspath(name), os.path.abspath(os.path.join(root, name))
    for path in (here, there) if named else (there, here):
        if os.path.isfile(path):
            found = relative_to(root, path)
            if found is not None and not (named is None and excluded_part(found)):
                _must_travel(path, found)
                return found
            if named:
                raise BadInput(f"the requirements file {path} is not inside the upload directory {root}")
    if named:
        raise BadInput(f"the requirements file {here} {_is_not(here, 'a file')}")
    return None


def _must_travel(path: str, found: str) -> None:
    left_out = excluded_part(found)
    if left_out is not None:
        raise BadInput(f"{path} would not be uploaded: chisel leaves out everything called {left_out}")


def _is_not(path: str, kind: str) -> str:
    if not os.path.lexists(path):
        return "does not exist"
    return f"is a directory, not {kind}" if os.path.isdir(path) else f"is not {kind}"
