"""How a prepared attempt becomes a running process: the files a shim reads, and the shim's start.

`Launcher` is small so that a cold start (an interpreter per job) and a warm one (a fork of one that
has imported already) are two implementations of the same thing. What happens afterwards is the same
for both and needs no object: it is told by files in the attempt's folder, to whichever agent looks.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from chisel_agent import records
from chisel_shared.runtime.logs import Log

log = Log("chisel.agent.launch")

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
BACKLOG_BYTES = 256 << 20
_TRIES = 3
_LOG_BYTES = 4 << 20
NO_SECRETS: Mapping[str, bytes] = MappingProxyType({})
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND
_BOOT = """import sys; sys.path.insert(0, {path!r})
from chisel_agent.shim_factory import main; sys.exit(main(sys.argv[1:]))"""


def boottime() -> float:
    """The clock of leases: never set, and running on while a machine sleeps. The shim's too."""
    return time.clock_gettime(_CLOCK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything a shim has to know. `argv[0]` is looked up in the PATH of `env`."""

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: Path
    time_limit_seconds: float | None = None
    interrupt_grace_seconds: float = 5.0
    terminate_grace_seconds: float = 5.0
    backlog_bytes: int = BACKLOG_BYTES
    head_bytes: int = 1 << 30
    tail_bytes: int = 16 << 20
    stuck_seconds: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """The record of an end. `reason` is an `EndReason` value, or `gone` when nobody is to be told.
    Streams have so many bytes in their spools, and so many are left out there. `survivors` are processes
    that could not be killed in time, `number:start` each; while the shim that wrote this lives, some do."""

    reason: str
    exit_code: int | None = None
    signal: int | None = None
    detail: str = ""
    survivors: tuple[str, ...] = ()
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    stdout_omitted: int = 0
    stderr_omitted: int = 0


class Launcher(Protocol):
    def launch(self, folder: Path, secrets: Mapping[str, bytes]) -> None:
        """Start the job whose plan lies in `folder`, with `secrets` added to its variables. It is its
        shim's when this returns: the agent may die. `OSError` when nothing was started; doing it twice
        starts it once."""


def write_plan(folder: Path, plan: Plan) -> None:
    """The launch file. `ValueError` for a value no process can be given."""
    pairs = [("argv", argument) for argument in plan.argv]
    pairs += [("env", f"{name}={value}") for name, value in plan.env.items()]
    pairs += [
        ("cwd", str(plan.cwd)),
        ("time_limit", repr(plan.time_limit_seconds or 0.0)),
        ("interrupt_grace", repr(plan.interrupt_grace_seconds)),
        ("terminate_grace", repr(plan.terminate_grace_seconds)),
        ("backlog", str(plan.backlog_bytes)),
        ("head", str(plan.head_bytes)),
        ("tail", str(plan.tail_bytes)),
        ("stuck", repr(plan.stuck_seconds)),
    ]
    (folder / "launch").write_bytes(records.encode(pairs))


def backlog_of(folder: Path) -> int:
    """How far ahead of what was shipped the spools may be, as the shim of `folder` knows it."""
    try:
        fields = dict(records.decode((folder / "launch").read_bytes()))
    except FileNotFoundError:
        fields = {}  # it ended before it was launched
    return int(fields.get("backlog", BACKLOG_BYTES))


def make_spools(folder: Path) -> None:
    for name in ("stdout", "stderr"):
        os.close(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def write_exit(folder: Path, end: Exit) -> None:
    """Record the end of an attempt that never had a shim, or has lost it, as a shim would have."""
    pairs = [("reason", end.reason), ("detail", end.detail.replace("\0", ""))]
    pairs += [("survivors", " ".join(end.survivors))]
    pairs += [("stdout_omitted", str(end.stdout_omitted)), ("stderr_omitted", str(end.stderr_omitted))]
    records.write_aside(folder / "exit", records.encode(pairs), durable=True)


def read_exit(folder: Path) -> Exit | None:
    """How the attempt ended; None while it has not."""
    try:
        fields = dict(records.decode((folder / "exit").read_bytes()))
    except FileNotFoundError:
        return None
    return Exit(
        reason=fields["reason"],
        exit_code=int(fields["exit_code"]) if fields.get("exit_code") else None,
        signal=int(fields["signal"]) if fields.get("signal") else None,
        detail=fields.get("detail", ""),
        survivors=tuple(fields.get("survivors", "").split()),
        stdout_bytes=int(fields.get("stdout", 0)),
        stderr_bytes=int(fields.get("stderr", 0)),
        stdout_omitted=int(fields.get("stdout_omitted", 0)),
        stderr_omitted=int(fields.get("stderr_omitted", 0)),
    )


def write_lease(folder: Path, ends_at: float) -> None:
    """The job ends itself at `ends_at`, unless this is written anew before."""
    records.write_aside(folder / "lease", repr(ends_at).encode())
    _ring(folder)


def write_shipped(folder: Path, stdout: int, stderr: int) -> None:
    """So many bytes have left the spools: a job held back for them may go on."""
    records.write_aside(folder / "shipped", f"{stdout} {stderr}".encode())
    _ring(folder)


def request_stop(
    folder: Path,
    reason: str,
    *,
    at_once: bool = False,
    signal: int = 0,
    grace_seconds: float | None = None,
) -> None:
    """Ask the shim to end the job, gracefully unless `at_once`. It is heard now or when it starts.
    `signal` comes first instead of SIGINT, `grace_seconds` is the time the job has after it."""
    words = [reason]
    if at_once:
        words.append("now")
    if signal:
        words.append(f"signal={signal}")
    if grace_seconds is not None:
        words.append(f"grace={grace_seconds!r}")
    records.write_aside(folder / "stop", " ".join(words).encode())
    _ring(folder)


def _ring(folder: Path) -> None:
    """Tell the shim to look. One that does not listen yet looks before it starts."""
    bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    bell.setblocking(False)
    try:
        # By way of a descriptor: a socket's own path may have 107 bytes, ours has what the user chose.
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            bell.sendto(b"!", f"/proc/self/fd/{descriptor}/control")
        finally:
            os.close(descriptor)
    except OSError as error:
        log.debug("shim_not_rung", folder=folder.name, error=repr(error))
    finally:
        bell.close()


def is_running(folder: Path) -> bool:
    """Whether a shim holds the attempt: it does from before its start until after the end record."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)


def shim_command(python: Path, places: tuple[str, ...]) -> list[str]:
    """The command line of a factory of shims: an interpreter that reads no site packages and no user
    settings. Jobs get control groups below `places`. With a folder added it is the one shim of that."""
    packages = str(Path(__file__).resolve().parents[1])
    return [str(python), "-I", "-S", "-c", _BOOT.format(path=packages), "\n".join(places)]


class ColdLauncher:
    """Every job gets a fresh interpreter. Their shims come from a factory, a process of its own."""

    def __init__(self, *, python: Path, env: dict[str, str], places: tuple[str, ...], log_file: Path) -> None:
        self._command = shim_command(python, places)
        self._env = env
        self._log_file = log_file
        self._factory: socket.socket | None = None
        self._pid = self._pidfd = -1

    def open(self) -> None:
        """Start the factory, so that the first job finds it ready."""
        self._shorten_log()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._pid = os.posix_spawn(
                    self._command[0],
                    self._command,
                    self._env,
                    file_actions=[
                        (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0),
                        (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
                        (os.POSIX_SPAWN_OPEN, 2, str(self._log_file), _APPEND, 0o600),
                    ],
                    setsid=True,
                    setsigmask=(),
                    setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE),
                )
            except OSError:
                ours.close()
                raise
        self._factory = ours
        self._pidfd = os.pidfd_open(self._pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._forget)

    def _shorten_log(self) -> None:
        """In place, because shims of earlier factories go on appending to it."""
        with contextlib.suppress(FileNotFoundError):
            if self._log_file.stat().st_size > _LOG_BYTES:
                shutil.copyfile(self._log_file, self._log_file.with_name(self._log_file.name + ".old"))
                os.truncate(self._log_file, 0)

    def close(self) -> None:
        """The factory and its spare go; shims with a job stay."""
        if self._factory is not None:
            self._forget()

    def launch(self, folder: Path, secrets: Mapping[str, bytes] = NO_SECRETS) -> None:
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for _ in range(_TRIES):
                if self._factory is None:
                    self.open()
                if self._hand_over(folder, lock, secrets):
                    return
                self._forget()
            raise OSError("no shim could be started")
        except BlockingIOError:
            return  # there is one
        finally:
            os.close(lock)

    def _hand_over(self, folder: Path, lock: int, secrets: Mapping[str, bytes]) -> bool:
        """Give `folder`, its lock and what is not to lie in it to the next spare; False when the factory
        is gone."""
        assert self._factory is not None
        variables = b"".join(b"%s=%s\0" % (name.encode(), value) for name, value in secrets.items())
        try:
            socket.send_fds(self._factory, [os.fsencode(folder) + b"\0" + variables], [lock])
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def _forget(self) -> None:
        """The factory has ended, or is to: the next launch starts another."""
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        if self._factory is not None:
            self._factory.close()
            self._factory = None
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, os.WNOHANG)
