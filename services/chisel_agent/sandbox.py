"""What is left of jobs whose shim no longer can end it: found, ended, waited for.

A shim ends everything it started (see `shim.py`). This is the agent's share, with the same control groups
(`places.py` says where they are): the end of what a killed shim left behind, and the question whether
something that was killed has really gone. Everything here blocks: call it in a thread.
"""

import ctypes
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from chisel_agent import shim_cgroup
from chisel_agent.shim_system import describe, started
from chisel_shared.contract.messages import AttemptRef
from chisel_shared.runtime.logs import Log

log = Log("chisel.agent.sandbox")

_AGAIN_SECONDS = 0.005
_EMPTY_LOOKS = 4
"""A process that hops from number to number may be between two of them at one look."""
_SWEEP_SECONDS = 1.0
_MNT_DETACH = 2


@dataclass(frozen=True, slots=True)
class Remains:
    """Processes of an attempt that were killed and have not gone."""

    pids: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.pids)

    def names(self) -> tuple[str, ...]:
        """As `Exit.survivors` has them."""
        return tuple(f"{pid}:{started(pid)}" for pid in self.pids)

    def __str__(self) -> str:
        return f"processes were killed and have not gone: {describe(list(self.pids))}"


def sweep(places: tuple[str, ...]) -> None:
    """End and remove every group below `places` whose shim is gone; a living one removes its own."""
    for place in places:
        for group in Path(place).iterdir() if os.path.exists(place) else ():
            if group.is_dir() and not _is_shim(group.name.partition("-")[0]):
                log.warning("leftover_cgroup", group=group.name)
                _end_groups([str(group)], _SWEEP_SECONDS)


def _is_shim(pid: str) -> bool:
    try:
        return b"chisel_agent.shim" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _end_groups(groups: list[str], seconds: float) -> None:
    until = time.monotonic() + seconds
    while shim_cgroup.members(groups):
        shim_cgroup.kill(groups)
        if time.monotonic() > until:
            log.warning("cgroup_not_empty", groups=groups)
            return
        time.sleep(_AGAIN_SECONDS)
    shim_cgroup.remove(groups)


def release(places: tuple[str, ...]) -> None:
    """Remove the jobs' common groups, unless jobs are still in them."""
    for place in places:
        try:
            os.rmdir(place)
        except OSError as error:
            log.debug("cgroup_kept", error=repr(error))


def groups_of(folder: Path) -> list[str]:
    """The control groups an attempt's shim gave its job."""
    try:
        return os.fsdecode((folder / "cgroup").read_bytes()).splitlines()
    except FileNotFoundError:
        return []


def wake_shim(folder: Path) -> None:
    """Continue the shim that holds this attempt if somebody stopped it: stopped, it would enforce no
    limit and hear of no cancel. A job runs as our user, so it can do that to its own."""
    try:
        pid = int((folder / "running").read_bytes())
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
        if state == b"T":
            log.warning("shim_was_stopped", folder=folder.name)
            os.kill(pid, signal.SIGCONT)
    except (OSError, ValueError, IndexError) as error:
        log.debug("shim_not_looked_at", folder=folder.name, error=repr(error))


def end_leftovers(
    folder: Path, ref: AttemptRef, *, within_seconds: float, survivors: tuple[str, ...] = ()
) -> Remains:
    """Kill what is left of an attempt whose shim is gone; what has not gone within the time is the answer,
    nothing as a rule. `survivors` are what a shim had to leave, as `Exit.survivors`."""
    groups = groups_of(folder)
    until = time.monotonic() + within_seconds
    shim_cgroup.kill(groups)
    looks = 0
    while looks < _EMPTY_LOOKS:
        found = shim_cgroup.members(groups) or remaining(folder, ref, survivors)
        if not found and groups:
            break  # they miss nobody
        looks = 0 if found else looks + 1
        if found and time.monotonic() > until:
            log.warning("processes_not_killed", folder=folder.name, pids=found)
            return Remains(tuple(found))
        shim_cgroup.kill(groups)
        for pid in found:
            _kill(pid)
        time.sleep(_AGAIN_SECONDS)
    shim_cgroup.remove(groups)
    return Remains()


def remaining(folder: Path, ref: AttemptRef, survivors: tuple[str, ...] = ()) -> list[int]:
    """Living processes of an attempt: those in its control groups, `survivors` that still are the same, and
    those that have its marks in their environment."""
    found = set(shim_cgroup.members(groups_of(folder)))
    for word in survivors:
        pid, _, since = word.partition(":")
        if since and started(int(pid)) == since:
            found.add(int(pid))
    if (folder / "running").exists():
        found |= {pid for pid in _processes() if _marks(ref) <= _environment(pid)}
    return sorted(found)


def belongs(pid: int, folder: Path, ref: AttemptRef) -> bool:
    """Whether a process is one of this attempt's."""
    return pid in shim_cgroup.members(groups_of(folder)) or _marks(ref) <= _environment(pid)


def _marks(ref: AttemptRef) -> set[bytes]:
    return {b"CHISEL_JOB_ID=" + ref.job_id.encode(), f"CHISEL_ATTEMPT={ref.attempt}".encode()}


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError as error:
        log.debug("not_killed", pid=pid, error=repr(error))


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _environment(pid: int) -> set[bytes]:
    try:
        return set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    except OSError:
        return set()


def detach_mounts(folder: Path) -> bool:
    """Unmount whatever a job mounted below `folder`, lest removing the folder empties what was mounted;
    False when something stays mounted."""
    inside = f"{os.path.realpath(folder)}/"
    for place in reversed(_mounts()):
        if place.startswith(inside):
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.umount2(os.fsencode(place), _MNT_DETACH) != 0:
                log.warning("mount_left", place=place, error=os.strerror(ctypes.get_errno()))
                return False
            log.info("unmounted", place=place)
    return True


def _mounts() -> list[str]:
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return []
    # Blanks and backslashes in a path are written in octal.
    return [os.fsdecode(line.split()[4].decode("unicode_escape").encode("latin-1")) for line in lines]
