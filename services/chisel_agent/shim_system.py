"""What the shim asks of the kernel, and the two files it is started with. Standard library only.

Small on purpose: every import here is paid by every job (see `shim.py`).
"""

# ruff: noqa: SIM105 - contextlib would cost more than everything imported here

import _signal  # type: ignore[import-not-found]  # typeshed has only the slow wrapper
import _socket
import fcntl
import os
import select
import sys
import time

SIGHUP, SIGINT, SIGQUIT, SIGKILL, SIGUSR1, SIGUSR2, SIGPIPE, SIGTERM = 1, 2, 3, 9, 10, 12, 13, 15
SIGCHLD, SIGXFSZ = int(_signal.SIGCHLD), int(_signal.SIGXFSZ)
CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # leases go on while a machine sleeps


def now() -> float:
    return time.clock_gettime(CLOCK)


def read(path: str) -> bytes:
    """What `path` holds; nothing when there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        parts = []
        while part := os.read(descriptor, 1 << 16):
            parts.append(part)
        return b"".join(parts)
    except ProcessLookupError:  # a file in /proc of a process that has just gone
        return b""
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def write_file(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        write_all(descriptor, data)
    finally:
        os.close(descriptor)


class Launch:
    """The launch file, read once."""

    def __init__(self, data: bytes) -> None:
        self.argv: list[str] = []
        self.env: dict[str, str] = {}
        self.cwd = ""
        numbers = {
            "time_limit": 0.0,
            "interrupt_grace": 5.0,
            "terminate_grace": 5.0,
            "backlog": 256.0 * (1 << 20),
            "head": float(1 << 30),
            "tail": 16.0 * (1 << 20),
            "stuck": 10.0,
        }
        for part in data.split(b"\0"):
            key, _, value = os.fsdecode(part).partition("=")
            if key == "argv":
                self.argv.append(value)
            elif key == "env":
                name, _, content = value.partition("=")
                self.env[name] = content
            elif key == "cwd":
                self.cwd = value
            elif key in numbers:
                numbers[key] = float(value)
        self.time_limit = numbers["time_limit"]
        self.grace = (numbers["interrupt_grace"], numbers["terminate_grace"])
        self.backlog = int(numbers["backlog"])
        self.head, self.tail = int(numbers["head"]), int(numbers["tail"])
        self.stuck = numbers["stuck"]


def become_subreaper() -> None:
    """Orphans of the job become our children, so that none can slip away (Linux)."""
    import ctypes

    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(36, 1, 0, 0, 0)


def empty(descriptor: int) -> None:
    try:
        while os.read(descriptor, 512):
            pass
    except BlockingIOError:
        pass


def signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except OSError:
        pass


def signal_one(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except OSError:
        pass


def widen(pipe: int) -> None:
    """A larger pipe (Linux): fewer switches when a job prints a lot."""
    try:
        fcntl.fcntl(pipe, 1031, 1 << 20)  # F_SETPIPE_SZ
    except OSError:
        pass


def rest_of_line(pipe: int, room: int) -> bytes:
    """What follows the beginning of a line within a millisecond.

    An unbuffered print writes a line and its end apart; shipped apart, something printed to the other
    stream would come between them.
    """
    waiting = select.poll()
    waiting.register(pipe, select.POLLIN)
    try:
        return os.read(pipe, room) if waiting.poll(1) else b""
    except BlockingIOError:
        return b""


def children() -> list[int]:
    """Our children. What ends leaves its own to us, their reaper: ending them again and again ends every
    descendant, and each look is so short that nothing can slip from process to process through it."""
    try:
        pid = os.getpid()
        descriptor = os.open(f"/proc/{pid}/task/{pid}/children", os.O_RDONLY)
    except OSError:
        return descendants(os.getpid())  # a kernel that does not list them
    try:
        return [int(word) for word in os.read(descriptor, 1 << 20).split()]
    finally:
        os.close(descriptor)


def describe(pids: list[int]) -> str:
    """Processes with the states they are in, for people: `4711 (python, state D)`."""
    words = []
    for pid in pids[:8]:
        stat = read(f"/proc/{pid}/stat")
        name = os.fsdecode(stat[stat.find(b"(") + 1 : stat.rfind(b")")])
        state = os.fsdecode(stat[stat.rfind(b")") + 2 :][:1])
        words.append(f"{pid} ({name}, state {state})" if stat else str(pid))
    return ", ".join(words) + (f" and {len(pids) - 8} more" if len(pids) > 8 else "")


def started(pid: int) -> str:
    """When a process began, in the kernel's ticks: with its number it names it for ever. "" when it is
    gone, or over and only not yet collected."""
    fields = read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return os.fsdecode(fields[19]) if len(fields) > 19 and fields[0] not in (b"Z", b"X") else ""


def descendants(root: int) -> list[int]:
    """Every process below `root`, by one look at /proc."""
    children: dict[int, list[int]] = {}
    try:
        names = os.listdir("/proc")
    except OSError:
        return []
    for name in names:
        if name.isdigit():
            stat = read(f"/proc/{name}/stat")
            fields = stat[stat.rfind(b")") + 1 :].split()
            if len(fields) > 1:
                children.setdefault(int(fields[1]), []).append(int(name))
    found: list[int] = []
    level = [root]
    while level:
        level = [child for parent in level for child in children.get(parent, ())]
        found += level
    return found


def free_bytes(path: str) -> int | None:
    """How much of the disk that `path` is on an ordinary user may still fill."""
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def machine_oom_kills() -> int:
    """How often the kernel has killed for want of memory on this machine, whosever process it was."""
    for line in read("/proc/vmstat").splitlines():
        if line.startswith(b"oom_kill "):
            return int(line.split()[1])
    return 0


MOST_HANDED_BYTES = 256 * 1024  # a folder's name and a job's secrets: below what a socket holds


def receive() -> tuple[str, bytes] | None:
    """As a spare: wait for a folder, its lock, which stays open as long as this process, and the job's
    secrets, `NAME=value` and a NUL each; None when the agent went away instead."""
    inbox = _socket.socket(fileno=0)
    data, ancillary, _, _ = inbox.recvmsg(MOST_HANDED_BYTES, _socket.CMSG_LEN(4))
    inbox.detach()
    if not data or not ancillary:
        return None
    lock = int.from_bytes(ancillary[0][2][:4], sys.byteorder)
    os.set_inheritable(lock, False)
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    folder, _, secrets = data.partition(b"\0")
    return os.fsdecode(folder), secrets


def take_lock(folder: str) -> tuple[str, int] | None:
    """Be the one shim of `folder`; None when there is one already."""
    lock = os.open(folder + "/lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    return folder, lock
