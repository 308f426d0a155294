"""`python -m chisel_storage.summarize`: reads one trace in a process of its own, which may die of it.

`readings.py` starts it: no bus, no database, its own limits of memory and time, and low priority. The path,
the name and the limits are arguments, the sidecar comes on stdin; a `Summarized` goes out on stdout.
"""

import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec

from chisel_shared.traces.report import Summary
from chisel_shared.traces.sidecar import Sidecar
from chisel_shared.traces.sidecar import decode as decode_sidecar
from chisel_shared.traces.words import cut as cut_text

MOST_BYTES = 64 << 10
"""Of a summary as JSON: its lists are cut until it fits."""
_MOST_CHARS = 1000
"""Of a text in it. A trace may name a kernel with megabytes."""
_NICE = 10
_LISTS = ("kernels", "ops", "memory", "steps", "devices", "findings", "notes")


class Summarized(msgspec.Struct, frozen=True):
    """The summary and its first line, or why there is none."""

    summary: Summary | None = None
    line: str = ""
    unreadable: str = ""


def cut(summary: Summary, most_bytes: int = MOST_BYTES) -> Summary:
    """`summary` with the middle of its long texts left out, and its longest lists halved until its JSON
    has at most `most_bytes`."""
    summary = _shortened(summary)
    while len(msgspec.json.encode(summary)) > most_bytes:
        sizes = {name: len(msgspec.json.encode(getattr(summary, name))) for name in _LISTS}
        for name in ("gaps", "frames"):
            sizes[name] = len(msgspec.json.encode(getattr(summary.idle, name)))
        largest = max(sizes, key=lambda name: sizes[name])
        if sizes[largest] <= 2:
            break  # nothing is left to cut
        if largest in ("gaps", "frames"):
            half = getattr(summary.idle, largest)
            idle = msgspec.structs.replace(summary.idle, **{largest: half[: len(half) // 2]})
            summary = msgspec.structs.replace(summary, idle=idle)
        else:
            half = getattr(summary, largest)
            summary = msgspec.structs.replace(summary, **{largest: half[: len(half) // 2]})
    return summary


def _shortened(value: Any) -> Any:
    if type(value) is str:
        return cut_text(value, _MOST_CHARS)
    if type(value) in (list, tuple):
        return type(value)(map(_shortened, value))
    if isinstance(value, msgspec.Struct):
        fields = {name: _shortened(getattr(value, name)) for name in value.__struct_fields__}
        return msgspec.structs.replace(value, **fields)
    return value


def _sidecar(data: bytes) -> Sidecar | None:
    try:
        return decode_sidecar(data) if data else None
    except (ValueError, msgspec.MsgspecError):
        return None


def main(path: str, name: str, memory_bytes: str, cpu_seconds: str) -> None:
    os.nice(_NICE)
    resource.setrlimit(resource.RLIMIT_AS, (int(memory_bytes), int(memory_bytes)))
    resource.setrlimit(resource.RLIMIT_CPU, (int(cpu_seconds), int(cpu_seconds) + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(2 * int(cpu_seconds))  # for when nobody is left to end it
    try:
        # Only now: what they load counts against the limits too.
        from chisel_shared.traces.summary import first_line, summarize

        summary = summarize(Path(path), name=name, sidecar=_sidecar(sys.stdin.buffer.read()))
        done = Summarized(summary=cut(summary), line=cut_text(first_line(summary), _MOST_CHARS))
    except MemoryError:
        done = Summarized(unreadable=f"reading it takes more than {int(memory_bytes) >> 20:,} MiB of memory")
    except (ValueError, OSError) as error:
        done = Summarized(unreadable=cut_text(str(error), _MOST_CHARS))
    sys.stdout.buffer.write(msgspec.json.encode(done))


if __name__ == "__main__":
    main(*sys.argv[1:])
