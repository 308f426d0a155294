"""One capture at a time in a process, with torch's profiler.

A second profiler of the same process is not refused by torch: it empties the first one's trace or
ends the process with a segmentation fault. So there is one lock; whoever does not get it runs
untraced, and a profiler that the script starts itself ends ours first.
"""

import os
import sys
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any

from chisel.trace import naming
from chisel.trace.capture import DIRECTORY_VARIABLE

_lock = threading.Lock()
_open: "Recording | None" = None
_forked_while_open = False


def _after_fork() -> None:
    """A child inherits a profiler that it must neither stop nor start again."""
    global _lock, _open, _forked_while_open
    _forked_while_open = _forked_while_open or _open is not None
    _lock, _open = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def say(text: str) -> None:
    """One line on stderr; a job whose stderr is gone must not notice."""
    with suppress(Exception):
        sys.stderr.write(f"chisel: {text}\n")
        sys.stderr.flush()


def _torch() -> Any:
    """torch, of which we use parts that it does not declare as public."""
    import torch

    return torch


class Target:
    """A decorated function: what its traces are called and how they are taken."""

    def __init__(self, *, name: str, switches: dict[str, bool], max_calls: int) -> None:
        self.name = name
        self.switches = switches
        self.max_calls = max_calls
        self.calls = 0
        self.spent = max_calls == 0

    def begin(self, *, nests: bool = True) -> "Recording | Span | None":
        """Start recording a call; None when it runs untraced.

        Inside an open recording of the same thread it becomes a span of that one, unless the call
        may overlap others instead of nesting in them, as coroutines do.
        """
        outer = _open
        if outer is not None:
            return Span(self.name) if nests and outer.is_ours() else None
        if self.spent:
            return None
        if self.calls >= self.max_calls:
            self.spent = True
            say(f"{self.name}: {self.calls} calls were traced, later ones run untraced")
            return None
        if not _lock.acquire(blocking=False):
            return None
        recording = None
        try:
            recording = Recording.start(self)
        finally:
            if recording is None:
                _lock.release()
        return recording


class Span:
    """A named stretch of time inside the recording that is open already."""

    def __init__(self, name: str) -> None:
        self._span: Any = _torch().profiler.record_function(f"chisel::{name}")

    def __enter__(self) -> None:
        self._span.__enter__()

    def __exit__(self, *raised: object) -> None:
        self._span.__exit__(None, None, None)


class Recording:
    """An open capture: a context manager around the call, which it neither changes nor catches."""

    def __init__(self, *, target: Target, place: naming.Place, torch: Any) -> None:
        activities = [torch.profiler.ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(torch.profiler.ProfilerActivity.CUDA)
            if torch.cuda.is_initialized():
                # Kernels launched earlier would show up as work of this call.
                torch.cuda.synchronize()
        self._target = target
        self._place = place
        self._torch = torch
        self._profiler = torch.profiler.profile(activities=activities, **target.switches)
        self._thread = threading.get_ident()
        self._process = os.getpid()
        self._over = False
        self._broken = False
        self._span: Span | None = None
        self._prepare: Any = None

    @classmethod
    def start(cls, target: Target) -> "Recording | None":
        """A recording, or None with one line on stderr: the job goes on whatever torch does."""
        global _open
        place = None
        try:
            if _forked_while_open:
                raise RuntimeError("this process was forked from one that was being traced")
            torch = _torch()
            if torch.autograd._profiler_enabled():
                raise RuntimeError("another torch profiler is running")
            place = naming.take_place(os.environ[DIRECTORY_VARIABLE], target.name)
            recording = cls(target=target, place=place, torch=torch)
            recording._profiler.start()
            target.calls += 1
            recording._watch_for_others()
        except Exception as error:  # the promise of the decorator: never the reason a job fails
            if place is not None:
                place.release()
            target.spent = True
            say(f"{target.name} is not traced: {_why(error)}")
            return None
        _open = recording
        return recording

    def is_ours(self) -> bool:
        """Whether the caller is on the thread that is being recorded."""
        return self._thread == threading.get_ident() and self._process == os.getpid()

    def __enter__(self) -> None:
        with suppress(Exception):  # as in start()
            span = Span(self._target.name)
            span.__enter__()
            self._span = span

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, where: TracebackType | None
    ) -> None:
        self._end("" if kind is None or kind is GeneratorExit else kind.__name__)

    def _end(self, error: str) -> None:
        """Stop and save, once; what goes wrong costs the trace and one line."""
        global _open
        if self._over or self._process != os.getpid():
            return
        self._over = True
        if self._broken or not self.is_ours():
            # Stopping would crash, and so would starting another: the lock stays taken.
            cause = "another thread started a profiler" if self._broken else "it ended on another thread"
            say(f"{self._target.name}: its trace is lost, {cause}")
            return
        try:
            self._save(error)
        except Exception as failure:  # as in start()
            say(f"{self._target.name}: its trace is not saved: {_why(failure)}")
        finally:
            self._place.release()
            _open = None
            _lock.release()

    def _save(self, error: str) -> None:
        began = time.monotonic()
        self._stop_watching()
        try:
            if self._span is not None:
                self._span.__exit__()
            for name, text in self._facts(error).items():
                self._profiler.add_metadata_json(f"chisel_{name}", text)
        finally:
            self._profiler.stop()
        self._profiler.export_chrome_trace(self._place.aside)
        size = self._place.publish()
        seconds = time.monotonic() - began
        say(f"saved trace {os.path.basename(self._place.path)} ({_size(size)}, {seconds:.1f} s)")

    def _facts(self, error: str) -> dict[str, str]:
        """What the trace says about its call, as JSON. torch writes strings as they are: no escapes."""
        own_rank = naming.rank()
        return {
            "trace": f'"{self._target.name}"',
            "call": str(self._place.call),
            "rank": "null" if own_rank is None else str(own_rank),
            "pid": str(self._process),
            "error": f'"{naming.safe_name(error)}"' if error else "null",
        }

    def _watch_for_others(self) -> None:
        """End this recording before the script starts a profiler of its own."""
        module = self._torch.autograd.profiler
        prepare = getattr(module, "_prepare_profiler", None)
        if prepare is None:
            return

        def prepare_after_us(*args: Any, **kwargs: Any) -> Any:
            self._stop_watching()
            if self.is_ours():
                say(f"{self._target.name}: its trace ends here, the script starts a profiler itself")
                self._end("foreign-profiler")
            else:
                self._broken = True
            return prepare(*args, **kwargs)

        self._prepare = prepare
        module._prepare_profiler = prepare_after_us

    def _stop_watching(self) -> None:
        if self._prepare is not None:
            self._torch.autograd.profiler._prepare_profiler = self._prepare
            self._prepare = None


def _why(error: Exception) -> str:
    """One line about `error`."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
