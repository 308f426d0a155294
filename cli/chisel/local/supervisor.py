"""Keeps the processes of a stack alive, and is kept alive itself.

The supervisor imports what the services import once, freezes the garbage collector and forks each
service from that image: their pages are shared and a restart takes milliseconds. It must therefore
never have a thread or an event loop. It sleeps in `poll` on one descriptor per process (pidfd), so
an idle stack costs no wake-ups; where the kernel has no pidfd it looks twice a second.

Any process may be killed at any time:

- a child: it is started again, at once at first, slower while it keeps failing;
- the supervisor: the *keeper*, a fork of it that only waits for its end, takes its place, finds the
  children by their records, and forks a new keeper;
- the keeper: the supervisor forks another.

One that lives but is ill is restarted too, when another of the stack writes its name into the pipe
`run/alarm`, and a restart can help.

A child writes its own record before it does anything, then checks that its parent still lives: so
a new supervisor either reads the record or the child ends by itself, and nothing ever runs twice.
"""

import errno
import fcntl
import gc
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from chisel.local import logs, processes
from chisel.local.child import STEADY_SECONDS, Backoff, Child, how_it_ended, reap, stop_children
from chisel.local.processes import Process
from chisel.local.state import write_private

KEEPER, SUPERVISOR = "keeper", "supervisor"
ALARM = Path("run", "alarm")
RETRY = signal.SIGUSR1

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, RETRY)

_LOOK_SECONDS = 0.5
"""How often to look where the kernel cannot tell of a process's end."""
_LOG_CHECK_SECONDS = 300.0
_ALARM_HEEDED_SECONDS = 3.0
"""Alarms about a child that was started, or asked to end, so recently are about its past."""
_FAILURES_BEFORE_REPAIR = 2


