"""Names of trace files: safe, one per call, never used twice.

What lies in a job's trace folder, for a trace with the stem `{name}[.rank{R}|.pid{P}][.{n}]`:

    {stem}.json         the trace: whole, and never changed again
    {stem}.meta.json    its sidecar (chisel_shared.traces.sidecar), there before the trace
    .{stem}.open        while it is recorded: by whom, as JSON (see `Place.take`). One that is left when
                        the job has ended tells that its process died, and the trace with it
    .{stem}.{pid}.*     being written
"""

import json
import os
import re
import sys
import threading
import time
from contextlib import suppress

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_MAX_NAME = 100
"""With rank, process and call behind it a file name stays below the 255 bytes of a file system."""

_RANK_VARIABLES = (
    ("RANK", "WORLD_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
)

_FIRST_VARIABLE = "CHISEL_TRACE_PID"
"""The first process of a job that decorates something, for those that it starts."""

_counts: dict[str, int] = {}
"""The last number that was tried for a name."""
_taken: dict[str, int] = {}
"""How many of these were free: another process of the same name may have others."""
_counts_lock = threading.Lock()


def safe_name(text: str) -> str:
    """`text` as part of a file name: `../../etc/passwd` becomes `etc_passwd`, nothing becomes `trace`."""
    name = _UNSAFE.sub("_", text).strip("._-")[:_MAX_NAME].rstrip("._-") or "trace"
    # `x.meta.json` is the sidecar of `x.json`.
    return name[: -len(".meta")] + "_meta" if name.lower().endswith(".meta") else name


def name_of(function: object) -> str:
    """What a function without a `trace_name` is called."""
    named = getattr(function, "__name__", None) or getattr(getattr(function, "func", None), "__name__", None)
    return named if isinstance(named, str) else type(function).__name__


def rank() -> tuple[int | None, int | None]:
    """The rank of this process among several and how many they are; None and None where it is alone."""
    for variable, size in _RANK_VARIABLES:
        own, world = os.environ.get(variable, ""), os.environ.get(size, "")
        if own.isdecimal() and world.isdecimal() and int(world) > 1:
            return int(own), int(world)
    with suppress(Exception):  # one that was told to its processes in another way
        distributed = sys.modules["torch.distributed"]
        if distributed.is_initialized() and (count := distributed.get_world_size()) > 1:
            return int(distributed.get_rank()), int(count)
    return None, None


def note_first_process() -> None:
    """Remember this process as the one whose traces have no process number, if it is the job's first."""
    os.environ.setdefault(_FIRST_VARIABLE, str(os.getpid()))


def base_name(name: str) -> str:
    """The file name of this process's first trace called `name`, without its ending."""
    own, _ = rank()
    if own is not None:
        return f"{name}.rank{own}"
    return name if os.environ.get(_FIRST_VARIABLE) == str(os.getpid()) else f"{name}.pid{os.getpid()}"


class Place:
    """One trace's file name, taken by a marker file until the trace is saved or given up. `call`: for which
    call of that name in this process.

    The marker keeps processes with equal names apart, and one that is left over tells that its
    process died while it recorded.
    """

    def __init__(self, *, directory: str, base: str, number: int, call: int) -> None:
        self.call = call
        stem = base if number == 1 else f"{base}.{number}"
        hidden = os.path.join(directory, f".{stem}")
        self.path = os.path.join(directory, f"{stem}.json")
        self.sidecar = os.path.join(directory, f"{stem}.meta.json")
        self.aside = f"{hidden}.{os.getpid()}.tmp.json"
        self.mended_aside = f"{hidden}.{os.getpid()}.mended.json"
        self.sidecar_aside = f"{hidden}.{os.getpid()}.meta.json"
        self._marker = f"{hidden}.open"

    def take(self, facts: dict[str, object]) -> bool:
        """Whether the name was free and is now ours. `facts` go into the marker: `name`, `function`, `call`,
        `rank`, `pid` and `started_at` (Unix time, seconds). A marker may be empty for a moment."""
        try:
            marker = os.open(self._marker, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        try:
            os.write(marker, json.dumps(facts).encode())
        except OSError:  # a full disk: one that stays would tell of a process that died
            self.release()
            raise
        finally:
            os.close(marker)
        if os.path.lexists(self.path):
            self.release()
            return False
        return True

    def release(self) -> None:
        """Remove what only a capture that goes on has."""
        # torch itself writes aside first.
        asides = (self.aside, self.aside + ".tmp", self.mended_aside, self.sidecar_aside)
        for path in (*asides, self._marker):
            with suppress(OSError):
                os.unlink(path)


def take_place(directory: str, *, name: str, title: str, function: str, skip: int) -> Place:
    """The next free file name for a trace called `name`, `title` in the script, of a function that let the
    first `skip` calls pass."""
    os.makedirs(directory, exist_ok=True)
    base = base_name(name)
    while True:
        with _counts_lock:
            number = _counts[base] = _counts.get(base, 0) + 1
            call = _taken.get(base, 0) + 1 + skip
        place = Place(directory=directory, base=base, number=number, call=call)
        facts: dict[str, object] = {
            "name": title,
            "function": function,
            "call": call,
            "rank": rank()[0],
            "pid": os.getpid(),
            "started_at": time.time(),
        }
        if place.take(facts):
            _taken[base] = _taken.get(base, 0) + 1
            return place
