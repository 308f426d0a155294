"""`capture_trace` where nothing is traced: it is not there, but mistakes show."""

import functools
import sys
from typing import Any, assert_type

import pytest

import chisel
from chisel import capture_trace
from chisel.trace.capture import MAX_FILE_BYTES
from chisel_shared.contract.files import MAX_BYTES, FileKind


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHISEL_TRACE_DIR", raising=False)


def plain(a: int, b: str = "") -> float:
    return a / 2


def test_the_function_itself_is_returned() -> None:
    assert capture_trace(plain) is plain
    assert capture_trace()(plain) is plain
    assert capture_trace("name")(plain) is plain
    assert capture_trace(trace_name=None, record_shapes=False, profile_memory=False)(plain) is plain
    assert capture_trace("n", True, True, with_stack=True, max_calls=0)(plain) is plain
    assert (
        capture_trace(
            skip=1, max_seconds=0.5, max_bytes=1 << 20, steps=(0, 1, 2), ranks="0, 1", all_threads=True
        )(plain)
        is plain
    )


def test_a_step_is_no_step_at_home() -> None:
    chisel.step()


def test_whatever_can_be_called_is_a_function() -> None:
    partial = functools.partial(plain, 1)
    static, bound = staticmethod(plain), classmethod(lambda cls: cls)
    functions: list[Any] = [partial, static, bound, len, lambda: 0]
    for function in functions:
        assert capture_trace(function) is function


def test_types_are_kept() -> None:
    assert_type(capture_trace(plain)(1, b="x"), float)
    assert_type(capture_trace("n", record_shapes=True)(plain)(1), float)


def test_the_environment_counts_when_a_function_is_decorated(monkeypatch: pytest.MonkeyPatch) -> None:
    decorated = capture_trace(plain)
    monkeypatch.setenv("CHISEL_TRACE_DIR", "/nowhere")
    assert decorated(4) == 2.0


def test_torch_is_not_loaded() -> None:
    before = set(sys.modules)
    capture_trace("n")(plain)
    assert not {name for name in set(sys.modules) - before if name.startswith("torch")}


class Model:
    def forward(self) -> None:
        """As a module of torch has one."""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"trace_name": 3}, "trace_name must be a string or None, not int"),
        ({"record_shapes": "yes"}, "record_shapes must be True or False, not 'yes'"),
        ({"profile_memory": 1}, "profile_memory must be True or False, not 1"),
        ({"with_stack": None}, "with_stack must be True or False, not None"),
        ({"max_calls": "3"}, "max_calls must be a number of calls, not '3'"),
        ({"max_calls": -1}, "max_calls must be a number of calls, not -1"),
        ({"max_calls": True}, "max_calls must be a number of calls, not True"),
        ({"skip": 1.5}, "skip must be a number of calls, not 1.5"),
        ({"max_seconds": "60"}, "max_seconds must be a number of seconds, not '60'"),
        ({"max_bytes": 1e9}, "max_bytes must be a number of bytes, not 1000000000.0"),
        ({"steps": 3}, "steps must be three numbers of steps"),
        ({"steps": (1, 2)}, "steps must be three numbers of steps"),
        ({"steps": (1, 2, True)}, "steps must be three numbers of steps"),
        ({"ranks": 0}, 'ranks must be "all" or ranks as in "0,1", not 0'),
        ({"all_threads": 1}, "all_threads must be True or False, not 1"),
        ({"name": "x"}, "unexpected keyword argument 'name'"),
    ],
)
def test_wrong_arguments_show_at_home(arguments: dict[str, object], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        capture_trace(**arguments)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"all_threads": True, "profile_memory": True}, "exclude each other"),
        ({"max_seconds": 0}, "max_seconds must be more than 0"),
        ({"max_seconds": float("nan")}, "max_seconds must be more than 0"),
        ({"max_bytes": 0}, "max_bytes must lie between 1 and 4294967296"),
        ({"max_bytes": 5 << 30}, "max_bytes must lie between"),
        ({"steps": (1, -1, 2)}, "none below 0"),
        ({"steps": (1, 1, 0)}, "needs an active step"),
        ({"ranks": "first"}, 'ranks must be "all"'),
        ({"ranks": ""}, 'ranks must be "all"'),
        ({"ranks": "0,-1"}, 'ranks must be "all"'),
    ],
)
@pytest.mark.parametrize("backend", [False, True])
def test_wrong_values_show_in_both_places(
    arguments: dict[str, object], says: str, backend: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if backend:
        monkeypatch.setenv("CHISEL_TRACE_DIR", "/nowhere")
    with pytest.raises(ValueError, match=says):
        capture_trace(**arguments)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("thing", "says"),
    [
        (property(lambda self: 0), "not property"),
        (Model, "not Model; decorate its `forward`"),
        (int, "not int"),
        (None, "not NoneType"),
        ("text", "not str"),
    ],
)
def test_what_is_no_function_is_refused(thing: object, says: str) -> None:
    with pytest.raises(TypeError, match=f"capture_trace decorates functions and methods, {says}$"):
        capture_trace()(thing)  # type: ignore[arg-type]


def test_the_largest_file_is_what_a_server_takes() -> None:
    assert MAX_BYTES[FileKind.TRACE] == MAX_FILE_BYTES


def test_a_class_is_refused_in_the_bare_form() -> None:
    with pytest.raises(TypeError, match="not Model"):
        capture_trace(Model)
