"""One capture at a time in a process, with torch's profiler.

A second profiler of the same process is not refused by torch: it empties the first one's trace or
ends the process with a segmentation fault. So there is one lock; whoever does not get it runs
untraced, and a profiler that the script starts itself ends ours first.
"""

import atexit
import os
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any

from chisel.trace import forking, naming, stepping
from chisel.trace.bounds import Watchdog, call_in_main_thread
from chisel.trace.capture import DIRECTORY_VARIABLE, Options
from chisel.trace.facts import Facts
from chisel.trace.gpus import Watch
from chisel.trace.profiler import cuda_is_there, leave_profiler, load_torch, make_profiler, stop_profiler
from chisel.trace.rivals import Guard
from chisel.trace.saving import save
from chisel.trace.saying import say, say_once, size, why
from chisel.trace.spans import Span
from chisel.trace.stopping import Signals, deliver, deliver_later


class Process:
    """What this process has open."""

    lock = threading.Lock()
    open: "Recording | None" = None
    has_profiled = False
    forked_while_open = False


def _after_fork() -> None:
    """A child inherits a profiler that it must neither stop nor start again."""
    if Process.open is not None:
        Process.forked_while_open = True
        Process.open.leave()
    if Process.has_profiled:
        forking.skip_destructors()
    Process.lock, Process.open = threading.Lock(), None
    stepping.forget()


def _at_exit() -> None:
    """A process that ends with a profiler on ends with a segmentation fault."""
    if Process.open is not None:
        Process.open.end_at_exit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)


class Target:
    """A decorated function: what its traces are called and how they are taken."""

    def __init__(self, *, title: str, function: str, file: str, options: Options) -> None:
        self.title = title
        self.name = naming.safe_name(title)
        self.function = function
        self.file = file
        self.options = options
        self.calls = 0
        self.traced = 0
        self.spent = options.max_calls == 0

    def begin(self, *, nests: bool = True) -> "Recording | Span | None":
        """Start recording a call; None when it runs untraced.

        Inside an open recording of the same thread it becomes a span of that one, unless the call
        may overlap others instead of nesting in them, as coroutines do.
        """
        outer = Process.open
        if outer is not None:
            return Span(self.name) if nests and outer.is_ours() else None
        if self.spent or not self._is_due():
            return None
        if not Process.lock.acquire(blocking=False):
            return None
        return Recording.start(self)

    def _is_due(self) -> bool:
        """Whether this call is one of those to trace."""
        if self.traced >= self.options.max_calls:
            self.spent = True
            say(f"{self.name}: {self.traced} calls were traced, later ones run untraced")
            return False
        ranks, (own, _) = self.options.ranks, naming.rank()
        if ranks is not None and own is not None and own not in ranks:
            self.spent = True
            return False
        self.calls += 1
        return self.calls > self.options.skip


