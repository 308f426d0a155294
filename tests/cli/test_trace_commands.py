"""The commands that read traces: the real command, on files of this machine and on traces of a job."""

import gzip
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chisel.cli import main
from chisel_shared.contract.ids import Digest
from chisel_shared.contract.messages import TraceView
from chisel_shared.contract.traces import Reading, TraceState
from chisel_shared.traces.report import Diff, Memory, Ranks, Summary
from chisel_shared.traces.sidecar import Sidecar
from tests.cli.conftest import Command
from tests.cli.gateway import JOB_ID, Gateway
from tests.cli.reports import SUMMARY
from tests.traces.build import Trace


def made(*, kernel: float = 100.0, wall: float = 1000.0, late: float = 0.0, rank: int | None = None) -> Trace:
    """A call in which the GPU works for two kernels and an all-reduce, `late` µs late."""
    trace = Trace(**({} if rank is None else {"distributedInfo": {"rank": rank, "world_size": 2}}))
    trace.span("chisel::step", 0.0, wall)
    trace.op("aten::mm", 10.0, 50.0)
    trace.kernel(100.0, kernel, launch=20.0, name="gemm")
    trace.kernel(300.0, kernel, launch=30.0, name="gemm")
    group: Any = {"Process Group Name": "0", "Process Group Ranks": "[0, 1]", "In msg nelems": 1024}
    trace.kernel(500.0 + late, 300.0 - late, launch=40.0, name="ncclDevKernel_AllReduce_Sum_f32", **group)
    trace.allocate(50.0, 4096, 4096, address=1, reserved=8192)
    trace.allocate(400.0, -4096, 0, address=1, reserved=8192)
    return trace


def save(chisel: Command, name: str, trace: Trace) -> str:
    data = trace.gz() if name.endswith(".gz") else trace.data()
    (chisel.project / name).write_bytes(data)
    return name


@pytest.mark.parametrize("name", ["step.json", "step.json.gz"])
def test_a_file_is_summed_up_without_any_backend(offline: Command, name: str) -> None:
    done = offline("trace", "summary", save(offline, name, made()))
    assert (done.status, done.stderr) == (0, "")
    lines = done.stdout.decode().splitlines()
    assert lines[0].startswith("step")
    assert "busy 500 µs of 700 µs" in lines[1]
    assert any(line.startswith("gemm") for line in lines)
    assert any("exposed comm 300 µs" in line for line in lines)
    found = msgspec.json.decode(offline("trace", "summary", name, "--json").stdout, type=Summary)
    assert (found.gpu.busy_us, found.trace.name) == (500.0, name)
    short = offline("trace", "summary", name, "-q")
    assert (short.status, len(short.stdout.splitlines())) == (0, 1)


def test_what_was_noted_beside_a_file_is_used(offline: Command) -> None:
    name = save(offline, "step.2.json", made())
    noted = msgspec.json.encode(Sidecar(trace="step", call=2, rank=0, torch="2.13.0", error="ValueError"))
    (offline.project / "step.2.meta.json").write_bytes(noted)
    shown = offline("trace", "summary", name).stdout.decode()
    assert shown.startswith("step · call 2 · rank 0 · torch 2.13.0")
    assert "!    the call raised ValueError" in shown
    (offline.project / "step.2.meta.json").write_bytes(b"{broken")
    assert offline("trace", "summary", name).status == 0


