"""Names of Python frames in a trace, `file(line): function`, and which of them a reader wants to see."""

import re
import sys
from functools import lru_cache
from typing import NamedTuple

_FRAME = re.compile(r"(?P<file>.+)\((?P<line>\d+)\): (?P<function>.+)", re.DOTALL)
_INSTALLED = re.compile(r".*/(?:site|dist)-packages/")
_STDLIB_FOLDER = re.compile(r".*/lib(?:64)?/python3(?:\.\d+)?t?/")
_NOT_SHOWN = {"torch", "torchgen", "functorch", "chisel"}
"""The machinery around the user's code: the profiler cuts `sys.path` off, so packages come first."""


class Place(NamedTuple):
    file: str
    line: int
    function: str


@lru_cache(maxsize=1 << 16)
def place(name: str) -> Place | None:
    """Where a frame is; None for what has no file: built-in functions, modules."""
    found = _FRAME.fullmatch(name)
    if found is None or found["file"].startswith("<"):
        return None
    file = _INSTALLED.sub("", found["file"], count=1).removeprefix("./")
    return Place(file, int(found["line"][:9]), found["function"])


@lru_cache(maxsize=1 << 16)
def is_shown(name: str) -> bool:
    """Whether the frame is of the user's code or of a library outside torch and the standard library."""
    found = place(name)
    if found is None or _STDLIB_FOLDER.match(found.file):
        return False
    package, _, _ = found.file.lstrip("/").partition("/")
    return package not in _NOT_SHOWN and package.removesuffix(".py") not in sys.stdlib_module_names


def short(file: str) -> str:
    """The file's own name."""
    return file.rpartition("/")[2]


def package(file: str) -> str:
    """The library that a file of an installed package belongs to; empty for a script."""
    first, slash, _ = file.partition("/")
    return first if slash else ""
