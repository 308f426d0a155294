"""What the environment and configuration files say about `chisel python`: the layers below its flags.

The environment's `CHISEL_GPU` is the twin of `--gpu`, and so for every layered option. Files are the
nearest `chisel.toml`, or `pyproject.toml` with a `[tool.chisel]`, in the upload directory or above it,
then `~/.chisel/config.toml`. Nothing is loaded for files that are not there.
"""

import os
from typing import NamedTuple

from chisel import settings
from chisel.cli.table import RUN_OPTIONS, Option
from chisel.cli.values import UsageError

PROJECT_FILE, PYTHON_FILE, USER_FILE = "chisel.toml", "pyproject.toml", "config.toml"
_TABLE = "[tool.chisel]"

LAYERED = {option.key: option for option in RUN_OPTIONS if option.layered}


class Said(NamedTuple):
    """What one place says about an option: as texts, as on a command line, and where that stands."""

    texts: tuple[str, ...]
    where: str
    folder: str = ""
    """Paths are relative to it; empty: to where the user is."""


Layer = dict[str, Said]


def variable(option: Option) -> str:
    return f"CHISEL_{option.key.upper()}"


def from_environment() -> Layer:
    """An empty variable says nothing."""
    found = {}
    for option in LAYERED.values():
        text = os.environ.get(variable(option), "")
        if text and not option.many:
            found[option.key] = Said((text,), variable(option))
    return found


def from_project(start: str) -> Layer:
    """What the nearest file in `start` or above it says."""
    folder = os.path.abspath(start)
    while True:
        for name in (PROJECT_FILE, PYTHON_FILE):
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                layer = _read(path, in_table=name == PYTHON_FILE)
                if layer is not None:
                    return layer
        above = os.path.dirname(folder)
        if above == folder:
            return {}
        folder = above


def from_user() -> Layer:
    path = os.path.join(settings.home(), USER_FILE)
    layer = _read(path, in_table=False) if os.path.isfile(path) else None
    return {key: said._replace(folder="") for key, said in (layer or {}).items()}


def _read(path: str, *, in_table: bool) -> Layer | None:
    """None when the file has no table of ours."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read ({error.strerror}): make it readable or remove it"
        ) from error
    if in_table and b"chisel" not in content:
        return None
    import tomllib

    try:
        text = content.decode()
        table = tomllib.loads(text)
    except ValueError as error:  # both of TOML's own and of UTF-8
        raise UsageError(f"{path} is not valid TOML: {error}") from error
    if in_table:
        tool = table.get("tool")
        table = tool.get("chisel") if isinstance(tool, dict) else None  # type: ignore[assignment]
        if not isinstance(table, dict):
            return None
    lines = text.splitlines()
    return dict(_entry(path, key, value, lines, in_table=in_table) for key, value in table.items())


def _entry(path: str, key: str, value: object, lines: list[str], *, in_table: bool) -> tuple[str, Said]:
    where = f"{path}{_line(lines, key, in_table=in_table)}"
    option = LAYERED.get(key.replace("-", "_"))
    if option is None:
        raise UsageError(f"{where}: there is no setting {key}{_suggestion(key)}")
    values = value if isinstance(value, list) and option.many else [value]
    if not values or not all(isinstance(one, str | int) for one in values):
        wanted = "a list of texts" if option.many else "a text, a whole number, true or false"
        raise UsageError(f"{where}: {key} must be {wanted}")
    texts = tuple(str(one).lower() if isinstance(one, bool) else str(one) for one in values)
    return option.key, Said(texts, where, os.path.dirname(path))


def _line(lines: list[str], key: str, *, in_table: bool) -> str:
    """`:12` for the line that sets `key`; empty when it is written in a way that hides it."""
    inside = not in_table
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if text.startswith("["):
            inside = in_table and text.startswith(_TABLE)
        elif inside and text.partition("=")[0].strip().strip("\"'") == key:
            return f":{number}"
    return ""


def _suggestion(key: str) -> str:
    from difflib import get_close_matches

    names = [name.replace("_", "-") for name in LAYERED]
    close = get_close_matches(key.replace("_", "-"), names, n=1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(names)}"