def test_a_cut_file_is_read_as_far_as_it_goes(offline: Command) -> None:
    data = made().data()
    (offline.project / "cut.json").write_bytes(data[: len(data) * 2 // 3])
    (offline.project / "cut.json.gz").write_bytes(gzip.compress(data[: len(data) * 2 // 3]))
    for name in ("cut.json", "cut.json.gz"):
        done = offline("trace", "summary", name)
        assert done.status == 4
        assert done.stdout.decode().startswith("cut")
        assert f"{name} is cut off: what was read are the whole events before the cut" in done.stderr


@pytest.mark.parametrize("command", [["summary"], ["memory"], ["diff", "broken.json"], ["ranks"]])
def test_what_is_no_trace_is_refused(offline: Command, command: list[str]) -> None:
    (offline.project / "broken.json").write_bytes(b"\x89PNG, not a trace")
    done = offline("trace", *command, "broken.json")
    assert (done.status, done.stdout) == (4, b"")
    assert "chisel: broken.json cannot be read: " in done.stderr


def test_a_file_is_a_list_of_one(offline: Command) -> None:
    done = offline("trace", "ls", save(offline, "step.2.json", made()))
    assert (done.status, done.stderr) == (0, "")
    row = done.stdout.decode().splitlines()[1].split()
    assert (row[:2], row[-5:]) == (["step.2.json", "2"], ["50.0", "%", "1.00", "ms", "ready"])
    (offline.project / "cut.json").write_bytes(made().data()[:-40])
    cut = offline("trace", "ls", "cut.json", "--json")
    assert (cut.status, json.loads(cut.stdout)[0]["state"]) == (4, "partial")


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["summary", "nothing.json"], 3),
        (["memory", "./nothing"], 3),
        (["open", "nothing.json"], 3),
        (["diff", "step.json", "nothing.json"], 3),
        (["ranks", "nothing.json"], 3),
        (["diff", "step.json", "step.json", "--fail-over", "much"], 2),
        (["ls", "nothing.json"], 3),
        (["download", "step.json"], 2),
        (["summary", "step.json", "--top", "x"], 2),
        (["summary", "step.json", "--top", "-3"], 2),
        (["ranks", "step.json"], 2),
    ],
)
def test_statuses_tell_what_went_wrong(offline: Command, words: list[str], status: int) -> None:
    save(offline, "step.json", made())
    done = offline("trace", *words)
    assert (done.status, done.stdout) == (status, b"")
    assert done.stderr


def test_a_regression_ends_with_1_and_only_over_the_limit(offline: Command) -> None:
    before = save(offline, "before.json", made(wall=1000.0))
    after = save(offline, "after.json.gz", made(wall=1200.0, kernel=150.0))
    done = offline("trace", "diff", before, after)
    assert done.status == 0
    assert done.stdout.decode().splitlines()[0].startswith("after  1.00 → 1.20 ms (+20.0 %)  slower")
    failed = offline("trace", "diff", before, after, "--fail-over", "5%", "-q")
    assert (failed.status, len(failed.stdout.splitlines())) == (1, 1)
    assert "slower by more than 5%" in failed.stderr
    assert offline("trace", "diff", before, after, "--fail-over", "25").status == 0
    assert offline("trace", "diff", after, before, "--fail-over", "5%").status == 0
    (found,) = msgspec.json.decode(offline("trace", "diff", before, after, "--json").stdout, type=list[Diff])
    assert sum(change.delta_us for change in found.changes) == pytest.approx(200.0)


def test_files_of_ranks_are_put_side_by_side(offline: Command) -> None:
    names = [save(offline, f"step.rank{rank}.json", made(rank=rank, late=250.0 * rank)) for rank in (1, 0)]
    done = offline("trace", "ranks", *names)
    assert done.status == 0
    assert done.stdout.decode().startswith("Rank 1 makes the others wait")
    found = msgspec.json.decode(offline("trace", "ranks", *names, "--json").stdout, type=Ranks)
    assert (found.straggler, [rank.wait_us for rank in found.ranks]) == (1, [250.0, 0.0])
    twice = offline("trace", "ranks", names[0], names[0])
    assert twice.status == 2
    assert "two of these traces are of the same rank" in twice.stderr


def test_memory_is_drawn(offline: Command) -> None:
    name = save(offline, "step.json", made())
    shown = offline("trace", "memory", name).stdout.decode()
    assert "peak 4.10 kB allocated · 8.19 kB reserved" in shown
    assert "█" in shown
    (found,) = msgspec.json.decode(offline("trace", "memory", name, "--json").stdout, type=tuple[Memory, ...])
    assert found.peak_allocated_bytes == 4096
    offline.env["LC_ALL"] = "C"
    offline.env["PYTHONUTF8"] = "0"
    offline.env["PYTHONCOERCECLOCALE"] = "0"
    assert offline("trace", "memory", name).stdout.isascii()


def test_without_numpy_one_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from chisel.cli import trace_desk

    monkeypatch.setattr(trace_desk, "find_spec", lambda name: None)
    path = tmp_path / "step.json"
    path.write_bytes(made().data())
    assert main(["trace", "summary", str(path)]) == 125
    assert "pip install 'chisel-gpu[trace]'" in capfd.readouterr().err


# Traces of a job


@pytest.fixture
def job(gateway: Gateway, chisel: Command) -> Gateway:
    """A job that saved three traces, which the server has read."""
    assert chisel("python", "hello.py", "-q").status == 0
    gateway.script.traces = {
        "step.2.json": made(wall=1010.0).data(),
        "step.json": made().data(),
        "eval.json": made(wall=400.0).data(),
    }
    gateway.traces.changes = {
        "step.json": {"started_at": 10.0, "cold": True, "events": 12, "gpu_busy": 0.5, "wall_us": 1000.0},
        "step.2.json": {"started_at": 11.0, "finding": "GPU idle 30 %"},
        "eval.json": {"started_at": 12.0},
    }
    gateway.traces.summaries = {name: SUMMARY for name in gateway.script.traces}
    return gateway


def test_a_list_says_where_each_trace_is(job: Gateway, chisel: Command) -> None:
    def view(name: str, state: TraceState, **more: object) -> TraceView:
        return msgspec.structs.replace(TraceView(JOB_ID, 1, name, 0, Digest(""), state=state), **more)

    job.traces.views = [
        view("late.json", TraceState.UPLOADING, sent_bytes=62, total_bytes=100),
        view("now.json", TraceState.RECORDING),
        view("gone.json", TraceState.LOST, reason="the job was killed"),
    ]
    done = chisel("trace", "ls", "@last")
    lines = [line.split() for line in done.stdout.decode().splitlines()]
    assert lines[0] == ["TRACE", "CALL", "EVENTS", "SIZE", "GPU", "BUSY", "WALL", "STATE"]
    assert lines[1][:3] == ["step.json", "1", "12"]
    assert lines[1][-6:] == ["50.0", "%", "1.00", "ms", "ready", "(cold)"]
    assert lines[2][:2] == ["step.2.json", "2"]
    text = done.stdout.decode()
    assert "uploading 62 %" in text
    assert "recording" in text
    assert "lost: the job was killed" in text
    only = chisel("trace", "ls", f"{JOB_ID}/step", "--json")
    assert [one["name"] for one in json.loads(only.stdout)] == ["step.json", "step.2.json"]


def test_one_trace_of_a_job_is_shown_and_the_others_named(job: Gateway, chisel: Command) -> None:
    done = chisel("trace", "summary", "@last")
    assert (done.status, done.stderr) == (0, "")
    lines = done.stdout.decode().splitlines()
    assert lines[0].startswith("train_step · call 1 (cold)")
    at = lines.index("OTHER TRACES")
    assert [line.split()[0] for line in lines[at + 1 :]] == ["@last/step", "@last/eval"]
    assert not [one for one in job.requests if "/traces/" in one and not one.endswith("/summary")]


def test_the_summary_is_the_servers_own_and_needs_no_numpy(
    job: Gateway, chisel: Command, tmp_path: Path
) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "numpy.py").write_text("raise ImportError('numpy is not for this test')")
    chisel.env["PYTHONPATH"] = f"{tmp_path / 'without'}:{chisel.env['PYTHONPATH']}"
    done = chisel("trace", "summary", f"{JOB_ID}/step.2", "--json")
    assert msgspec.json.decode(done.stdout, type=Summary) == SUMMARY
    assert chisel("trace", "memory", f"{JOB_ID}/eval").status == 0


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["summary", "zzz"], 3, "there is no job zzz"),
        (["summary", f"{JOB_ID}/nope"], 3, "has no trace nope; it has step, step.2, eval"),
        (["download", "@last", "nope"], 3, "has no trace nope"),
        (["ranks", "@last"], 3, "has no traces of ranks"),
        (["diff", "@last", "step.json"], 2, "name one: @last/eval, @last/step"),
    ],
)
def test_what_a_job_does_not_have_is_told(
    job: Gateway, chisel: Command, words: list[str], status: int, said: str
) -> None:
    save(chisel, "step.json", made())
    done = chisel("trace", *words)
    assert (done.status, done.stdout) == (status, b"")
    assert said in done.stderr


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"state": TraceState.LOST, "reason": "the disk was full"}, "step.json is lost: the disk was full"),
        ({"state": TraceState.UPLOADING}, "step.json is still on its way"),
        ({"state": TraceState.RECORDING}, "step.json is still being recorded"),
    ],
)
def test_a_trace_that_is_not_there_ends_with_4(
    job: Gateway, chisel: Command, changes: dict[str, object], said: str
) -> None:
    job.traces.changes = {"step.json": changes}
    for command in ("summary", "open", "memory"):
        done = chisel("trace", command, f"{JOB_ID}/step.json")
        assert (done.status, done.stdout) == (4, b"")
        assert said in done.stderr


