"""The kinds of functions: each is wrapped so that it stays what it is to whoever calls it."""

import functools
import inspect
import os
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import nullcontext
from typing import Any

from chisel.trace.naming import name_of, safe_name
from chisel.trace.recording import Target


def wrap(
    function: Callable[..., Any], *, trace_name: str | None, switches: dict[str, bool], max_calls: int
) -> Callable[..., Any]:
    """`function` with its calls recorded."""
    # Otherwise torch 2.13's profiler prints two lines of its own for every capture.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    name = safe_name(trace_name or name_of(function))
    target = Target(name=name, switches=switches, max_calls=max_calls)
    if inspect.iscoroutinefunction(function):
        return _coroutine(function, target)
    if inspect.isasyncgenfunction(function):
        return _async_generator(function, target)
    if inspect.isgeneratorfunction(function):
        return _generator(function, target)
    return _plain(function, target)


def _plain(function: Callable[..., Any], target: Target) -> Callable[..., Any]:
    @functools.wraps(function)
    def traced(*args: Any, **kwargs: Any) -> Any:
        recording = target.begin()
        if recording is None:
            return function(*args, **kwargs)
        with recording:
            return function(*args, **kwargs)

    return traced


def _coroutine(function: Callable[..., Any], target: Target) -> Callable[..., Any]:
    @functools.wraps(function)
    async def traced(*args: Any, **kwargs: Any) -> Any:
        with target.begin(nests=False) or nullcontext():
            return await function(*args, **kwargs)

    return traced


def _generator(function: Callable[..., Any], target: Target) -> Callable[..., Any]:
    @functools.wraps(function)
    def traced(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        with target.begin(nests=False) or nullcontext():
            return (yield from function(*args, **kwargs))

    return traced


def _async_generator(function: Callable[..., Any], target: Target) -> Callable[..., Any]:
    @functools.wraps(function)
    async def traced(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        with target.begin(nests=False) or nullcontext():
            inner = function(*args, **kwargs)
            step = inner.asend(None)
            while True:
                try:
                    value = await step
                except StopAsyncIteration:
                    return
                try:
                    sent = yield value
                except GeneratorExit:
                    await inner.aclose()
                    raise
                except BaseException as thrown:
                    step = inner.athrow(thrown)
                else:
                    step = inner.asend(sent)

    return traced
