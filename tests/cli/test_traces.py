"""Traces on the user's side: saved whole whatever breaks, and what is said of them at the end of a job."""

import gzip
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chisel.api import Api
from chisel.cli import traces_end
from chisel.cli.traces_end import line
from chisel.client import Client
from chisel_shared.contract.errors import Conflict, InternalError, Unavailable
from chisel_shared.contract.ids import Digest, JobId
from chisel_shared.contract.job import EndReason, JobEnd, JobState, JobView
from chisel_shared.contract.messages import TraceView
from chisel_shared.contract.traces import Reading, TraceState
from tests.cli.conftest import Command
from tests.cli.gateway import JOB_ID, KEY, Gateway
from tests.cli.test_api import job

NOISE = random.Random(5).randbytes(600_000).hex().encode()


@pytest.fixture
def client(gateway: Gateway) -> Iterator[Client]:
    with Client(url=gateway.url, api_key=KEY) as made:
        yield made


@pytest.fixture(params=[False, True], ids=["as it is", "packed"])
def packs(request: pytest.FixtureRequest, gateway: Gateway) -> bool:
    gateway.view = job()
    gateway.script.traces = {"ops.json": NOISE}
    gateway.script.packs_traces = request.param
    return bool(request.param)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("gz", [False, True])
def test_a_trace_is_saved_as_it_is_wanted(
    gateway: Gateway, client: Client, tmp_path: Path, packs: bool, gz: bool
) -> None:
    (trace,) = client.traces(JOB_ID)
    path = Path(client.download_trace(trace, str(tmp_path / "new"), gz=gz))
    assert path.name == ("ops.json.gz" if gz else "ops.json")
    assert (gzip.decompress(path.read_bytes()) if gz else path.read_bytes()) == NOISE
    assert names(tmp_path / "new") == [path.name]


def test_a_download_that_breaks_goes_on(
    gateway: Gateway, client: Client, tmp_path: Path, packs: bool
) -> None:
    gateway.script.cut_downloads = [300_000, 500_000]
    (trace,) = client.traces(JOB_ID)
    assert Path(client.download_trace(trace, str(tmp_path))).read_bytes() == NOISE
    assert gateway.ranges[0] == 0
    assert len(gateway.ranges) == 3
    assert sorted(gateway.ranges) == gateway.ranges
    assert gateway.ranges[1] > 0


