"""What a script says it needs, in its own first comment block: https://peps.python.org/pep-0723. Pure."""

import re
import tomllib
from dataclasses import dataclass

_BLOCK = re.compile(r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$")


class BadMetadata(Exception):
    """The block makes no sense; the text says why, for the user."""


@dataclass(frozen=True, slots=True)
class Metadata:
    dependencies: tuple[str, ...] = ()
    python: str = ""
    """Which versions of Python it runs with, as in `>=3.11`; empty: any."""


def read_metadata(text: str, name: str) -> Metadata:
    """The metadata of the script `name`, empty when it has none. `BadMetadata` when it cannot be read."""
    blocks = list(_BLOCK.finditer(text.replace("\r\n", "\n")))
    if not blocks:
        return Metadata()
    if len(blocks) > 1:
        raise BadMetadata(f"{name} has more than one block of script metadata")
    lines = blocks[0].group("content").splitlines()
    try:
        table = tomllib.loads("\n".join(line[2:] if line.startswith("# ") else line[1:] for line in lines))
    except tomllib.TOMLDecodeError as error:
        raise BadMetadata(f"the script metadata of {name} is not valid TOML: {error}") from error
    dependencies, python = table.get("dependencies", []), table.get("requires-python", "")
    if not isinstance(dependencies, list) or not all(isinstance(one, str) for one in dependencies):
        raise BadMetadata(f"dependencies in the script metadata of {name} must be a list of texts")
    if not isinstance(python, str):
        raise BadMetadata(f"requires-python in the script metadata of {name} must be a text")
    if any("\n" in one or one.strip().startswith("-") for one in dependencies):
        raise BadMetadata(f"dependencies in the script metadata of {name} must be requirements, not options")
    return Metadata(tuple(dependencies), python)
