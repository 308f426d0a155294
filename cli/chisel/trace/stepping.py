"""`steps=(wait, warmup, active)`: a long call of which only some steps are recorded.

A step ends with `chisel.step()`. In a script that never calls it, it ends with each step of the first
optimizer that steps.
"""

import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

_current: "Steps | None" = None


class Steppable(Protocol):
    """A capture as its steps drive it."""

    def is_ours(self) -> bool: ...
    def warm_up(self) -> None: ...
    def begin(self) -> None: ...
    def end(self, ended_by: str) -> None: ...


class Steps:
    """Counts the steps of one capture and drives it."""

    def __init__(self, steps: tuple[int, int, int], *, capture: Steppable, torch: Any) -> None:
        self.done = 0
        self._wait, self._warmup, active = steps
        self._first = self._wait + self._warmup
        self._last = self._first + active
        self._capture = capture
        self._torch = torch
        self._mark: Any = None
        self._said_by_script = False
        self._optimizer: Callable[[], object] | None = None
        self._hook: Any = None

    def start(self) -> None:
        """Count from now on."""
        global _current
        _current = self
        with suppress(Exception):  # a torch without it has chisel.step() alone
            from torch.optim.optimizer import register_optimizer_step_post_hook

            self._hook = register_optimizer_step_post_hook(self._after_optimizer)
        self._enter()

    def close(self) -> None:
        """Count no more; before the profiler stops, so that the last step has its end."""
        global _current
        _current = None
        with suppress(Exception):
            self._hook.remove()
        self._end_mark()

    def _after_optimizer(self, optimizer: object, *_: Any) -> None:
        if self._said_by_script or not self._capture.is_ours():
            return
        if self._optimizer is None:
            self._optimizer = weakref.ref(optimizer)
        if self._optimizer() is optimizer:
            self._advance()

    def step(self) -> None:
        """The script says that a step has ended."""
        if not self._capture.is_ours():
            return
        counted = self.done and not self._said_by_script  # the optimizer was quicker, in this very step
        self._said_by_script = True
        if not counted:
            self._advance()

    def _advance(self) -> None:
        self._end_mark()
        self.done += 1
        self._enter()

    def _enter(self) -> None:
        """Do what comes with step number `done`."""
        if self.done == self._last:
            self._capture.end("steps")
            return
        if self.done == self._first:
            self._capture.begin()
        elif self.done == self._wait:
            self._capture.warm_up()
        if self.done >= self._first and _current is self:
            with suppress(Exception):  # a trace without this mark is still one
                mark = self._torch.profiler.record_function(f"ProfilerStep#{self.done}")
                mark.__enter__()
                self._mark = mark

    def _end_mark(self) -> None:
        mark, self._mark = self._mark, None
        if mark is not None:
            with suppress(Exception):
                mark.__exit__(None, None, None)


def step() -> None:
    """A step of the open capture has ended, if that has steps and is this thread's."""
    if _current is not None:
        _current.step()


def forget() -> None:
    """What was open belongs to the process that this one was forked from."""
    global _current
    _current = None