def test_a_download_that_was_given_up_goes_on_with_the_next_call(
    gateway: Gateway, client: Client, tmp_path: Path, packs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chisel.trace_files._TRIES", 1)
    gateway.script.cut_downloads = [400_000]
    (trace,) = client.traces(JOB_ID)
    with pytest.raises(Unavailable):
        client.download_trace(trace, str(tmp_path))
    (part,) = names(tmp_path)
    assert part.endswith(".part")
    assert Path(client.download_trace(trace, str(tmp_path))).read_bytes() == NOISE
    assert gateway.ranges[1] > 0
    assert names(tmp_path) == ["ops.json"]


@pytest.mark.parametrize("gz", [False, True])
def test_two_that_save_the_same_trace_at_once_both_have_it(
    gateway: Gateway, client: Client, tmp_path: Path, packs: bool, gz: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (trace,) = client.traces(JOB_ID)
    fetch = Api.download
    saved: list[str] = []

    def overtaken(api: Api, *arguments: Any, **options: Any) -> Iterator[bytes]:
        for piece in fetch(api, *arguments, **options):
            yield piece
            if not saved:
                saved.append("")
                with Client(url=gateway.url, api_key=KEY) as other:
                    saved[0] = other.download_trace(trace, str(tmp_path), gz=gz)

    monkeypatch.setattr(Api, "download", overtaken)
    path = client.download_trace(trace, str(tmp_path), gz=gz)
    assert saved == [path]
    data = Path(path).read_bytes()
    assert (gzip.decompress(data) if gz else data) == NOISE
    assert names(tmp_path) == [Path(path).name]


def test_a_part_that_somebody_garbled_is_fetched_anew(
    gateway: Gateway, client: Client, tmp_path: Path, packs: bool
) -> None:
    (trace,) = client.traces(JOB_ID)
    digest = trace.stored_sha256 or trace.sha256
    (tmp_path / f".ops.json.{digest[:16]}.part").write_bytes(b"x" * 1000)
    assert Path(client.download_trace(trace, str(tmp_path))).read_bytes() == NOISE
    assert gateway.ranges == [1000, 0]
    assert names(tmp_path) == ["ops.json"]


def test_what_is_damaged_never_gets_its_name(
    gateway: Gateway, client: Client, tmp_path: Path, packs: bool
) -> None:
    gateway.script.damage_traces = True
    with pytest.raises(InternalError, match="arrived damaged"):
        client.download_trace(client.traces(JOB_ID)[0], str(tmp_path))
    assert names(tmp_path) == []


def test_a_gzip_file_that_holds_something_else_never_gets_its_name(
    gateway: Gateway, client: Client, tmp_path: Path
) -> None:
    import msgspec

    gateway.view = job()
    gateway.script.traces, gateway.script.packs_traces = {"ops.json": NOISE}, True
    (trace,) = client.traces(JOB_ID)
    for change in ({"sha256": Digest("0" * 64)}, {"size_bytes": 5}, {"size_bytes": len(NOISE) + 1}):
        other = msgspec.structs.replace(trace, **change)
        if "size_bytes" in change and change["size_bytes"] == len(NOISE) + 1:
            assert client.download_trace(other, str(tmp_path))  # the digest says that it is whole
            continue
        with pytest.raises(InternalError, match="arrived damaged"):
            client.download_trace(other, str(tmp_path))
        assert names(tmp_path) == []


@pytest.mark.parametrize("state", [TraceState.RECORDING, TraceState.UPLOADING, TraceState.LOST])
def test_what_is_not_stored_cannot_be_saved(client: Client, tmp_path: Path, state: TraceState) -> None:
    trace = view("a.json", state, reason="killed")
    with pytest.raises(Conflict, match=f"it is {state}: killed"):
        client.download_trace(trace, str(tmp_path))


# The line at the end of a job


def view(name: str, state: TraceState = TraceState.READY, **more: Any) -> TraceView:
    return TraceView(JobId(JOB_ID), 1, name, 1, Digest("0" * 64), state=state, **more)


def ended(end: JobEnd) -> JobView:
    return JobView(
        id=JobId("abc"), app_name="x", state=JobState.SUCCEEDED, version=1, gpu="", argv=(), attempt=1,
        submitted_at=0.0, end=end,
    )  # fmt: skip


READ: dict[str, Any] = {"reading": Reading.DONE, "finding": "GPU idle 47 %: waiting for zoom at image.py:301"}
RECORDED = "the job was cancelled while it was recorded"


@pytest.mark.parametrize(
    ("traces", "said"),
    [
        (
            (view("step.2.json", call=2, **READ), view("step.json", call=1, finding="cold")),
            "2 traces: chisel trace summary abc · step.2: GPU idle 47 %: waiting for zoom at image.py:301",
        ),
        (
            (view("b.rank1.json", rank=1, finding="no"), view("b.rank0.json", rank=0, finding="yes")),
            "2 traces: chisel trace summary abc · b.rank0: yes",
        ),
        ((view("a.json", reading=Reading.FAILED),), "1 trace: chisel trace summary abc"),
        ((view("a.json", TraceState.LOST, reason=RECORDED),), "1 trace lost: a was being recorded"),
        (
            (view("a.json", **READ), view("b.json", TraceState.LOST, reason="it has more than 1 byte")),
            "1 trace: chisel trace summary abc · a: GPU idle 47 %: waiting for zoom at image.py:301"
            " · 1 trace lost: b: it has more than 1 byte",
        ),
        ((view("a.json", TraceState.UPLOADING),), "1 trace on the way: chisel trace ls abc"),
        ((), ""),
        (None, "4 traces: chisel trace ls abc"),
    ],
)  # fmt: skip
def test_what_is_said_of_traces(traces: tuple[TraceView, ...] | None, said: str) -> None:
    assert line(ended(JobEnd(reason=EndReason.EXIT, exit_code=0, traces=4)), traces) == said


def test_what_is_known_of_traces_is_said_although_nobody_lists_them() -> None:
    late = JobEnd(EndReason.EXIT, exit_code=0, traces_late=1)
    assert line(ended(late), None) == "1 trace on the way: chisel trace ls abc"
    some = JobEnd(EndReason.EXIT, exit_code=0, traces=2, traces_late=1, traces_lost=3)
    assert line(ended(some), None) == "2 traces · 1 trace on the way · 3 traces lost: chisel trace ls abc"


def test_the_end_waits_for_the_first_summary(gateway: Gateway, chisel: Command) -> None:
    gateway.script.end = JobEnd(reason=EndReason.EXIT, exit_code=0, traces=1)
    pending = (view("a.json", reading=Reading.PENDING),)
    gateway.script.trace_views = [pending, pending, (view("a.json", **READ),)]
    said = chisel("python", "hello.py").stderr.splitlines()
    assert said[-2].startswith("chisel: exit 0")
    assert said[-1] == f"chisel: 1 trace: chisel trace summary {JOB_ID} · a: {READ['finding']}"


def test_it_does_not_wait_for_ever(
    gateway: Gateway, chisel: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.script.end = JobEnd(reason=EndReason.EXIT, exit_code=3, traces=1)
    gateway.script.trace_views = [(view("a.json", reading=Reading.PENDING),)]
    done = chisel("python", "hello.py")
    assert done.status == 3
    assert done.stderr.splitlines()[-1] == f"chisel: 1 trace: chisel trace summary {JOB_ID}"


@pytest.mark.parametrize("option", ["-q", ""])
def test_who_wants_to_hear_nothing_does_not_wait(gateway: Gateway, chisel: Command, option: str) -> None:
    """Nor does who has no traces."""
    traces = 1 if option else 0
    gateway.script.end = JobEnd(reason=EndReason.EXIT, exit_code=0, traces=traces)
    chisel("python", *([option] if option else []), "hello.py")
    assert not [request for request in gateway.requests if request.endswith("/traces")]


def test_a_lost_trace_is_told(gateway: Gateway, chisel: Command) -> None:
    gateway.script.end = JobEnd(reason=EndReason.SIGNAL, signal=9, traces_lost=1)
    gateway.script.trace_views = [(view("step.json", TraceState.LOST, reason=RECORDED),)]
    assert chisel("python", "hello.py").stderr.splitlines()[-1] == (
        "chisel: 1 trace lost: step was being recorded"
    )


def test_a_backend_that_does_not_answer_costs_no_more_than_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def ask(seconds: float) -> tuple[TraceView, ...]:
        asked.append(seconds)
        raise Unavailable

    end = ended(JobEnd(reason=EndReason.EXIT, exit_code=0, traces=2))
    said = traces_end.line_of(end, ask, lambda: False)
    assert said == "2 traces: chisel trace ls abc"
    assert len(asked) == 1
    assert 0 < asked[0] <= traces_end.WAIT_SECONDS
    assert traces_end.line_of(end, ask, lambda: True) == said
    assert len(asked) == 1
