"""`capture_trace` with the real torch: traces are right, and the function cannot tell."""

import asyncio
import copy
import inspect
import io
import os
from collections.abc import AsyncGenerator, Generator
from typing import Any

import pytest

from chisel import capture_trace
from tests.sdk.conftest import Traces

if os.environ.get("CI"):
    import torch
else:
    torch = pytest.importorskip("torch", reason="needs torch: pip install -e '.[torch]'")


def work() -> Any:
    return torch.ones(16, 16) @ torch.ones(16, 16)


def test_a_call_is_recorded_with_what_it_did(traces: Traces) -> None:
    @capture_trace(trace_name="matrix_ops", record_shapes=True)
    def matrix_multiply(a: Any, b: Any) -> Any:
        """Multiply."""
        return torch.mm(a, b)

    result = matrix_multiply(torch.ones(4, 8), torch.ones(8, 2))
    assert result.tolist() == [[8.0, 8.0]] * 4
    assert traces.names() == ["matrix_ops.json"]
    labels = traces.labels("matrix_ops.json")
    assert "aten::mm" in labels
    assert "chisel::matrix_ops" in labels
    loaded = traces.load("matrix_ops.json")
    shapes = [e["args"]["Input Dims"] for e in loaded["traceEvents"] if e.get("name") == "aten::mm"]
    assert shapes[0][:2] == [[4, 8], [8, 2]]
    assert (loaded["chisel_trace"], loaded["chisel_call"], loaded["chisel_error"]) == ("matrix_ops", 1, None)
    assert (matrix_multiply.__name__, matrix_multiply.__doc__) == ("matrix_multiply", "Multiply.")
    assert str(inspect.signature(matrix_multiply)) == "(a: Any, b: Any) -> Any"


def test_memory_is_recorded_when_asked_for(traces: Traces) -> None:
    capture_trace("with", profile_memory=True)(work)()
    capture_trace("without")(work)()
    assert "[memory]" in traces.labels("with.json")
    assert "[memory]" not in traces.labels("without.json")


def test_repeated_calls_have_files_of_their_own(traces: Traces, capsys: pytest.CaptureFixture[str]) -> None:
    decorated = capture_trace(work)
    assert [decorated().sum().item() for _ in range(5)] == [4096.0] * 5
    assert traces.names() == ["work.2.json", "work.3.json", "work.json"]
    assert [traces.load(f"work{n}.json")["chisel_call"] for n in ("", ".2", ".3")] == [1, 2, 3]
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 4
    assert shown[-1] == "chisel: work: 3 calls were traced, later ones run untraced"


def test_equal_names_of_different_functions_never_collide(traces: Traces) -> None:
    capture_trace("same")(work)()
    capture_trace("same")(lambda: work())()
    assert traces.names() == ["same.2.json", "same.json"]


def test_methods_of_every_kind(traces: Traces) -> None:
    class Model:
        @capture_trace(trace_name="method")
        def method(self) -> "Model":
            work()
            return self

        @staticmethod
        @capture_trace(trace_name="static")
        def static() -> str:
            return "static"

        @capture_trace(trace_name="outer_static")
        @staticmethod
        def outer_static() -> str:
            return "outer"

        @classmethod
        @capture_trace(trace_name="class")
        def of_class(cls) -> "type[Model]":
            return cls

        @capture_trace(trace_name="outer_class")
        @classmethod
        def outer_class(cls) -> "type[Model]":
            return cls

    model = Model()
    assert model.method() is model
    assert (Model.static(), model.static(), Model.outer_static()) == ("static", "static", "outer")
    assert Model.of_class() is Model.outer_class() is model.outer_class() is Model
    assert "aten::mm" in traces.labels("method.json")
    assert len(traces.names()) == 7


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(7)])
def test_what_is_raised_passes_and_the_trace_is_kept(traces: Traces, error: BaseException) -> None:
    ran = []

    @capture_trace
    def fails() -> None:
        ran.append(1)
        work()
        raise error

    with pytest.raises(type(error)) as caught:
        fails()
    assert caught.value is error
    assert ran == [1]
    assert traces.load("fails.json")["chisel_error"] == type(error).__name__
    assert "aten::mm" in traces.labels("fails.json")


def test_nested_and_recursive_calls_are_spans_of_the_outer_trace(traces: Traces) -> None:
    @capture_trace
    def inner() -> None:
        work()

    @capture_trace
    def outer(depth: int) -> int:
        inner()
        return 0 if depth == 0 else 1 + outer(depth - 1)

    assert outer(2) == 2
    assert traces.names() == ["outer.json"]
    labels = traces.labels("outer.json")
    assert labels.count("chisel::outer") == 3
    assert labels.count("chisel::inner") == 3
    inner()
    assert traces.names() == ["inner.json", "outer.json"]


