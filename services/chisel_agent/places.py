"""Where on this machine the control groups of jobs can be made: `find`, once, at start.

The best way to end a job is one write to `cgroup.kill` (v2, which a machine may also have beside v1);
then comes a freezer (v1, or v2 before Linux 5.14). Without either a shim ends what it is the reaper of,
and no more can be done for a job whose shim was killed than to look for its processes by their
environment. Memory is counted by the same group or, on v1, by one in a hierarchy of its own.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from chisel_shared.runtime.logs import Log

log = Log("chisel.agent.places")

AUTO, KILL, FREEZE, OFF = "auto", "kill", "freeze", "off"
UNIFIED = ""
_FILES = {KILL: ("cgroup.kill",), FREEZE: ("freezer.state", "cgroup.freeze")}


def find(data_dir: Path, *, wanted: str = AUTO) -> tuple[str, ...]:
    """Groups below which this agent's jobs get theirs, made where they were missing: first the one that
    ends them, then what counts their memory. Empty where the machine lets us make none, or with `OFF`."""
    if wanted == OFF:
        return ()
    name = f"chisel-{hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:12]}"
    own = own_groups(_lines("/proc/self/mountinfo"), _lines("/proc/self/cgroup"))
    places = []
    for controller, files in _candidates(wanted):
        if controller in own and (made := _make(_ours(own[controller]) / name, files)):
            places.append(made)
            break
    else:
        log.warning("no_cgroups", wanted=wanted, hint="what a killed shim leaves behind may live on")
    counted = any((Path(place) / "memory.events").exists() for place in places)
    if not counted and "memory" in own and (made := _make(own["memory"] / name, ("memory.oom_control",))):
        places.append(made)
    return tuple(places)


def _candidates(wanted: str) -> list[tuple[str, tuple[str, ...]]]:
    by_kill, by_freezer = (UNIFIED, _FILES[KILL]), ("freezer", _FILES[FREEZE])
    frozen = (UNIFIED, _FILES[FREEZE])
    return {
        KILL: [by_kill],
        FREEZE: [by_freezer, frozen],
        AUTO: [by_kill, frozen, by_freezer],
    }[wanted]


def own_groups(mounts: list[str], groups: list[str]) -> Mapping[str, Path]:
    """The group this process is in, as a folder, for each controller (v1) and `UNIFIED` (v2); from the
    lines of its mountinfo and its cgroup file."""
    mine = {}
    for line in groups:
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            mine[controller] = path
    found: dict[str, Path] = {}
    for mount in mounts:
        before, _, after = mount.partition(" - ")
        kind, _, options = after.split(" ", 2)
        root, place = before.split()[3:5]
        wanted = {"cgroup2": [UNIFIED], "cgroup": options.split(",")}.get(kind, [])
        for controller in wanted:
            if controller in mine and controller not in found:
                path = mine[controller]
                # A container sees its own part of the tree, but may be told its path from the root.
                inner = path.removeprefix(root.rstrip("/")) if path.startswith(root) else "/"
                found[controller] = Path(place + inner)
    return found


def _ours(own: Path) -> Path:
    """The group that was handed to us: ours, or, where the service manager put us into a group of our own
    below the one that it delegated (`DelegateSubgroup=`), that one. Only in the latter may v2 count."""
    try:
        if os.getxattr(own.parent, "user.delegate") == b"1":
            return own.parent
    except OSError:
        pass
    return own


def _make(place: Path, files: tuple[str, ...]) -> str:
    """The group `place` if it can be made and its children have one of `files`; else ""."""
    try:
        place.mkdir(exist_ok=True)
        _let_count(place)
        if any((place / file).exists() for file in files):
            return str(place)
        place.rmdir()
    except OSError as error:
        log.info("no_cgroup_here", place=str(place), error=repr(error))
    return ""


def _let_count(place: Path) -> None:
    """Have memory counted for the groups below `place` (v2), if that is allowed."""
    for group in (place.parent, place):
        control = group / "cgroup.subtree_control"
        try:
            if "memory" in (group / "cgroup.controllers").read_text().split():
                control.write_text("+memory")
        except OSError as error:
            log.debug("memory_not_counted", group=str(group), error=repr(error))


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
