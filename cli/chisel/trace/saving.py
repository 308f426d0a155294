"""A recorded trace becomes a file: written aside, verified, mended, and only then shown, with its sidecar.

torch reports neither a missing folder nor a full disk, and writes names with quotes in them as broken JSON,
so whatever it wrote is looked at.
"""

import json
import os
import re
import time
from typing import Any

from chisel.trace.capture import MAX_FILE_BYTES
from chisel.trace.naming import Place

_TAIL_BYTES = 4096
_ENDS = re.compile(rb'(?:"traceName"[ \t]*:[ \t]*"[^\n]*"|[}\n\[][ \t]*\])\s*\}\s*\Z')
"""How a whole trace ends; inside one, such a bracket stands elsewhere."""
_NAME = re.compile(rb'("traceName"[ \t]*:[ \t]*")[^\n]*(?="\s*\}\s*\Z)')


def save(profiler: Any, place: Place, facts: dict[str, object], *, began: float) -> int:
    """Write the trace of a stopped profiler and its sidecar, `facts` with what saving adds to them; the size
    of the trace in bytes. The capture ended at `began`, as time.monotonic() tells. `OSError` says what
    failed, and then there is neither file."""
    profiler.export_chrome_trace(place.aside)
    _verify(place)
    repaired = _mend(place)
    size = os.path.getsize(place.aside)
    if size > MAX_FILE_BYTES:
        raise OSError(f"a file of {size / 1e9:.1f} GB is more than a server takes (4 GiB)")
    facts = facts | {"size_bytes": size, "repaired": repaired, "save_seconds": time.monotonic() - began}
    with open(place.sidecar_aside, "w", encoding="ascii") as file:
        json.dump(facts, file)
    os.replace(place.sidecar_aside, place.sidecar)
    try:
        os.replace(place.aside, place.path)
    except OSError:
        os.unlink(place.sidecar)
        raise
    return size


def _verify(place: Place) -> None:
    """`OSError` for a file that is not whole. The name in it becomes the one that it will have."""
    with open(place.aside, "r+b") as file:
        starts = file.read(64).lstrip().startswith(b"{")
        size = file.seek(0, os.SEEK_END)
        at = max(0, size - _TAIL_BYTES)
        file.seek(at)
        tail = file.read()
        if not starts or not _ENDS.search(tail):
            raise OSError(f"the trace file is incomplete after {size} bytes; is the disk full?")
        named = _NAME.sub(lambda found: found[1] + os.path.basename(place.path).encode(), tail)
        if len(named) < len(tail):
            file.seek(at)
            file.write(named)
            file.truncate()


def _mend(place: Place) -> int:
    """How many names had to be mended for the file to be JSON."""
    try:
        from chisel_shared.traces.repair import mend_file
    except ImportError:
        return 0  # a reader does it then
    repaired = mend_file(place.aside, place.mended_aside)
    if repaired:
        os.replace(place.mended_aside, place.aside)
    return repaired