def test_coroutines_stay_coroutines(traces: Traces) -> None:
    @capture_trace
    async def fetch(value: int) -> int:
        await asyncio.sleep(0)
        work()
        return value

    async def both() -> list[int]:
        return list(await asyncio.gather(fetch(1), fetch(2)))

    assert inspect.iscoroutinefunction(fetch)
    assert asyncio.run(both()) == [1, 2]
    assert traces.names() == ["fetch.json"]
    assert "aten::mm" in traces.labels("fetch.json")


def test_a_cancelled_coroutine_is_cancelled(traces: Traces) -> None:
    @capture_trace
    async def waits() -> None:
        await asyncio.sleep(3600)

    async def cancel() -> None:
        task = asyncio.create_task(waits())
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancel())
    assert traces.load("waits.json")["chisel_error"] == "CancelledError"


def test_generators_stay_generators(traces: Traces) -> None:
    @capture_trace
    def count() -> Generator[int, int, str]:
        got = yield 1
        work()
        try:
            yield got
        except ValueError:
            yield -1
        return "end"

    running = count()
    assert traces.names() == []
    assert (next(running), running.send(5), running.throw(ValueError())) == (1, 5, -1)
    with pytest.raises(StopIteration) as caught:
        next(running)
    assert caught.value.value == "end"
    assert "aten::mm" in traces.labels("count.json")
    left = count()
    next(left)
    left.close()
    assert traces.load("count.2.json")["chisel_error"] is None


def test_async_generators_stay_async_generators(traces: Traces) -> None:
    closed = []

    @capture_trace
    async def count() -> AsyncGenerator[int, int | None]:
        try:
            got = yield 1
            work()
            try:
                yield got or 0
            except ValueError:
                yield -1
        finally:
            closed.append(1)

    async def use() -> list[int]:
        running = count()
        seen = [await running.asend(None), await running.asend(5), await running.athrow(ValueError())]
        with pytest.raises(StopAsyncIteration):
            await anext(running)
        left = count()
        seen.append(await anext(left))
        await left.aclose()
        return seen

    assert inspect.isasyncgenfunction(count)
    assert asyncio.run(use()) == [1, 5, -1, 1]
    assert closed == [1, 1]
    assert traces.names() == ["count.2.json", "count.json"]


def test_a_profiler_of_the_script_inside_ours_ends_ours_first(
    traces: Traces, capsys: pytest.CaptureFixture[str]
) -> None:
    @capture_trace
    def outer() -> int:
        work()
        with torch.profiler.profile() as own:
            work()
        return len(own.events())

    assert outer() > 0
    assert traces.load("outer.json")["chisel_error"] == "foreign-profiler"
    assert "aten::mm" in traces.labels("outer.json")
    assert "the script starts a profiler itself" in capsys.readouterr().err
    capture_trace("after")(work)()
    assert "aten::mm" in traces.labels("after.json")


def test_ours_inside_a_profiler_of_the_script_stays_out(traces: Traces) -> None:
    decorated = capture_trace("inside")(work)
    with torch.profiler.profile() as own:
        decorated()
    assert "aten::mm" in {event.name for event in own.events()}
    assert traces.names() == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_forked_inside_leaves_the_trace_to_its_parent(traces: Traces) -> None:
    @capture_trace
    def forks() -> int:
        child = os.fork()
        if child == 0:
            # Nothing of pytest may run in the child.
            try:
                capture_trace("in_child")(lambda: None)()
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        return status

    assert forks() == 0
    assert traces.names() == ["forks.json"]


def doubled(x: torch.Tensor) -> torch.Tensor:
    return x * 2


class Scaled(torch.nn.Module):
    """Decorates its own method when it is made, as scripts do that only sometimes trace."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))
        self.forward = capture_trace(self.forward)  # type: ignore[method-assign]

    def forward(self, x: Any) -> Any:
        return self.weight * x


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
def test_torch_script_compiles_what_is_decorated(traces: Traces) -> None:
    @capture_trace("scripted")
    def function(x: torch.Tensor) -> torch.Tensor:
        return torch.relu(doubled(x))

    class Model(torch.nn.Module):
        @capture_trace("forward")
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(doubled(x)) + 1

    assert torch.jit.script(function)(torch.ones(2)).tolist() == [2.0, 2.0]
    assert torch.jit.script(Model())(torch.ones(2)).tolist() == [3.0, 3.0]
    assert traces.names() == []
    assert Model()(torch.ones(2)).tolist() == [3.0, 3.0]
    assert traces.names() == ["forward.json"]


def test_a_copy_of_an_object_with_a_decorated_method_is_a_copy(traces: Traces) -> None:
    model = Scaled()
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.weight.fill_(7)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    saved = torch.load(file, weights_only=False)
    assert [one(torch.ones(2)).tolist() for one in (model, other, saved)] == [[1, 1], [7, 7], [1, 1]]
    # What pickle finds by its name is the class's own.
    assert traces.names() == ["forward.2.json", "forward.json"]
