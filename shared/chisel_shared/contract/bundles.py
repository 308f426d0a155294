"""What a bundle may be: the client refuses while packing what storage or an agent would refuse later."""

import re

MAX_ENTRIES = 100_000
MAX_UNPACKED_BYTES = 8 << 30
"""Of all files together. A server may set less and says so before an upload."""
MAX_DEPTH = 64
MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 4096

PACK_BYTES = 8 << 20
"""Of a pack's tar, with headers: what fits in is packed together, then a new pack begins."""
CHUNK_BYTES = 8 << 20
"""Of a file's content in one piece: a larger file has a pack for every so many of its bytes."""
MAX_PACK_BYTES = PACK_BYTES + (1 << 20)
"""Of a pack as it travels, and of its tar: one chunk with what tar and gzip put around it."""
MAX_MANIFEST_BYTES = 64 << 20

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
