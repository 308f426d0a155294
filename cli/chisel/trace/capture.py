"""`capture_trace`: profile a function on a backend, leave it alone everywhere else."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, ParamSpec, TypeVar, overload

P = ParamSpec("P")
R = TypeVar("R")

DIRECTORY_VARIABLE = "CHISEL_TRACE_DIR"
"""Set by the agent: where a job's traces go. Without it a script runs at home and nothing is traced."""

MAX_CALLS = 3
"""Traces of one name a process saves: the profiler keeps all events in memory, files are large."""
MAX_SECONDS = 60.0
MAX_BYTES = 1 << 30
MAX_FILE_BYTES = 4 << 30
"""What a server takes of one file."""


class Options(NamedTuple):
    """How the calls of one function are captured; checked."""

    record_shapes: bool = False
    profile_memory: bool = False
    with_stack: bool = False
    max_calls: int = MAX_CALLS
    skip: int = 0
    max_seconds: float = MAX_SECONDS
    max_bytes: int = MAX_BYTES
    steps: tuple[int, int, int] | None = None
    ranks: frozenset[int] | None = None
    """None: all."""
    all_threads: bool = False


@overload
def capture_trace(trace_name: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def capture_trace(
    trace_name: str | None = None,
    record_shapes: bool = False,
    profile_memory: bool = False,
    *,
    with_stack: bool = False,
    max_calls: int = MAX_CALLS,
    skip: int = 0,
    max_seconds: float = MAX_SECONDS,
    max_bytes: int = MAX_BYTES,
    steps: tuple[int, int, int] | None = None,
    ranks: str = "all",
    all_threads: bool = False,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def capture_trace(
    trace_name: object = None,
    record_shapes: bool = False,
    profile_memory: bool = False,
    *,
    with_stack: bool = False,
    max_calls: int = MAX_CALLS,
    skip: int = 0,
    max_seconds: float = MAX_SECONDS,
    max_bytes: int = MAX_BYTES,
    steps: tuple[int, int, int] | None = None,
    ranks: str = "all",
    all_threads: bool = False,
) -> object:
    """Decorate a function or method so that its calls on a backend are profiled.

    Used bare (`@capture_trace`) or called. At home the function itself is returned: no wrapper, no
    torch. On a backend each of the first `max_calls` calls, after `skip` others, saves a Chrome trace
    `{trace_name}.json`, `{trace_name}.2.json`, …; later calls run untraced. Tracing never changes what the
    function returns or raises, runs it exactly once, and a profiler that cannot work costs one line on
    stderr.

    A capture ends, and the function runs on, after `max_seconds`, when its file would grow beyond about
    `max_bytes` or its memory beyond 2 GB, and with `steps=(wait, warmup, active)` after so many steps of
    training: calls of `chisel.step()`, or of the first optimizer where there are none. `ranks` ("0",
    "0,1") thins what many processes save; `all_threads` records every thread of the process.
    `TypeError` and `ValueError` name a wrong argument, at home too.
    """
    if trace_name is not None and not isinstance(trace_name, str) and not is_function(trace_name):
        if callable(trace_name) or isinstance(trace_name, property):
            raise _not_a_function(trace_name)
        raise TypeError(f"trace_name must be a string or None, not {type(trace_name).__name__}")
    switches = {
        "record_shapes": record_shapes,
        "profile_memory": profile_memory,
        "with_stack": with_stack,
        "all_threads": all_threads,
    }
    for switch, value in switches.items():
        if not isinstance(value, bool):
            raise TypeError(f"{switch} must be True or False, not {value!r}")
    if all_threads and profile_memory:
        raise ValueError("all_threads and profile_memory exclude each other: torch cannot record both")
    options = Options(
        max_calls=_count("max_calls", max_calls),
        skip=_count("skip", skip),
        max_seconds=_seconds(max_seconds),
        max_bytes=_bytes(max_bytes),
        steps=_steps(steps),
        ranks=_ranks(ranks),
        **switches,
    )
    if isinstance(trace_name, str) or trace_name is None:
        return lambda function: _decorate(function, trace_name, options)
    return _decorate(trace_name, None, options)


def step() -> None:
    """Tell that a step of the training has ended, for `capture_trace(steps=…)`. Does nothing elsewhere."""
    stepping = sys.modules.get("chisel.trace.stepping")
    if stepping is not None:
        stepping.step()


def is_function(thing: object) -> bool:
    """Whether `capture_trace` can wrap it so that it stays what it is: a class and a module of torch it
    cannot."""
    return isinstance(thing, (staticmethod, classmethod)) or (
        callable(thing) and not isinstance(thing, (type, str)) and not _is_module(thing)
    )


def _is_module(thing: object) -> bool:
    return any(
        kind.__name__ == "Module" and kind.__module__ == "torch.nn.modules.module"
        for kind in type(thing).__mro__
    )


def _not_a_function(thing: object) -> TypeError:
    kind = thing.__name__ if isinstance(thing, type) else type(thing).__name__
    hint = "; decorate its `forward`" if hasattr(thing, "forward") else ""
    return TypeError(f"capture_trace decorates functions and methods, not {kind}{hint}")


def _count(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError(f"{name} must be a number of calls, not {value!r}")
    return value


def _seconds(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"max_seconds must be a number of seconds, not {value!r}")
    if not value > 0:
        raise ValueError(f"max_seconds must be more than 0, not {value!r}")
    return float(value)


def _bytes(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"max_bytes must be a number of bytes, not {value!r}")
    if not 0 < value <= MAX_FILE_BYTES:
        raise ValueError(f"max_bytes must lie between 1 and {MAX_FILE_BYTES} (4 GiB), not {value!r}")
    return value


def _steps(value: object) -> tuple[int, int, int] | None:
    if value is None:
        return None
    parts = tuple(value) if isinstance(value, (tuple, list)) else ()
    if len(parts) != 3 or not all(isinstance(part, int) and not isinstance(part, bool) for part in parts):
        raise TypeError(f"steps must be three numbers of steps (wait, warmup, active), not {value!r}")
    wait, warmup, active = parts
    if min(wait, warmup) < 0 or active < 1:
        raise ValueError(
            f"steps=(wait, warmup, active) needs an active step, and none below 0; not {value!r}"
        )
    return wait, warmup, active


def _ranks(value: object) -> frozenset[int] | None:
    if not isinstance(value, str):
        raise TypeError(f'ranks must be "all" or ranks as in "0,1", not {value!r}')
    if value == "all":
        return None
    parts = [part.strip() for part in value.split(",")]
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise ValueError(f'ranks must be "all" or ranks as in "0,1", not {value!r}')
    return frozenset(map(int, parts))


def _decorate(function: object, trace_name: str | None, options: Options) -> object:
    if not is_function(function):
        raise _not_a_function(function)
    if not os.environ.get(DIRECTORY_VARIABLE):
        return function
    if isinstance(function, (staticmethod, classmethod)):
        return type(function)(_decorate(function.__func__, trace_name, options))  # type: ignore[arg-type]
    try:
        from chisel.trace.wrapping import wrap

        return wrap(function, trace_name=trace_name, options=options)  # type: ignore[arg-type]
    except Exception as error:  # an odd Python or an odd function is no reason for a job to fail
        with suppress(Exception):  # nor is a stderr that is gone
            sys.stderr.write(f"chisel: {function!r} is not traced: {error}\n")
        return function
