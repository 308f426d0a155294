"""Reading traces in a process of its own: whatever that process does, the service goes on."""

import json
import sys
from pathlib import Path

import msgspec
import pytest

from chisel_shared.contract.ids import Digest, JobId
from chisel_shared.contract.messages import TraceView
from chisel_shared.contract.traces import Reading
from chisel_shared.traces.report import SCHEMA, Summary
from chisel_storage import summarize
from chisel_storage.readings import Limits, Reader
from chisel_storage.trace_store import StoredTrace
from tests.support.storage import PROJECT, RunningStorage
from tests.support.waiting import until

JOB = JobId("job-1")
LIMITS = Limits(memory_bytes=1 << 30, seconds=60.0)


def program(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", f"import os, sys, time\n{code}")


@pytest.mark.parametrize(
    ("code", "seconds", "reason"),
    [
        ("time.sleep(600)", 0.3, "takes more than 0.3 seconds"),
        ("os.fork(); time.sleep(600)", 0.3, "takes more than 0.3 seconds"),
        ("os.fork() or time.sleep(600)", 0.3, "takes more than 0.3 seconds"),
        ("os.kill(os.getpid(), 11)", 60, "its reader ended with signal 11"),
        ("sys.exit('no luck')", 60, "its reader ended with status 1: no luck"),
        ("raise SystemError('a\\nb')", 60, "its reader ended with status 1: b"),
        ("print('{')", 60, "makes no sense"),
        ("print('[' * 10_000_000)", 60, "makes no sense"),
        ("", 60, "makes no sense"),
        ("sys.stderr.write('x' * 10_000_000); print('{}')", 60, "gave no reason"),
        ('print(\'{"unreadable": "not a trace"}\')', 60, "not a trace"),
    ],
)
async def test_what_a_reader_does_is_a_reason(tmp_path: Path, code: str, seconds: float, reason: str) -> None:
    limits = Limits(memory_bytes=1 << 30, seconds=seconds)
    reader = Reader(limits=limits, command=program(code))
    read = await reader.read(tmp_path / "x", "x.json", b"y" * 200_000)
    assert reason in read.reason
    assert read.summary is None


async def test_a_reader_has_nothing_of_the_services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHISEL_STORAGE_TOKEN", "secret")
    code = "print('{\"unreadable\": \"' + ' '.join(sorted(os.environ)) + '\"}')"
    read = await Reader(limits=LIMITS, command=program(code)).read(tmp_path / "x", "x.json", b"")
    assert "OPENBLAS" in read.reason
    assert "CHISEL" not in read.reason


async def test_the_limit_of_memory_is_the_readers_own(tmp_path: Path) -> None:
    """By the real program, with less memory than its libraries need."""
    limits = Limits(memory_bytes=64 << 20, seconds=60.0)
    path = tmp_path / "x.json"
    path.write_text('{"traceEvents": []}')
    read = await Reader(limits=limits).read(path, "x.json", b"")
    assert read.summary is None
    assert read.reason


async def test_names_of_megabytes_are_cut_and_the_rest_is_read(tmp_path: Path) -> None:
    """By the real program."""
    path = tmp_path / "x.json"
    named = [
        {"ph": "X", "cat": cat, "name": cat * 300_000} for cat in ("kernel", "cpu_op", "python_function")
    ]
    events = [one | {"ts": 1000 * at, "dur": 5, "args": {}} for one in named for at in range(3)]
    path.write_text(json.dumps({"traceEvents": events}))
    read = await Reader(limits=Limits(memory_bytes=1 << 30, seconds=60.0)).read(path, "x.json", b"")
    assert (read.reason, read.events) == ("", 9)
    summary = msgspec.json.decode(read.summary or b"", type=Summary)
    assert len(read.summary or b"") < summarize.MOST_BYTES
    assert summary.kernels[0].name.startswith("kernelkernel")
    assert 100 < len(summary.kernels[0].name) < 2000
    assert 0 < len(read.finding) < 2000


# In the service


def stored(name: str, digest: str) -> StoredTrace:
    return StoredTrace(job_id=JOB, attempt=1, name=name, size_bytes=3, sha256=Digest(digest * 64))


def blob(storage: RunningStorage, digest: str) -> Path:
    folder = Path(storage.blobs._root, "traces", JOB, "1")
    folder.mkdir(parents=True, exist_ok=True)
    return folder / (digest * 64)


async def put(storage: RunningStorage, name: str, digest: str) -> None:
    blob(storage, digest).write_bytes(b"abc")
    await storage.traces.put(stored(name, digest), PROJECT)


async def named(storage: RunningStorage, name: str) -> TraceView:
    return next(trace for trace in await storage.trace_store.traces(JOB) if trace.name == name)


async def test_one_bad_trace_does_not_keep_another_from_being_read(storage: RunningStorage) -> None:
    await storage.stop()
    storage.reads_with = program("sys.argv[2] == 'bad.json' and os.kill(os.getpid(), 9)")
    await storage.start()
    await put(storage, "bad.json", "a")
    await put(storage, "good.json", "b")

    async def read() -> bool:
        return (await named(storage, "good.json")).reading is Reading.FAILED

    await until(read)
    assert "signal 9" in (await named(storage, "bad.json")).reason
    assert "makes no sense" in (await named(storage, "good.json")).reason


async def test_what_is_due_when_the_service_ends_is_read_by_the_next(storage: RunningStorage) -> None:
    await storage.stop()
    storage.reads_with = program("open(sys.argv[1] + '.begun', 'x').close(); time.sleep(600)")
    await storage.start()
    await put(storage, "a.json", "a")
    begun = blob(storage, "a").with_suffix(".begun")
    await until(begun.exists)
    await storage.stop()
    storage.reads_with = program('print(\'{"unreadable": "read"}\')')
    await storage.start()

    async def read() -> bool:
        return (await named(storage, "a.json")).reason == "read"

    await until(read)


async def test_a_trace_that_takes_the_service_down_is_not_read_for_ever(storage: RunningStorage) -> None:
    await storage.stop()
    storage.reads_with = program("sys.exit('read after all')")
    await storage.start(reading=False)
    await put(storage, "a.json", "a")
    for _ in range(3):
        assert await storage.trace_store.begin(SCHEMA) is not None  # and then its process was killed
    await storage.stop()
    await storage.start()

    async def given_up() -> bool:
        return "never came to an end" in (await named(storage, "a.json")).reason

    await until(given_up)


# What a summary is cut to


def test_a_summary_is_cut_to_what_may_be_kept() -> None:
    from chisel_shared.traces.report import (
        Frame,
        Gap,
        GpuTime,
        Idle,
        Kernel,
        TraceInfo,
    )

    gpu = GpuTime(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, 0.0)
    info = TraceInfo(
        name="x.json", events=1, truncated=False, repaired=0, wall_us=1.0, call=1, cold=True, rank=None,
        world_size=None, gpu="", torch="", cuda="", driver="", options=(),
    )  # fmt: skip
    kernel = Kernel("k" * 100, "compute", (1,), (1,), "op", 1, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    gap = Gap(0, 0.0, 1.0, "host", Frame("f" * 100, "x.py", 1, 1.0), ("g" * 100,) * 50, "")
    summary = Summary(
        trace=info, gpu=gpu, devices=(), idle=Idle(0.0, 0.0, 0.0, (gap,) * 40, ()), kernels=(kernel,) * 400,
        kernels_count=400, ops=(), ops_count=0, memory=(), steps=(), findings=(),
    )  # fmt: skip
    cut = summarize.cut(summary)
    assert len(msgspec.json.encode(summary)) > 2 * summarize.MOST_BYTES
    assert summarize.MOST_BYTES // 4 < len(msgspec.json.encode(cut)) <= summarize.MOST_BYTES
    assert cut.kernels_count == 400
    assert cut.kernels
    assert summarize.cut(cut) == cut
