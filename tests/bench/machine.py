"""What the kernel tells about processes, read from /proc (Linux)."""

import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

_QUIET_SHARE = 0.4
_QUIET_WAIT_SECONDS = 3.0


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command's name; empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def alive(pid: int) -> bool:
    """Whether the process still runs; a zombie has ended."""
    stat = _stat(pid)
    return bool(stat) and stat[0] not in "ZX"


def family(roots: Iterable[int]) -> list[int]:
    """These processes and everything below them."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (stat := _stat(int(name))):
            children.setdefault(int(stat[1]), []).append(int(name))
    found: list[int] = []
    todo = list(roots)
    while todo:
        pid = todo.pop()
        if pid not in found and alive(pid):
            found.append(pid)
            todo += children.get(pid, [])
    return found


@dataclass(frozen=True, slots=True)
class Footprint:
    """What processes hold in memory, and the share of one core they used."""

    processes: int
    pss_mib: float
    cpu_percent: float
    parts: tuple[tuple[float, str], ...]
    """PSS in MiB and name of each, largest first."""


def footprint(find: Callable[[], list[int]], seconds: float) -> Footprint:
    """Watch the processes that `find` names for `seconds`. One that came or went in between counts
    with the time it used while it was seen."""
    before = {pid: _ticks(pid) for pid in find()}
    began = time.monotonic()
    time.sleep(seconds)
    elapsed = time.monotonic() - began
    now = find()
    used = sum(max(0, _ticks(pid) - before.get(pid, 0)) for pid in now)
    parts = sorted(((_pss_mib(pid), _name(pid)) for pid in now), reverse=True)
    return Footprint(
        processes=len(parts),
        pss_mib=sum(size for size, _ in parts),
        cpu_percent=100 * used / os.sysconf("SC_CLK_TCK") / elapsed,
        parts=tuple(parts),
    )


def _ticks(pid: int) -> int:
    stat = _stat(pid)
    return int(stat[11]) + int(stat[12]) if stat else 0


def _pss_mib(pid: int) -> float:
    try:
        found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def _name(pid: int) -> str:
    """What `ps` calls the process."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return "?"


def busy_share(seconds: float = 0.25) -> float:
    """The share of all cores in use over the next `seconds`."""

    def times() -> tuple[int, int]:
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
        return sum(fields[:8]), fields[3] + fields[4]

    total, idle = times()
    time.sleep(seconds)
    total_after, idle_after = times()
    return 1 - (idle_after - idle) / max(1, total_after - total)


def settle() -> None:
    """Before a repetition, wait a little for a quiet moment: what others do is not our figure."""
    end = time.monotonic() + _QUIET_WAIT_SECONDS
    while busy_share() > _QUIET_SHARE and time.monotonic() < end:
        pass