class Supervisor:
    """Runs `children` until told to stop by SIGTERM, SIGINT or SIGHUP; a second signal kills them.

    SIGUSR1 starts at once what waits to be restarted. `prepare` imports what prepared children need.
    `repair(name, running)` is asked when a child fails repeatedly and names those to restart too.
    `before_stop` is called before anything is stopped.
    """

    def __init__(
        self,
        *,
        folder: Path,
        children: Sequence[Child],
        keeper: bool = True,
        prepare: Callable[[], None] = lambda: None,
        repair: Callable[[str, Collection[str]], Collection[str]] = lambda name, running: (),
        before_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder = folder
        self._children = {child.name: child for child in sorted(children, key=lambda child: child.stage)}
        self._wants_keeper = keeper
        self._prepare = prepare
        self._repair = repair
        self._before_stop = before_stop
        self._running: dict[str, Process] = {}
        self._watches: dict[str, int] = {}
        self._due: dict[str, float] = {}
        self._backoff = {name: Backoff() for name in (*self._children, KEEPER)}
        self._ends = dict.fromkeys((*self._children, KEEPER), 0)
        self._signals: list[int] = []
        self._wakeup = (-1, -1)
        self._alarm = -1
        self._restarted: dict[str, tuple[Process, float]] = {}

    def run(self) -> Process | None:
        """Supervise until stopped, then None. In the fork that is to be the keeper: the supervisor
        it must watch, and then whoever called this runs a supervisor of its own when that has ended.
        """
        if not self._claim():
            say("already_supervised")
            return None
        myself = _myself()
        old = processes.recorded(str(self._folder), KEEPER)
        if old is not None and old.pid != os.getpid():
            old.signal(signal.SIGKILL)  # it watches somebody who is gone
        processes.forget(str(self._folder), KEEPER)  # or it was this very process until now
        processes.record(str(self._folder), SUPERVISOR, myself)
        processes.name_this_process("chisel:super")
        self._listen()
        self._adopt()
        self._start_missing(prepared=False)
        self._prepare()
        gc.collect()
        gc.freeze()
        self._start_missing(prepared=True)
        if self._wants_keeper:
            self._due.setdefault(KEEPER, 0.0)
        say("supervising", adopted=sorted(self._running))
        while not self._asked_to_stop():
            if KEEPER in self._due and self._due[KEEPER] <= time.monotonic() and self._fork_keeper():
                return myself
            self._turn()
        self._stop()
        return None

    def _claim(self) -> bool:
        """Be the only supervisor of this folder. A lock of this process alone: forks don't inherit it."""
        descriptor = os.open(self._folder / "run" / "supervisor.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            raise
        return True

    def _listen(self) -> None:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        self._wakeup = (reading, writing)
        for number in _SIGNALS:
            signal.signal(number, lambda number, frame: self._signals.append(number))
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        alarm = self._folder / ALARM
        if not alarm.is_fifo():
            alarm.unlink(missing_ok=True)
            os.mkfifo(alarm, 0o600)
        # Open for writing too, or it would be at its end whenever nobody writes.
        self._alarm = os.open(alarm, os.O_RDWR | os.O_NONBLOCK)

    def _asked_to_stop(self) -> bool:
        return any(number != RETRY for number in self._signals)

    def _adopt(self) -> None:
        """Take over what an earlier supervisor left running."""
        for name in self._children:
            self._ends[name] = ends_of(self._folder, name)[0]
            process = processes.recorded(str(self._folder), name)
            if process is not None and process.alive():
                self._watch(name, process)

    def _watch(self, name: str, process: Process) -> None:
        self._running[name] = process
        self._backoff[name].started(now=time.monotonic())
        descriptor = process.watch()
        if descriptor is not None:
            self._watches[name] = descriptor

    def _start_missing(self, *, prepared: bool) -> None:
        for name, child in self._children.items():
            if child.prepared == prepared and name not in self._running:
                self._start(child)

    def _start(self, child: Child) -> None:
        self._due.pop(child.name, None)
        logs.trim(self._log(child.name))
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become(child, parent)
        process = processes.identify(pid)
        if process is None:  # it ended already
            self._backoff[child.name].started(now=time.monotonic())
            self._on_end(child.name, reap(pid))
        else:
            self._watch(child.name, process)

    def _become(self, child: Child, parent: int) -> None:
        """In the fork: let go of everything that is the supervisor's, then be the child."""
        status = 1
        try:
            self._let_go(child.name)
            log = os.open(self._log(child.name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.closerange(3, _MOST_DESCRIPTORS)
            processes.record(str(self._folder), child.name, _myself())
            if os.getppid() == parent:
                child.run()
                status = 0
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else int(error.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            # Whatever happened: the supervisor's own code must never go on in here.
            sys.stderr.flush()
            os._exit(status)

    def _let_go(self, name: str) -> None:
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        os.setpgid(0, 0)
        processes.name_this_process(f"chisel:{name}")
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)

    def _fork_keeper(self) -> bool:
        """True in the fork."""
        self._due.pop(KEEPER, None)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._let_go(KEEPER)
            os.closerange(3, _MOST_DESCRIPTORS)
            processes.record(str(self._folder), KEEPER, _myself())
            if os.getppid() != parent:
                os._exit(0)
            return True
        process = processes.identify(pid)
        if process is not None:
            self._watch(KEEPER, process)
        else:
            self._due[KEEPER] = time.monotonic() + _LOOK_SECONDS
        return False

    def _turn(self) -> None:
        """Sleep until something happens, and answer it."""
        poll = select.poll()
        names = {descriptor: name for name, descriptor in self._watches.items()}
        for descriptor in (*names, self._wakeup[0], self._alarm):
            poll.register(descriptor, select.POLLIN)
        now = time.monotonic()
        until = min([_LOG_CHECK_SECONDS, *(due - now for due in self._due.values())])
        if self._running.keys() - self._watches.keys():
            until = min(until, _LOOK_SECONDS)
        poll.poll(max(0.0, until) * 1000 + 1)
        _drain(self._wakeup[0])
        if RETRY in self._signals:
            self._signals.remove(RETRY)
            self._due = dict.fromkeys(self._due, 0.0)
        for name, process in list(self._running.items()):
            if not process.alive():
                self._on_end(name, reap(process.pid))
        if self._asked_to_stop():
            return
        self._heed(set(_drain(self._alarm).decode(errors="replace").split()))
        for name in [name for name, due in self._due.items() if due <= time.monotonic() and name != KEEPER]:
            self._start(self._children[name])
        for name in (*self._children, SUPERVISOR):
            logs.trim(self._log(name))

    def _heed(self, names: set[str]) -> None:
        """Restart whom an alarm names, if that can help; kill who does not end of it."""
        now = time.monotonic()
        for name in names & self._children.keys() & self._running.keys():
            child, process = self._children[name], self._running[name]
            asked, at = self._restarted.get(name, (None, 0.0))
            if asked != process:
                at = self._backoff[name].started_at
            if now - at < _ALARM_HEEDED_SECONDS or not child.helped_by_restart():
                continue
            say("restarting", child=name, because="alarm")
            process.signal(child.stop_signal if asked != process else signal.SIGKILL)
            self._restarted[name] = (process, now)

    def _on_end(self, name: str, status: int | None) -> None:
        self._running.pop(name, None)
        if (descriptor := self._watches.pop(name, None)) is not None:
            os.close(descriptor)
        backoff = self._backoff[name]
        now = time.monotonic()
        delay = backoff.ended(now=now)
        self._due[name] = now + delay
        self._ends[name] += 1
        how = how_it_ended(status)
        say("ended", child=name, how=how, failures=backoff.failures, restart_seconds=delay)
        if name == KEEPER:
            return
        ends = {"ends": self._ends[name], "how": how}
        write_private(str(self._folder / "run" / f"{name}.ends"), json.dumps(ends), durable=False)
        if backoff.failures > _FAILURES_BEFORE_REPAIR:
            for other in self._repair(name, self._running.keys()):
                if other in self._running:
                    say("restarting", child=other, because=name)
                    self._running[other].signal(self._children[other].stop_signal)

    def _stop(self) -> None:
        say("stopping")
        signals = len(self._signals)
        if KEEPER in self._running:
            self._running[KEEPER].signal(signal.SIGKILL)
            processes.wait_all([self._running.pop(KEEPER)], seconds=5)
        self._before_stop()
        stop_children(self._children.values(), self._running, forced=lambda: len(self._signals) > signals)
        for name in (*self._children, KEEPER, SUPERVISOR):
            processes.forget(str(self._folder), name)
        say("stopped")

    def _log(self, name: str) -> Path:
        return self._folder / "logs" / f"{name}.log"


def keep(supervisor: Process) -> None:
    """Be the keeper: return when `supervisor` has ended, for the caller to take its place."""
    watching = time.monotonic()
    descriptor = supervisor.watch()
    if descriptor is not None:
        select.select([descriptor], [], [])
        os.close(descriptor)
    while supervisor.alive():
        time.sleep(_LOOK_SECONDS)
    if time.monotonic() - watching < STEADY_SECONDS:
        time.sleep(_LOOK_SECONDS)  # should supervisors end by themselves, not too many a second
    say("taking_over", supervisor=supervisor.pid)


def ends_of(folder: Path, name: str) -> tuple[int, str]:
    """How often `name` ended unasked since the stack started, and how the last time."""
    try:
        found = json.loads((folder / "run" / f"{name}.ends").read_text())
        return int(found["ends"]), str(found["how"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0, ""


def say(event: str, **fields: object) -> None:
    """One line of the supervisor's own log, in the form of the services' logs."""
    line = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "level": "info",
        "service": SUPERVISOR,
        "event": event,
        **fields,
    }
    try:
        sys.stderr.write(json.dumps(line) + "\n")
        sys.stderr.flush()
    except OSError:
        return  # its terminal was closed, or the disk is full: no reason to leave the stack alone


_MOST_DESCRIPTORS = 1 << 16


def _myself() -> Process:
    process = processes.identify(os.getpid())
    assert process is not None
    return process


def _drain(descriptor: int) -> bytes:
    """All that waits there."""
    found = b""
    try:
        while part := os.read(descriptor, 512):
            found += part
    except BlockingIOError:
        pass
    return found
