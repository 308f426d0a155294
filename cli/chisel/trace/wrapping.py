"""The kinds of functions: each is wrapped so that it stays what it is to whoever calls it."""

import functools
import inspect
import os
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import nullcontext
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from chisel.trace.capture import Options
from chisel.trace.naming import name_of, note_first_process
from chisel.trace.recording import Process, Target

_STACKS_VARIABLE = "CHISEL_TRACE_STACKS"
"""Set by `chisel python --trace-stacks`: every capture records the Python lines too."""

_PLAIN_FUNCTIONS = (FunctionType, BuiltinFunctionType, MethodType)


def wrap(function: Callable[..., Any], *, trace_name: str | None, options: Options) -> Callable[..., Any]:
    """`function` with its calls recorded."""
    # Otherwise torch 2.13's profiler prints two lines of its own for every capture.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    note_first_process()
    if os.environ.get(_STACKS_VARIABLE) == "1":
        options = options._replace(with_stack=True)
    if isinstance(function, MethodType) and isinstance(function.__func__, FunctionType):
        # Still bound: a copy of the object has a method of the copy, and pickle finds it by its name.
        return MethodType(wrap(function.__func__, trace_name=trace_name, options=options), function.__self__)
    title = trace_name or name_of(function)
    function_name, file = _origin(function)
    target = Target(title=title, function=function_name, file=file, options=options)
    # What an object with __call__ does is what its __call__ is.
    kind: Any = function if isinstance(inspect.unwrap(function), _PLAIN_FUNCTIONS) else _call_of(function)
    if inspect.iscoroutinefunction(kind):
        traced = _coroutine(function, target)
    elif inspect.isasyncgenfunction(kind):
        traced = _async_generator(function, target)
    elif inspect.isgeneratorfunction(kind):
        traced = _generator(function, target)
    else:
        traced = _plain(function, target)
    if isinstance(function, _PLAIN_FUNCTIONS):
        return traced
    return CallableObject(function, traced)


def _call_of(function: Any) -> Any:
    if isinstance(function, functools.partial):
        return function
    return getattr(function, "__call__", function)  # noqa: B004 - the method itself


def _origin(function: Any) -> tuple[str, str]:
    """The full name of a function and the file that it is in, for a reader."""
    while isinstance(function, functools.partial):
        function = function.func
    plain = inspect.unwrap(function)
    name = getattr(plain, "__qualname__", None) or type(plain).__qualname__
    code = getattr(plain, "__code__", None) or getattr(_call_of(plain), "__code__", None)
    file = "" if code is None else code.co_filename
    here = os.getcwd() + os.sep
    return f"{getattr(plain, '__module__', None) or '?'}.{name}", file.removeprefix(here)


def _compiling() -> Callable[[], bool]:
    """Tells whether torch.compile reads the function, which then runs untraced: what is compiled of it must
    not depend on us. To torch.compile it is true, to Python always false, and as quick as that."""
    compiler = getattr(sys.modules.get("torch"), "compiler", None)
    asks = getattr(compiler, "is_dynamo_compiling", None) or getattr(compiler, "is_compiling", None)
    return asks if callable(asks) else _compiling_by_now


def _compiling_by_now() -> bool:
    """The same where torch is loaded after something was decorated. torch.compile reads this too."""
    asks = getattr(getattr(sys.modules.get("torch"), "compiler", None), "is_compiling", None)
    return asks is not None and bool(asks())


def _plain(function: Callable[..., Any], target: Target) -> Callable[..., Any]:
    # torch.jit.script reads the source of the function and looks its names up in whatever it is given: first
    # among what this closes over, so these have names that no script has, then in its globals.
    _chisel_compiling, _chisel_process, _chisel_target, _chisel_call = _compiling(), Process, target, function
    _chisel_by_now, _chisel_choose = _compiling_by_now, _compiling

    def traced(*args: Any, **kwargs: Any) -> Any:
        nonlocal _chisel_compiling
        if _chisel_compiling() or (_chisel_target.spent and _chisel_process.open is None):
            return _chisel_call(*args, **kwargs)
        # torch.export runs what it reads.
        recording = None if _chisel_by_now() else _chisel_target.begin()
        if _chisel_compiling is _chisel_by_now:  # which is slow, and torch is loaded now
            _chisel_compiling = _chisel_choose()
        if recording is None:
            return _chisel_call(*args, **kwargs)
        with recording:
            return _chisel_call(*args, **kwargs)

    seen = getattr(function, "__globals__", None)
    if type(seen) is dict:
        # It uses no global name itself.
        traced = FunctionType(traced.__code__, seen, traced.__name__, None, traced.__closure__)
    return functools.wraps(function)(traced)


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


class CallableObject:
    """A callable that is no function (a partial, an object with `__call__`, a cached function): its calls are
    recorded, for all else it is the object itself."""

    def __init__(self, wrapped: Any, traced: Callable[..., Any]) -> None:
        object.__setattr__(self, "__wrapped__", wrapped)
        object.__setattr__(self, "_chisel_traced", traced)
        for name in ("__doc__", "__module__"):  # which the class has too
            object.__setattr__(self, name, getattr(wrapped, name, None))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return object.__getattribute__(self, "_chisel_traced")(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "__wrapped__"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(object.__getattribute__(self, "__wrapped__"), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(object.__getattribute__(self, "__wrapped__"), name)

    @property
    def __class__(self) -> Any:
        return type(object.__getattribute__(self, "__wrapped__"))

    @__class__.setter
    def __class__(self, kind: Any) -> None:
        object.__getattribute__(self, "__wrapped__").__class__ = kind

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        wrapped = object.__getattribute__(self, "__wrapped__")
        binds = hasattr(type(wrapped), "__get__") and not isinstance(wrapped, functools.partial)
        return MethodType(self, instance) if binds and instance is not None else self

    def __reduce__(self) -> Any:
        # Another process has the object, and decorates it itself or not at all.
        return _itself, (object.__getattribute__(self, "__wrapped__"),)

    def __repr__(self) -> str:
        return repr(object.__getattribute__(self, "__wrapped__"))


def _itself(wrapped: Any) -> Any:
    return wrapped
