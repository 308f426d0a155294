"""What keeps a job's processes together, and what ends them when its shim no longer can.

A shim ends everything it started (see `shim.py`). This is the agent's share: a place for the jobs'
control groups where the machine allows that, and the end of what a killed shim left behind.
"""

import hashlib
import os
import signal
import time
from pathlib import Path

from chisel_shared.contract.messages import AttemptRef
from chisel_shared.runtime.logs import Log

log = Log("chisel.agent.sandbox")

_TRIES = 50
_AGAIN_SECONDS = 0.01


def cgroup_parent(data_dir: Path) -> str:
    """A writable control group (v2, also beside v1) for this agent's jobs; "" where there is none."""
    base = _own_cgroup()
    if base is None:
        return ""
    parent = base / f"chisel-{hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:12]}"
    try:
        parent.mkdir(exist_ok=True)
        if (parent / "cgroup.kill").exists():
            return str(parent)
        parent.rmdir()
    except OSError as error:
        log.info("no_cgroups", error=repr(error))
    return ""


def _own_cgroup() -> Path | None:
    """The group this process is in, as a folder of the v2 hierarchy."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for mount in mounts:
        before, _, after = mount.partition(" - ")
        if after.startswith("cgroup2 "):
            for group in groups:
                if group.startswith("0::"):
                    return Path(before.split()[4] + group.removeprefix("0::"))
    return None


def sweep(parent: str) -> None:
    """End and remove every group below `parent` whose shim is gone; a living one removes its own."""
    if not parent:
        return
    for group in Path(parent).iterdir():
        if group.is_dir() and not _is_shim(group.name.partition("-")[0]):
            log.warning("leftover_cgroup", group=group.name)
            _end_group(group)


def _is_shim(pid: str) -> bool:
    try:
        return b"chisel_agent.shim" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def release(parent: str) -> None:
    """Remove the jobs' common group, unless jobs are still in it."""
    if os.path.exists(parent):
        try:
            Path(parent).rmdir()
        except OSError as error:
            log.debug("cgroup_kept", error=repr(error))


def cgroup_of(folder: Path) -> str:
    """The control group an attempt's shim gave its job; "" for none."""
    try:
        return os.fsdecode((folder / "cgroup").read_bytes())
    except FileNotFoundError:
        return ""


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


def end_leftovers(folder: Path, ref: AttemptRef) -> None:
    """Kill what is left of an attempt whose shim is gone. Blocks for milliseconds: call in a thread."""
    group = cgroup_of(folder)
    if group:
        _end_group(Path(group))
    if not (folder / "running").exists():
        return
    marks = {b"CHISEL_JOB_ID=" + ref.job_id.encode(), f"CHISEL_ATTEMPT={ref.attempt}".encode()}
    for _ in range(_TRIES):
        found = [pid for pid in _processes() if marks <= _environment(pid)]
        if not found:
            return
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(_AGAIN_SECONDS)
    log.warning("processes_not_killed", folder=folder.name)


def _end_group(group: Path) -> None:
    for _ in range(_TRIES):
        try:
            (group / "cgroup.kill").write_text("1")
            group.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(_AGAIN_SECONDS)  # EBUSY: its last process has not quite gone
    log.warning("cgroup_not_removed", group=group.name)


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _environment(pid: int) -> set[bytes]:
    try:
        return set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    except OSError:
        return set()
