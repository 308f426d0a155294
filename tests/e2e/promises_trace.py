"""What the API reference promises of `capture_trace`, of the patterns it shows, and of the whole way."""

import json

from tests.e2e.promises import Check, Reader, promise, rows
from tests.support.source import ROOT

TRACED = """\
from chisel import capture_trace

@capture_trace({arguments})
def my_function():
    import torch
    return torch.mm(torch.ones(4, 4), torch.ones(4, 4))

print("Result:", my_function().sum().item(), flush=True)
"""


def _events(reader: Reader, arguments: str, trace: str) -> list[dict[str, object]]:
    """The events of the one trace that a job saves whose function is decorated with `arguments`."""
    reader.write("script.py", TRACED.format(arguments=arguments))
    assert reader.chisel("python", "script.py").stdout == b"Result: 64.0\n"
    reader.chisel("trace", "download", "@last", "-o", "traces")
    saved = [path.name for path in (reader.project / "traces").iterdir()]
    assert saved == [trace]
    events: list[dict[str, object]] = json.loads((reader.project / "traces" / trace).read_bytes())[
        "traceEvents"
    ]
    return events


def _has(events: list[dict[str, object]], word: str) -> bool:
    return any(word in str(event.get("args", "")) for event in events)


@promise(13, "capture_trace", "trace_name=None, record_shapes=False, profile_memory=False are the defaults")
def _(reader: Reader) -> None:
    code = "import inspect; from chisel import capture_trace; print(inspect.signature(capture_trace))"
    shown = reader.python(code)
    for name, default in (("trace_name", "None"), ("record_shapes", "False"), ("profile_memory", "False")):
        assert name in shown
        assert f" = {default}" in shown.partition(name)[2].partition(",")[0]


@promise(22, "capture_trace", "trace_name defaults to the function's name")
def _(reader: Reader) -> None:
    assert not _has(_events(reader, "", "my_function.json"), "Input Dims")


@promise(23, "capture_trace", "record_shapes records tensor shapes; the example's trace_name is the file's")
def _(reader: Reader) -> None:
    assert _has(
        _events(reader, "trace_name='matrix_ops', record_shapes=True", "matrix_ops.json"), "Input Dims"
    )


@promise(24, "capture_trace", "profile_memory profiles memory usage")
def _(reader: Reader) -> None:
    events = _events(reader, "profile_memory=True", "my_function.json")
    assert any(event.get("name") == "[memory]" for event in events)


@promise(35, "capture_trace", "python script.py: the decorator is pass-through")
def _(reader: Reader) -> None:
    reader.write("script.py", TRACED.format(arguments="trace_name='ops'"))
    assert reader.python("import runpy; runpy.run_path('script.py')") == "Result: 64.0\n"
    assert sorted(path.name for path in reader.project.iterdir()) == ["script.py", "train.py"]


@promise(39, "capture_trace", "traces are saved as {trace_name}.json in Chrome trace format")
def _(reader: Reader) -> None:
    events = _events(reader, "trace_name='ops'", "ops.json")
    assert {"name", "ph", "ts"} <= set(next(event for event in events if event.get("ph") == "X"))


@promise(201, "Advanced Usage", "several functions, each with a trace of its own")
def _(reader: Reader) -> None:
    body = "\n".join(
        f"@capture_trace(trace_name={name!r})\ndef {name}(data):\n    return data\n{name}(1)"
        for name in ("preprocess", "train", "evaluate")
    )
    reader.write("script.py", f"from chisel import capture_trace\n{body}\n")
    reader.chisel("python", "script.py")
    listed = reader.chisel("trace", "ls", "@last").stdout.decode()
    for name in ("preprocess", "train", "evaluate"):
        assert f"{name}.json" in listed


@promise(222, "Advanced Usage", "a script finds out where it runs")
def _(reader: Reader) -> None:
    code = (
        "import os\nprint('🚀 Running on cloud GPU!' if os.environ.get('CHISEL_BACKEND_RUN') == '1'"
        " else '💻 Running locally')\n"
    )
    assert reader.python(code) == "💻 Running locally\n"
    assert reader.chisel("python", "-c", code).stdout.decode() == "🚀 Running on cloud GPU!\n"


def _pattern(example: str, says: str, traces: tuple[str, ...]) -> Check:
    """A pattern of the reference, which lies in docs/examples: it runs here, runs there, and is traced."""

    def check(reader: Reader) -> None:
        reader.write("script.py", (ROOT / "docs" / "examples" / example).read_text(encoding="utf-8"))
        assert says in reader.python("import runpy; runpy.run_path('script.py', run_name='__main__')")
        assert says in reader.chisel("python", "script.py").stdout.decode()
        listed = reader.chisel("trace", "ls", "@last").stdout.decode()
        for trace in traces:
            assert trace in listed

    return check


rows(180, "Best Practices", {"a traced function that catches and raises": _pattern(
    "safe_ops.py", "Result: [1.0, 2.0, 3.0]", ("safe_ops.json", "safe_ops.2.json"),
)})  # fmt: skip
rows(230, "Advanced Usage", {"the same file here and there": _pattern(
    "local_development.py", "Result: tensor", ("my_function.json",),
)})  # fmt: skip
rows(270, "Type Hints", {"a traced function keeps its hints": _pattern(
    "type_hints.py", "Doubled: [0, 2, 4, 6]", ("typed_ops.json",),
)})  # fmt: skip


@promise(253, "Advanced Usage", "a script parses its own command line with argparse")
def _(reader: Reader) -> None:
    reader.write(
        "script.py",
        "import argparse\nparser = argparse.ArgumentParser()\n"
        "parser.add_argument('--epochs', type=int, default=10)\n"
        "parser.add_argument('--lr', type=float, default=0.001)\nprint(parser.parse_args())\n",
    )
    shown = reader.chisel("python", "script.py", "--epochs", "3", "--gpu", "2").stdout
    assert shown == b"Namespace(epochs=3, lr=0.001)\n"


@promise(289, "CLI Workflow", "parse, authenticate, package, submit, stream, save traces, in this order")
def _(reader: Reader) -> None:
    reader.write("script.py", TRACED.format(arguments="trace_name='ops'"))
    said = reader.chisel("python", "script.py", "-a", "workflow", "--epochs", "3").stderr.decode()
    steps = [
        "chisel took -a workflow",
        f"job {reader.job()['id']} · workflow",
        "running on",
        "exit 0",
        "1 trace:",
    ]
    assert [said.index(step) for step in steps] == sorted(said.index(step) for step in steps), said
    # Nobody is packed up for or submitted without a key, and a mistake in the line is found before both.
    said = reader.chisel("python", "script.py", env={"CHISEL_API_KEY": "wrong"}, status=125).stderr.decode()
    assert "· script ·" not in said
    assert reader.job()["app_name"] == "workflow"
