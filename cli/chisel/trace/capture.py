"""`capture_trace`: profile a function on a backend, leave it alone everywhere else."""

import os
from collections.abc import Callable
from typing import ParamSpec, TypeVar, overload

P = ParamSpec("P")
R = TypeVar("R")

DIRECTORY_VARIABLE = "CHISEL_TRACE_DIR"
"""Set by the agent: where a job's traces go. Without it a script runs at home and nothing is traced."""

MAX_CALLS = 3
"""Traces of one name a process saves: the profiler keeps all events in memory, files are large."""


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
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def capture_trace(
    trace_name: object = None,
    record_shapes: bool = False,
    profile_memory: bool = False,
    *,
    with_stack: bool = False,
    max_calls: int = MAX_CALLS,
) -> object:
    """Decorate a function or method so that its calls on a backend are profiled.

    Used bare (`@capture_trace`) or called. At home the function itself is returned: no wrapper, no
    torch. On a backend each of the first `max_calls` calls saves a Chrome trace `{trace_name}.json`,
    `{trace_name}.2.json`, …; later calls run untraced. Tracing never changes what the function
    returns or raises, runs it exactly once, and a profiler that cannot work costs one line on stderr.
    """
    if _is_function(trace_name):
        return _decorate(trace_name, None, {}, MAX_CALLS)
    if trace_name is not None and not isinstance(trace_name, str):
        if callable(trace_name):
            raise _not_a_function(trace_name)
        raise TypeError(f"trace_name must be a string or None, not {type(trace_name).__name__}")
    switches = {"record_shapes": record_shapes, "profile_memory": profile_memory, "with_stack": with_stack}
    for switch, value in switches.items():
        if not isinstance(value, bool):
            raise TypeError(f"{switch} must be True or False, not {value!r}")
    if not isinstance(max_calls, int) or isinstance(max_calls, bool) or max_calls < 0:
        raise TypeError(f"max_calls must be a number of calls, not {max_calls!r}")
    return lambda function: _decorate(function, trace_name, switches, max_calls)


def _is_function(thing: object) -> bool:
    return isinstance(thing, (staticmethod, classmethod)) or (
        callable(thing) and not isinstance(thing, (type, str))
    )


def _not_a_function(thing: object) -> TypeError:
    kind = thing.__name__ if isinstance(thing, type) else type(thing).__name__
    hint = "; decorate its `forward`" if hasattr(thing, "forward") else ""
    return TypeError(f"capture_trace decorates functions and methods, not {kind}{hint}")


def _decorate(function: object, trace_name: str | None, switches: dict[str, bool], max_calls: int) -> object:
    if not _is_function(function):
        raise _not_a_function(function)
    if not os.environ.get(DIRECTORY_VARIABLE):
        return function
    if isinstance(function, (staticmethod, classmethod)):
        return type(function)(_decorate(function.__func__, trace_name, switches, max_calls))  # type: ignore[arg-type]
    from chisel.trace.wrapping import wrap

    return wrap(function, trace_name=trace_name, switches=switches, max_calls=max_calls)  # type: ignore[arg-type]