def test_a_summary_that_is_being_made_is_waited_for(job: Gateway, chisel: Command) -> None:
    job.traces.changes = {"step.json": {"reading": Reading.PENDING}}
    job.traces.next = [{"step.json": {"reading": Reading.PENDING}}, {}]
    assert chisel("trace", "summary", f"{JOB_ID}/step").status == 0
    assert job.requests.count(f"GET /api/v1/jobs/{JOB_ID}/traces") >= 3


def test_what_the_server_could_not_read_is_read_here(job: Gateway, chisel: Command) -> None:
    job.traces.changes = {"step.json": {"reading": Reading.FAILED, "reason": "it takes too long"}}
    job.traces.sidecars = {"step.json": Sidecar(trace="step", torch="2.13.0")}
    done = chisel("trace", "summary", f"{JOB_ID}/step.json")
    assert done.status == 0
    assert done.stdout.decode().startswith("step · call 1 (cold) · torch 2.13.0")


def test_jobs_are_compared_and_what_was_fetched_stays(job: Gateway, chisel: Command) -> None:
    done = chisel("trace", "diff", f"{JOB_ID}/step", "@last/step", "--json")
    assert done.status == 0, done.stderr
    (found,) = msgspec.json.decode(done.stdout, type=list[Diff])
    assert len(found.a.traces) == len(found.b.traces) >= 1
    asked = [one for one in job.requests if one.endswith(".json")]
    assert sorted(asked) == [
        f"GET /api/v1/jobs/{JOB_ID}/traces/step.2.json",
        f"GET /api/v1/jobs/{JOB_ID}/traces/step.json",
    ]
    every = chisel("trace", "diff", JOB_ID, JOB_ID, "--json")
    assert len(msgspec.json.decode(every.stdout, type=list[Diff])) == 2
    kept = list((chisel.home / ".chisel" / "cache" / "traces").glob("*/*.json.gz"))
    assert len(kept) == 3


