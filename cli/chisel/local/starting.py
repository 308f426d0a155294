"""Starting a stack and waiting until a first job can be submitted."""

import fcntl
import importlib.util
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chisel.local import children, logs, processes, ready, servers, state, stopping, supervisor
from chisel.local.errors import LocalStackError
from chisel.local.stack import LocalStack, check_system, data_folder, read_key

_READY_SECONDS = 60.0
_LOOK_SECONDS = 0.03
_ENDS_BEFORE_GIVING_UP = 5
_NEEDED = ("aiofiles", "aiohttp", "asyncpg", "nats", "pydantic_settings", "pynvml")


class Started:
    """What `start` found or made. `fresh` is False when the stack was running already."""

    def __init__(self, stack: LocalStack, *, fresh: bool, seconds: float) -> None:
        self.stack = stack
        self.fresh = fresh
        self.seconds = seconds


def start() -> Started:
    """Return when a job can be submitted: at once when the stack runs, else after starting or
    healing it. `LocalStackError`, with the failing part's last lines, when that does not succeed."""
    check_installed()
    folder = Path(data_folder())
    with usable(folder):
        return _start(folder)


def _start(folder: Path) -> Started:
    began = time.monotonic()
    known = state.open_folder(str(folder))
    with exclusive(folder):
        if ready.missing(known.gateway_port, read_key(str(folder))) is None and is_supervised(folder):
            return Started(_stack(folder), fresh=False, seconds=0.0)
        fresh = not is_supervised(folder)
        ends = _ends(folder)
        if fresh:
            remember_gpus(folder, known)
            ends = forget_ends(folder)
            daemon = spawn(folder)
            try:
                wait_ready(folder, ends, daemon=daemon)
            except LocalStackError:
                stopping.stop(folder)  # a stack that never got ready must not linger
                raise
        else:
            _retry_now(folder)
            wait_ready(folder, ends)
    return Started(_stack(folder), fresh=fresh, seconds=time.monotonic() - began)


def check_installed() -> None:
    """`LocalStackError` naming the way out when this machine or installation cannot run a stack."""
    check_system()
    absent = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if absent:
        raise LocalStackError(
            f"the local stack is not installed ({', '.join(absent)} missing):"
            " pip install 'chisel-gpu[local]', or set CHISEL_BACKEND_URL to a Chisel that runs elsewhere"
        )
    servers.nats_binary()
    servers.postgres_folder()


@contextmanager
def usable(folder: Path) -> Iterator[None]:
    """Within, a folder that cannot be read or written is a `LocalStackError`."""
    try:
        yield
    except OSError as error:
        raise state.unusable(str(folder), error) from error


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """One start or stop of this stack at a time; a second one waits for the first."""
    descriptor = os.open(folder / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def is_supervised(folder: Path) -> bool:
    """Whether a supervisor runs, or is about to: a keeper alone takes over within a moment."""
    return any(
        processes.is_recorded_alive(str(folder), name) for name in (supervisor.SUPERVISOR, supervisor.KEEPER)
    )


def remember_gpus(folder: Path, known: state.State) -> None:
    """What the agent is to offer: as asked for now; while an agent runs on, what it was started with."""
    asked = os.environ.get("CHISEL_AGENT_GPUS")
    if asked is None and processes.is_recorded_alive(str(folder), "agent"):
        return
    if known.agent_gpus != (asked or "auto"):
        known.agent_gpus = asked or "auto"
        known.save(str(folder))


def daemon_command(folder: Path) -> list[str]:
    # -P: a module of the user's in the current folder must not take the place of one of ours.
    return [sys.executable, "-P", "-m", "chisel.local.daemon", str(folder)]


def daemon_environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        children.MARK: str(folder),
        # One heap per process instead of one per thread: the services have a few that do little.
        "MALLOC_ARENA_MAX": "1",
    }


def spawn(folder: Path) -> int:
    """Start the supervisor, which outlives us. Returns its pid."""
    log = folder / "logs" / "supervisor.log"
    logs.trim(log)
    command = daemon_command(folder)
    writing = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawn(
        command[0],
        command,
        daemon_environment(folder),
        setsid=True,  # a Ctrl-C or a closed terminal is ours, from its first instruction on
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), writing, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
    )


def wait_ready(folder: Path, ends: dict[str, int], *, daemon: int | None = None) -> None:
    """Return when a job can be submitted. `ends` says how often each part had ended before, `daemon`
    is the supervisor when we started it."""
    began = time.monotonic()
    while True:
        known = state.read(str(folder))
        assert known is not None
        lacking = ready.missing(known.gateway_port, read_key(str(folder)))
        if lacking is None:
            return
        for name, before in ends.items():
            if supervisor.ends_of(folder, name)[0] - before >= _ENDS_BEFORE_GIVING_UP:
                how = supervisor.ends_of(folder, name)[1]
                raise _failure(folder, name, f"{name} does not start ({how})")
        if daemon is not None and _has_ended(daemon) and not is_supervised(folder):
            raise _failure(folder, supervisor.SUPERVISOR, "the supervisor does not start")
        if time.monotonic() - began > _READY_SECONDS:
            raise LocalStackError(
                f"the local stack is not ready after {_READY_SECONDS:.0f} s: {lacking} is missing;"
                f" the logs are in {folder / 'logs'}"
            )
        time.sleep(_LOOK_SECONDS)


def _has_ended(child: int) -> bool:
    try:
        return os.waitpid(child, os.WNOHANG)[0] != 0
    except ChildProcessError:  # seen to end before
        return True


def _failure(folder: Path, name: str, what: str) -> LocalStackError:
    log = folder / "logs" / f"{name}.log"
    return LocalStackError(f"{what}; the last lines of {log}:\n{logs.tail(log)}")


def _retry_now(folder: Path) -> None:
    running = processes.recorded(str(folder), supervisor.SUPERVISOR)
    if running is not None:
        running.signal(supervisor.RETRY)


def _ends(folder: Path) -> dict[str, int]:
    return {name: supervisor.ends_of(folder, name)[0] for name in children.NAMES}


def forget_ends(folder: Path) -> dict[str, int]:
    for path in (folder / "run").glob("*.ends"):
        path.unlink(missing_ok=True)
    return _ends(folder)


def _stack(folder: Path) -> LocalStack:
    known, key = state.read(str(folder)), read_key(str(folder))
    assert known is not None
    assert key is not None
    return LocalStack(known.url, key)