class Recording:
    """An open capture: a context manager around the call, which it neither changes nor catches."""

    def __init__(self, *, target: Target, place: naming.Place, torch: Any, signals: Signals) -> None:
        self._target = target
        self._place = place
        self._torch = torch
        self._signals = signals
        self._thread = threading.get_ident()
        self._process = os.getpid()
        self._over = self._broken = False
        self._state = "waiting"
        self._started_at, self._began = time.time(), time.monotonic()
        self._has_cuda = cuda_is_there(torch)
        self._profiler = make_profiler(torch, target.options, cuda=self._has_cuda)
        self._facts = Facts(torch, target)
        self._guard = Guard(torch, self._another_starts)
        steps = target.options.steps
        self._steps = None if steps is None else stepping.Steps(steps, capture=self, torch=torch)
        self._watchdog: Watchdog | None = None
        self._gpus: Watch | None = None
        self._span: Span | None = None

    @classmethod
    def start(cls, target: Target) -> "Recording | None":
        """A recording, or None with one line on stderr: the job goes on whatever torch does. Called with the
        lock taken, which is released with the recording's end."""
        signals = Signals()
        signals.hold()
        place = recording = None
        try:
            if Process.forked_while_open:
                raise RuntimeError("this process was forked from one that was being traced")
            torch = load_torch()
            place = naming.take_place(
                os.environ[DIRECTORY_VARIABLE],
                name=target.name,
                title=target.title,
                function=target.function,
                skip=target.options.skip,
            )
            recording = cls(target=target, place=place, torch=torch, signals=signals)
            recording._open()
        except Exception as error:  # the promise of the decorator: never the reason a job fails
            if recording is not None:
                recording._give_up(f"is not traced: {why(error)}")
            else:
                if place is not None:
                    place.release()
                target.spent = True
                Process.lock.release()
                say(f"{target.name} is not traced: {why(error)}")
        waiting = signals.let_go()
        if waiting:
            if recording is not None:
                recording.end("signal", error="SystemExit")
            deliver(waiting)
        return None if recording is None or recording._over else recording

    def _open(self) -> None:
        Process.open = self
        self._signals.watch(self._end_by_signal)
        if self._steps is None:
            self._begin()
        else:
            self._steps.start()
        if not self._over:
            self._target.traced += 1

    def _end_by_signal(self) -> None:
        self.end("signal", error="SystemExit")

    def is_ours(self) -> bool:
        """Whether the caller is on the thread that is being recorded."""
        return self._thread == threading.get_ident() and self._process == os.getpid()

    def leave(self) -> None:
        """This process was forked meanwhile, and is not the one that is recorded."""
        if self._state == "on":
            leave_profiler(self._torch, with_stack=self._target.options.with_stack)

    def warm_up(self) -> None:
        """Let the profiler get ready; called by the steps."""
        self._check_alone()
        self._profiler.prepare_trace()
        self._state, Process.has_profiled = "warm", True
        self._guard.put_on()

    def begin(self) -> None:
        """Record from here on; called by the steps."""
        try:
            self._begin()
        except Exception as error:  # in the middle of the function: the same promise
            self._give_up(f"is not traced: {why(error)}")

    def _begin(self) -> None:
        if self._has_cuda and self._torch.cuda.is_initialized():
            # Kernels launched earlier would show up as work of this call.
            self._torch.cuda.synchronize()
        if self._state == "warm":
            self._guard.take_off()
            self._profiler.start_trace()
        else:
            self._check_alone()
            self._profiler.start()
        self._state, Process.has_profiled = "on", True
        self._started_at, self._began = time.time(), time.monotonic()
        self._guard.put_on()
        self._bound()
        if self._has_cuda:
            self._gpus = Watch()
        self._span = Span(self._target.name)
        self._span.__enter__()

    def _check_alone(self) -> None:
        if self._torch.autograd._profiler_enabled():
            raise RuntimeError("another torch profiler is running")

    def _bound(self) -> None:
        options = self._target.options
        if threading.current_thread() is not threading.main_thread():
            say_once("a capture outside the main thread is not bounded in time and memory")
            return
        watchdog = Watchdog(
            seconds=options.max_seconds, file_bytes=options.max_bytes, stop=self._end_within_bounds
        )
        watchdog.start()
        self._watchdog = watchdog

    def _end_within_bounds(self, reason: str) -> list[int]:
        """End because a bound is reached, from the watchdog; signals that came meanwhile."""
        if self._state != "on" or self._over:
            return []
        return self._end(reason, "")

    def __enter__(self) -> None:
        """It has started already."""

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, where: TracebackType | None
    ) -> None:
        if kind is None:
            self.end("return")
        elif kind is GeneratorExit:
            self.end("closed")
        else:
            self.end("signal" if kind is KeyboardInterrupt else "exception", error=kind.__name__)

    def end(self, ended_by: str, *, error: str = "") -> None:
        """Stop and save, once; what goes wrong costs the trace and one line."""
        deliver(self._end(ended_by, error))

    def _end(self, ended_by: str, error: str) -> list[int]:
        if self._over or self._process != os.getpid():
            return []
        self._over = True
        if self._broken:
            # Stopping would crash, and so would starting another: the lock stays taken.
            say(f"{self._target.name}: its trace is lost, another thread started a profiler")
            return []
        if not self.is_ours():
            self._end_elsewhere(ended_by, error)
            return []
        self._signals.hold()
        try:
            self._save(ended_by, error)
        except Exception as failure:  # as in start()
            say(f"{self._target.name}: its trace is not saved: {why(failure)}")
        finally:
            self._close()
        return self._signals.let_go()

    def _end_elsewhere(self, ended_by: str, error: str) -> None:
        """The call has ended on another thread than the profiler's, as a generator can that is collected."""
        if self._thread == threading.main_thread().ident:
            self._over = False
            if call_in_main_thread(lambda: deliver_later(self._end(ended_by, error))):
                return
            self._over = True
        # Stopping it here would lose the trace and leave the profiler on: the lock stays taken.
        say(f"{self._target.name}: its trace is lost, it ended on another thread")

    def end_at_exit(self) -> None:
        """The process ends: in the middle of the call, which was a generator's or is another thread's, or
        after it was lost."""
        if self.is_ours() and not self._over:
            self.end("closed")
        elif self._process == os.getpid() and not self._broken:
            self._guard.take_off()
            with suppress(Exception):
                stop_profiler(self._torch, self._profiler)

    def _close(self) -> None:
        """Leave nothing behind and let the next capture start."""
        self._guard.take_off()
        if self._watchdog is not None:
            self._watchdog.cancel()
        self._place.release()
        self._signals.unwatch()
        Process.open = None
        Process.lock.release()

    def _save(self, ended_by: str, error: str) -> None:
        ended, seconds = time.monotonic(), time.monotonic() - self._began
        self._guard.take_off()
        if self._steps is not None:
            self._steps.close()
        if self._state == "waiting":
            self._say_nothing_recorded()
            return
        if self._state == "warm":
            self._profiler.start_trace()
        try:
            if self._span is not None:
                self._span.__exit__()
            for name, text in self._facts.marks(self._place.call, ended_by, error).items():
                self._profiler.add_metadata_json(f"chisel_{name}", text)
        finally:
            stop_profiler(self._torch, self._profiler)
        if self._state == "warm":
            self._say_nothing_recorded()
            return
        facts = self._facts.sidecar(
            call=self._place.call,
            started_at=self._started_at,
            seconds=seconds,
            ended_by=ended_by,
            error=error,
        )
        facts["gpus"] = [] if self._gpus is None else self._gpus.end()
        count = save(self._profiler, self._place, facts, began=ended)
        took = time.monotonic() - ended
        ends = "" if ended_by in _WHOLE else f"; it ends early: {_EARLY.get(ended_by, ended_by)}"
        say(f"saved trace {os.path.basename(self._place.path)} ({size(count)}, {took:.1f} s){ends}")

    def _say_nothing_recorded(self) -> None:
        done = 0 if self._steps is None else self._steps.done
        say(f"{self._target.name}: no trace, the call ended after {done} steps, before those to record")

    def _give_up(self, text: str) -> None:
        """End without a trace, while the function runs on."""
        if self._over:
            return
        self._over = True
        self._target.spent = True
        self._guard.take_off()
        if self._steps is not None:
            self._steps.close()
        with suppress(Exception):  # it has failed already
            if self._state == "warm":
                self._profiler.start_trace()
            if self._state != "waiting":
                stop_profiler(self._torch, self._profiler)
        self._close()
        say(f"{self._target.name} {text}")

    def _another_starts(self) -> None:
        """The script starts a profiler of its own, which two of a process do not survive."""
        if self._over or self._process != os.getpid():
            return
        if self.is_ours():
            self.end("foreign-profiler")
        else:
            self._guard.take_off()
            self._broken = True


_WHOLE = ("return", "exception", "signal", "closed", "steps")
_EARLY = {
    "foreign-profiler": "the script starts a profiler itself",
    "max_memory": "its memory reached 2 GB",
}
"""How else a capture ends before its call; a bound has the name of its argument."""
