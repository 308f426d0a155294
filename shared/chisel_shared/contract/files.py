"""Files a job leaves behind: its traces, and what it wrote into `./outputs`. Which of them may travel.

Rules. A path is relative to the folder the files come from, its parts joined by `/`, and names the same
place for every program. Only plain files and links travel; a link's content is its target. A link may
climb out of its own folder and then only descend, so that links that stay inside one by one stay inside
together, whatever lies on their way.
"""

from enum import StrEnum

from chisel_shared.contract import bundles

FOLDER = "outputs"
"""Below a job's working directory: what is written there comes back."""

MAX_LINK_BYTES = 4096


class FileKind(StrEnum):
    """Where a file comes from."""

    TRACE = "trace"
    """A function decorated with `@capture_trace` saved it."""
    OUTPUT = "output"
    """The job wrote it into `./outputs`."""


class FileMode(StrEnum):
    """What a file is where it is saved."""

    PLAIN = "plain"
    EXECUTABLE = "executable"
    LINK = "link"
    """A symbolic link; the content is its target."""


MAX_BYTES = {FileKind.TRACE: 4 << 30, FileKind.OUTPUT: 64 << 30}
"""Of one file."""


def path_fault(path: str) -> str | None:
    """What forbids `path`, as words to follow its name; None when it may travel."""
    if not path or any(part in ("", ".", "..") for part in path.split("/")):
        return "is not a plain relative path"
    return bundles.path_fault(path)


def link_fault(path: str, target: str) -> str | None:
    """What forbids a link at `path` to `target`, as words to follow its name; None when it may travel."""
    if not target or len(target.encode(errors="replace")) > MAX_LINK_BYTES:
        return "is a link without a usable target"
    if target.startswith("/"):
        return "is a link out of the folder"
    parts = [part for part in target.split("/") if part not in ("", ".")]
    climbs = 0
    while parts[climbs : climbs + 1] == [".."]:
        climbs += 1
    if climbs > path.count("/"):
        return "is a link out of the folder"
    rest = parts[climbs:]
    if ".." in rest:
        return "is a link that climbs after it descends"
    return path_fault("/".join(rest)) and "is a link without a usable target" if rest else None
