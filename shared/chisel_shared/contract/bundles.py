"""What a bundle may be: the client refuses while packing what storage or an agent would refuse later."""

import re

MAX_BYTES = 2 << 30
"""Of the packed bundle."""
MAX_ENTRIES = 100_000
MAX_UNPACKED_BYTES = 8 << 30
MAX_DEPTH = 64
MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 4096

_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")


def path_fault(path: str) -> str | None:
    """What forbids `path`, parts joined by `/`, in a bundle, as words to follow its name; None if nothing.

    Such a name means different things to different programs, or nothing at all to a disk.
    """
    if _CONTROL.search(path):
        return "holds a control character or a backslash"
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        return "is not UTF-8"
    if encoded.count(b"/") >= MAX_DEPTH:
        return f"is more than {MAX_DEPTH} folders deep"
    if len(encoded) > MAX_NAME_BYTES and any(len(part) > MAX_NAME_BYTES for part in encoded.split(b"/")):
        return "has too long a name"
    return "is too long a path" if len(encoded) > MAX_PATH_BYTES else None
