"""Names of trace files: safe, one per call, never used twice."""

import os
import re
import threading

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_MAX_NAME = 100
"""With rank, process and call behind it a file name stays below the 255 bytes of a file system."""

_RANK_VARIABLES = (
    ("RANK", "WORLD_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
)

_first_process = os.getpid()
_counts: dict[str, int] = {}
_counts_lock = threading.Lock()


def safe_name(text: str) -> str:
    """`text` as part of a file name: `../../etc/passwd` becomes `etc_passwd`, nothing becomes `trace`."""
    return _UNSAFE.sub("_", text).strip("._-")[:_MAX_NAME].rstrip("._-") or "trace"


def name_of(function: object) -> str:
    """What a function without a `trace_name` is called."""
    named = getattr(function, "__name__", None) or getattr(getattr(function, "func", None), "__name__", None)
    return named if isinstance(named, str) else type(function).__name__


def rank() -> int | None:
    """The rank of this process among several; None where it is alone."""
    for variable, size in _RANK_VARIABLES:
        own, world = os.environ.get(variable, ""), os.environ.get(size, "")
        if own.isdecimal() and world.isdecimal() and int(world) > 1:
            return int(own)
    return None


def base_name(name: str) -> str:
    """The file name of this process's first trace called `name`, without its ending."""
    own = rank()
    if own is not None:
        return f"{name}.rank{own}"
    return name if os.getpid() == _first_process else f"{name}.pid{os.getpid()}"


class Place:
    """One trace's file name, taken by a marker file until the trace is saved or given up.

    The marker keeps processes with equal names apart, and one that is left over tells that its
    process died while it recorded.
    """

    def __init__(self, *, directory: str, base: str, call: int) -> None:
        self.call = call
        self._stem = base if call == 1 else f"{base}.{call}"
        self._directory = directory
        self.path = os.path.join(directory, f"{self._stem}.json")
        self.aside = os.path.join(directory, f".{self._stem}.{os.getpid()}.tmp.json")
        self._marker = os.path.join(directory, f".{self._stem}.open")

    def take(self) -> bool:
        """Whether the name was free and is now ours."""
        try:
            os.close(os.open(self._marker, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        except FileExistsError:
            return False
        if os.path.lexists(self.path):
            self.release()
            return False
        return True

    def release(self) -> None:
        for path in (self.aside, self._marker):
            try:
                os.unlink(path)
            except OSError:
                continue

    def publish(self) -> int:
        """Show the file written at `aside` under its name, whole or not at all; its size in bytes.

        torch reports neither a missing folder nor a full disk, so the file is looked at.
        """
        with open(self.aside, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 64))
            if not file.read().rstrip().endswith(b"}"):
                raise OSError(f"the trace file is incomplete after {size} bytes; is the disk full?")
        os.replace(self.aside, self.path)
        return size


def take_place(directory: str, name: str) -> Place:
    """The next free file name for a trace called `name`."""
    os.makedirs(directory, exist_ok=True)
    base = base_name(name)
    while True:
        with _counts_lock:
            call = _counts[base] = _counts.get(base, 0) + 1
        place = Place(directory=directory, base=base, call=call)
        if place.take():
            return place
