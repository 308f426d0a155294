"""A decorated function is never worse off than a bare one, whatever the profiler, the disk or torch do."""

import errno
import os
import signal
import sys
import threading
from types import SimpleNamespace

import pytest

from chisel import capture_trace
from tests.sdk import fake_torch
from tests.sdk.conftest import Traces
from tests.sdk.fake_torch import Profile


@pytest.fixture(autouse=True)
def torch(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    made = fake_torch.module()
    monkeypatch.setitem(sys.modules, "torch", made)
    return made


def once(traces: Traces, name: str = "f") -> list[int]:
    """Call a decorated function once; how often it ran."""
    ran: list[int] = []

    @capture_trace(trace_name=name)
    def function(value: int) -> int:
        ran.append(value)
        return value

    assert function(7) == 7
    return ran


def test_one_line_about_a_saved_trace(traces: Traces, capsys: pytest.CaptureFixture[str]) -> None:
    assert once(traces) == [7]
    assert traces.names() == ["f.json"]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("chisel: saved trace f.json (0.0 kB, ")
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize("step", ["init", "start", "metadata", "stop", "export"])
def test_a_profiler_that_fails_costs_one_line(
    traces: Traces, capsys: pytest.CaptureFixture[str], step: str
) -> None:
    Profile.fail_in = step
    assert once(traces) == [7]
    assert traces.names() == []
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert f"the profiler failed in {step} with a second line" in shown
    assert Profile.open == 0
    Profile.fail_in = ""
    assert once(traces, "next") == [7]
    assert traces.names() == ["next.json"]


def test_a_span_that_fails_costs_nothing(traces: Traces) -> None:
    Profile.fail_in = "span"
    assert once(traces) == [7]
    assert traces.names() == ["f.json"]


@pytest.mark.parametrize("content", ["", '{"traceEvents": [', "x" * 500])
def test_an_incomplete_file_is_not_shown(
    traces: Traces, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    Profile.writes = content
    assert once(traces) == [7]
    assert traces.names() == []
    assert "is the disk full?" in capsys.readouterr().err


def test_a_directory_that_cannot_be_made(
    traces: Traces, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHISEL_TRACE_DIR", "/dev/null/traces")
    assert once(traces) == [7]
    assert "f is not traced: " in capsys.readouterr().err


def test_no_torch_at_all(
    traces: Traces, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    ran = []

    @capture_trace
    def function() -> None:
        ran.append(1)

    function()
    function()
    assert ran == [1, 1]
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert shown.startswith("chisel: function is not traced: import of torch halted")


def test_the_scripts_own_profiler_is_left_alone(
    traces: Traces, capsys: pytest.CaptureFixture[str], torch: SimpleNamespace
) -> None:
    torch.autograd._profiler_enabled = lambda: True
    assert once(traces) == [7]
    assert traces.names() == []
    assert "f is not traced: another torch profiler is running" in capsys.readouterr().err


SIGNALS: dict[int, type[BaseException]] = {
    signal.SIGINT: KeyboardInterrupt,
    signal.SIGTERM: SystemExit,
}


@pytest.mark.parametrize(
    ("step", "number"),
    [("init", signal.SIGINT)]
    + [(step, number) for step in ("start", "metadata", "stop", "export") for number in SIGNALS],
)
def test_a_signal_waits_for_the_profiler(
    traces: Traces, monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    plain = Profile._step

    def send(self: Profile, name: str) -> None:
        plain(self, name)
        if name == step:
            signal.raise_signal(number)

    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr(Profile, "_step", send)
    with pytest.raises(SIGNALS[number]):
        once(traces)
    assert traces.names() == ["f.json"]
    assert Profile.open == 0
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers
    monkeypatch.setattr(Profile, "_step", plain)
    assert once(traces) == [7]


def test_stacks_can_be_asked_for_by_the_job(traces: Traces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHISEL_TRACE_STACKS", "1")
    assert once(traces) == [7]
    assert traces.sidecar("f").options.with_stack


def test_the_sidecar_tells_the_scripts_own_name(traces: Traces) -> None:
    assert once(traces, "größe / 2") == [7]
    facts = traces.sidecar("gr_e_2")
    assert (facts.trace, facts.call, facts.ended_by, facts.error) == ("größe / 2", 1, "return", "")
    assert facts.function.endswith("once.<locals>.function")
    assert facts.file.endswith("test_capture_robust.py")


def test_a_call_that_is_skipped_is_counted_in_the_sidecar(traces: Traces) -> None:
    decorated = capture_trace("f", skip=2, max_calls=2)(lambda: 1)
    assert [decorated() for _ in range(6)] == [1] * 6
    assert traces.names() == ["f.2.json", "f.json"]
    assert [traces.sidecar(stem).call for stem in ("f", "f.2")] == [3, 4]


def test_the_first_call_of_a_process_is_the_first_whatever_another_has_left(traces: Traces) -> None:
    traces.path.mkdir()
    for stem in ("f", "f.2"):  # of a process that the same script started before
        (traces.path / f"{stem}.json").write_text("{}")
    decorated = capture_trace("f")(lambda: 1)
    assert [decorated() for _ in range(2)] == [1, 1]
    assert [traces.sidecar(stem).call for stem in ("f.3", "f.4")] == [1, 2]


def test_a_disk_without_room_for_the_marker_tells_of_no_death(
    traces: Traces, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("chisel.trace.naming.os.write", full)
    assert once(traces) == [7]
    monkeypatch.undo()
    assert os.listdir(traces.path) == []
    assert "f is not traced: " in capsys.readouterr().err


def test_only_the_ranks_that_were_asked_for(traces: Traces, monkeypatch: pytest.MonkeyPatch) -> None:
    decorated = capture_trace("f", ranks="0,2")(lambda: 1)
    monkeypatch.setenv("WORLD_SIZE", "3")
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        assert capture_trace("f", ranks="0,2")(lambda: 1)() == 1
    assert traces.names() == ["f.rank0.json", "f.rank2.json"]
    monkeypatch.delenv("RANK")
    assert decorated() == 1
    assert "f.json" in traces.names()


def test_another_thread_runs_untraced_meanwhile(traces: Traces) -> None:
    inside, may_leave = threading.Event(), threading.Event()

    @capture_trace(trace_name="slow")
    def slow() -> str:
        inside.set()
        assert may_leave.wait(10)
        return "slow"

    results: list[str] = []
    thread = threading.Thread(target=lambda: results.append(slow()))
    thread.start()
    assert inside.wait(10)
    assert once(traces, "other") == [7]
    may_leave.set()
    thread.join()
    assert results == ["slow"]
    assert traces.names() == ["slow.json"]
    assert once(traces, "after") == [7]
    assert traces.names() == ["after.json", "slow.json"]


def test_a_closed_stderr_is_no_reason_to_fail(traces: Traces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert once(traces) == [7]
    assert traces.names() == ["f.json"]


def test_what_the_profiler_is_asked_for(traces: Traces, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []
    plain = Profile.__init__

    def note(self: Profile, **options: object) -> None:
        asked.append(options)
        plain(self, **options)

    monkeypatch.setattr(Profile, "__init__", note)
    capture_trace(record_shapes=True, profile_memory=True)(lambda: None)()
    capture_trace(with_stack=True)(lambda: None)()
    assert asked == [
        {"activities": ["cpu"], "record_shapes": True, "profile_memory": True, "with_stack": False},
        {"activities": ["cpu"], "record_shapes": False, "profile_memory": False, "with_stack": True},
    ]
    assert traces.names() == ["lambda.2.json", "lambda.json"]


def test_a_gpu_is_waited_for_before_and_recorded(traces: Traces, torch: SimpleNamespace) -> None:
    calls: list[str] = []
    torch.cuda = SimpleNamespace(
        is_available=lambda: True, is_initialized=lambda: True, synchronize=lambda: calls.append("waited")
    )
    assert once(traces) == [7]
    assert calls == ["waited"]


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"RANK": "3", "WORLD_SIZE": "8"}, "f.rank3.json"),
        ({"RANK": "0", "WORLD_SIZE": "1"}, "f.json"),
        ({"RANK": "0"}, "f.json"),
        ({"RANK": "../x", "WORLD_SIZE": "2"}, "f.json"),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, "f.rank1.json"),
    ],
)
def test_ranks_have_files_of_their_own(
    traces: Traces, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], name: str
) -> None:
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    once(traces)
    assert traces.names() == [name]


def test_a_file_that_is_there_already_is_never_replaced(traces: Traces) -> None:
    traces.path.mkdir()
    (traces.path / "f.json").write_text("another process's")
    (traces.path / ".f.2.open").touch()  # and a third one is at it
    once(traces)
    assert traces.names() == [".f.2.open", "f.3.json", "f.json"]
    assert (traces.path / "f.json").read_text() == "another process's"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("matrix_ops", "matrix_ops.json"),
        ("../../etc/passwd", "etc_passwd.json"),
        ("a b/c\\d\n\0", "a_b_c_d.json"),
        ("größe", "gr_e.json"),
        ("...", "trace.json"),
        ("", "function.json"),
        ("x" * 300, "x" * 100 + ".json"),
        ('say "hi"', "say_hi.json"),
    ],
)
def test_names_are_safe(traces: Traces, name: str, file: str) -> None:
    once(traces, name)
    assert traces.names() == [file]
