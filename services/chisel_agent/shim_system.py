"""What the shim asks of the kernel, and the two files it is started with. Standard library only.

Small on purpose: every import here is paid by every job (see `shim.py`).
"""

# ruff: noqa: SIM105 - contextlib would cost more than everything imported here

import _signal  # type: ignore[import-not-found]  # typeshed has only the slow wrapper
import _socket
import errno
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


def oom_kills(cgroup: str) -> int:
    """How often the kernel has killed for want of memory: in the job's group, else on this machine."""
    events = read(cgroup + "/memory.events") if cgroup else b""
    for line in (events or read("/proc/vmstat")).splitlines():
        if line.startswith(b"oom_kill "):
            return int(line.split()[1])
    return 0


def make_cgroup(parent: str) -> str:
    """A new control group below `parent`, where the machine lets us; "" where it does not."""
    if not parent:
        return ""
    path = f"{parent}/{os.getpid()}-{os.urandom(4).hex()}"
    try:
        if not os.path.exists(parent):
            os.mkdir(parent)
        os.mkdir(path)
        if os.path.exists(path + "/cgroup.kill"):
            return path
        os.rmdir(path)
    except OSError:
        pass
    return ""


def join_cgroup(path: str) -> None:
    write_to(path + "/cgroup.procs", b"0")


def kill_cgroup(path: str) -> None:
    """End everything in it with one write, faster than anything can fork."""
    write_to(path + "/cgroup.kill", b"1")


def remove_cgroup(path: str) -> None:
    """Remove it, and the jobs' common one too if this was the last."""
    for _ in range(200 if path else 0):
        try:
            os.rmdir(path)
            os.rmdir(os.path.dirname(path))
            return
        except OSError as error:
            if error.errno != errno.EBUSY or not os.path.exists(path):
                return  # the common one is in use, and stays
            time.sleep(0.005)  # the kernel has not finished with the last process in it


def write_to(path: str, data: bytes) -> None:
    """Write a kernel's file; where that is refused, the walk over descendants does without."""
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