def test_a_place_that_takes_no_file_is_a_sentence_and_no_regression(job: Gateway, chisel: Command) -> None:
    (chisel.project / "taken").write_text("")
    cache = chisel.home / ".chisel" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "traces").write_text("")
    for words in (["diff", JOB_ID, JOB_ID], ["download", JOB_ID, "step", "-o", "taken/here"]):
        done = chisel("trace", *words)
        assert (done.status, done.stderr.count("\n")) == (2, 1), done.stderr
        assert "cannot be used: Not a directory" in done.stderr


def test_a_job_is_downloaded_in_the_form_that_is_asked_for(
    job: Gateway, chisel: Command, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = chisel("trace", "download", f"{JOB_ID}", "step", "-o", str(out), "--gz")
    assert done.stdout.decode().split() == [str(out / "step.json.gz")]
    assert gzip.decompress((out / "step.json.gz").read_bytes()) == job.script.traces["step.json"]
    assert chisel("trace", "download", f"{JOB_ID}/eval.json", "-o", str(out), "-q").stdout == b""
    assert (out / "eval.json").read_bytes() == job.script.traces["eval.json"]
    assert chisel("trace", "download", JOB_ID, "--gz", "--raw").status == 2


# Parts, and other forms


def test_a_trace_is_saved_as_a_flame_graph(job: Gateway, chisel: Command, tmp_path: Path) -> None:
    job.script.traces["step.json"] = made().data()
    out = tmp_path / "graphs"
    done = chisel("trace", "download", JOB_ID, "step", "-o", str(out), "--folded")
    assert done.stdout.decode().split() == [str(out / "step.folded.txt")]
    assert ";chisel::step;aten::mm " in (out / "step.folded.txt").read_text()
    assert chisel("trace", "download", JOB_ID, "step", "-o", str(out), "--speedscope").status == 0
    assert json.loads((out / "step.speedscope.json").read_bytes())["exporter"] == "chisel"


def test_a_download_of_what_is_not_stored_says_so(job: Gateway, chisel: Command) -> None:
    job.traces.changes = {"step.json": {"state": TraceState.RECORDING}}
    done = chisel("trace", "download", JOB_ID, "step")
    assert (done.status, done.stdout) == (4, b"")
    assert "step.json is still being recorded" in done.stderr
    assert len(chisel("trace", "download", JOB_ID).stdout.splitlines()) == 2
