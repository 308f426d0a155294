"""A job's control groups: made, joined, ended, counted, removed. Standard library only (see `shim.py`);
the agent uses it too.

A job has up to two: the first is the one that ends it, the other, where the kernel counts memory in a
hierarchy of its own (v1), tells whether memory ran out. How a group can be ended its own files say:

    cgroup.kill      v2: one write, faster than anything can fork
    cgroup.freeze    v2 before Linux 5.14
    freezer.state    v1: what is frozen forks nothing, so what is listed then is everything

and one with none of them still lists its processes, wherever they went. Every function takes a group
that does not exist, or is no group, as an empty one.
"""

# ruff: noqa: SIM105 - contextlib would cost more than everything imported here

import errno
import os
import time

from chisel_agent.shim_system import SIGKILL, read, signal_one

FREEZERS = (("cgroup.freeze", b"1", b"0"), ("freezer.state", b"FROZEN", b"THAWED"))
FREEZE_LOOKS = 100
FREEZE_LOOK_SECONDS = 0.001
"""What waits in the kernel cannot be frozen at once: then it is killed unfrozen, and again."""


def make(parents: list[str]) -> list[str]:
    """A new group below each of `parents` where the machine lets us; those that were made."""
    name = f"{os.getpid()}-{os.urandom(4).hex()}"
    made = []
    for parent in parents:
        try:
            if not os.path.exists(parent):
                os.mkdir(parent)  # the last job of a while removed it
                write_to(parent + "/cgroup.subtree_control", b"+memory")
            os.mkdir(f"{parent}/{name}")
            made.append(f"{parent}/{name}")
        except OSError:
            pass
    return made


def join(groups: list[str]) -> None:
    for group in groups:
        write_to(group + "/cgroup.procs", b"0")


def members(groups: list[str]) -> list[int]:
    """Every living process in them and in groups that the job made below them."""
    found: dict[int, None] = {}
    for group in groups:
        for path in below(group):
            for word in read(path + "/cgroup.procs").split():
                found[int(word)] = None
    return list(found)


def kill(groups: list[str]) -> None:
    """Begin to end everything in them: nothing that is in one now runs on. Ask `members` when it is over."""
    for group in groups[:1]:
        if os.path.exists(group + "/cgroup.kill"):
            write_to(group + "/cgroup.kill", b"1")
        else:
            freeze_and_kill(group)
    for pid in members(groups[1:]):
        signal_one(pid, SIGKILL)


def freeze_and_kill(group: str) -> None:
    """What `cgroup.kill` does, for kernels without it."""
    for name, on, off in FREEZERS:
        file = f"{group}/{name}"
        if os.path.exists(file):
            write_to(file, on)
            for _ in range(FREEZE_LOOKS):
                if frozen(group):
                    break
                time.sleep(FREEZE_LOOK_SECONDS)
            for pid in members([group]):
                signal_one(pid, SIGKILL)
            write_to(file, off)
            return
    for pid in members([group]):
        signal_one(pid, SIGKILL)


def frozen(group: str) -> bool:
    return b"FROZEN" in read(group + "/freezer.state") or b"frozen 1" in read(group + "/cgroup.events")


def oom_kills(groups: list[str]) -> int | None:
    """How many of its processes the kernel has killed for want of memory; None when nobody counts."""
    for group in groups:
        for name in ("memory.events", "memory.oom_control"):
            for line in read(f"{group}/{name}").splitlines():
                if line.startswith(b"oom_kill "):
                    return int(line.split()[1])
    return None


def memory_peak(groups: list[str]) -> int:
    """The most bytes that it had at one time; 0 when nobody counts."""
    for group in groups:
        for name in ("memory.peak", "memory.max_usage_in_bytes"):
            value = read(f"{group}/{name}").strip()
            if value.isdigit():
                return int(value)
    return 0


def remove(groups: list[str]) -> None:
    """Remove them, and the jobs' common ones too if these were the last."""
    for group in groups:
        for path in below(group):
            remove_one(path)
        try:
            os.rmdir(os.path.dirname(group))
        except OSError:
            pass  # in use by other jobs: it stays


def remove_one(path: str) -> None:
    for _ in range(200):
        try:
            os.rmdir(path)
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                return
            time.sleep(0.005)  # the kernel has not finished with the last process in it


def below(group: str) -> list[str]:
    """The group and those below it, the deepest first."""
    found = [group]
    for path in found:
        try:
            found += [f"{path}/{name}" for name in os.listdir(path) if os.path.isdir(f"{path}/{name}")]
        except OSError:
            pass
    return found[::-1]


def write_to(path: str, data: bytes) -> None:
    """Write a kernel's file; where that is refused, whoever asked finds the processes still there."""
    try:
        descriptor = os.open(path, os.O_WRONLY)
    except OSError:
        return
    try:
        os.write(descriptor, data)
    except OSError:
        pass
    finally:
        os.close(descriptor)
