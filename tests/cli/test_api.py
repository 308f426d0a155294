"""Uploads, downloads and short questions over HTTP."""

import hashlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from chisel.api import Api, error_of
from chisel.client import Client
from chisel_shared.contract.errors import (
    BadRequest,
    InternalError,
    NotFound,
    StorageFull,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from chisel_shared.contract.ids import Digest, JobId
from chisel_shared.contract.job import JobState, JobView
from chisel_shared.contract.messages import TraceView
from tests.cli.gateway import JOB_ID, KEY, Gateway


@pytest.fixture
def client(gateway: Gateway) -> Iterator[Client]:
    with Client(url=gateway.url, api_key=KEY) as made:
        yield made


def job() -> JobView:
    return JobView(
        id=JOB_ID,
        app_name="x",
        state=JobState.RUNNING,
        version=1,
        gpu="A100-80GB:1",
        argv=("python", "x.py"),
        attempt=1,
        submitted_at=0.0,
    )


def upload(gateway: Gateway, content: bytes) -> list[int]:
    digest = hashlib.sha256(content).hexdigest()
    pieces = [content[at : at + 100_000] for at in range(0, len(content), 100_000)]
    with Api(url=gateway.url, key=KEY) as api:
        return list(api.upload(f"/api/v1/packs/{digest}", len(content), pieces))


def test_an_upload_says_how_far_it_is(gateway: Gateway) -> None:
    assert upload(gateway, b"x" * 250_000) == [100_000, 200_000, 250_000]
    assert list(gateway.packs.values()) == [b"x" * 250_000]


def test_an_upload_cut_half_way_is_repeated(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chisel.api.time.sleep", lambda seconds: None)
    gateway.script.cut_uploads = 2
    content = b"x" * 5_000_000
    assert upload(gateway, content)[-1] == len(content)
    assert list(gateway.packs.values()) == [content]


def test_an_upload_that_always_breaks_is_said(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chisel.api.time.sleep", lambda seconds: None)
    gateway.script.cut_uploads = 1000
    with pytest.raises(Unavailable, match=r"the upload to http://.* broke 5 times \(.*\): try again later"):
        upload(gateway, b"x" * 20_000_000)


def test_a_refusal_before_the_upload_is_complete_is_heard(gateway: Gateway) -> None:
    gateway.script.reject_upload = 507
    with pytest.raises(StorageFull, match="no space left"):
        upload(gateway, b"x" * 20_000_000)


def test_questions(gateway: Gateway, client: Client) -> None:
    assert client.views() == ()
    with pytest.raises(NotFound, match="there is no job @last"):
        client.view("@last")
    gateway.view = job()
    assert client.views(unfinished=True, limit=1) == (job(),)
    assert client.view("0123") == client.view("@last") == job()
    assert client.cancel("@last").cancel_requested
    with pytest.raises(NotFound, match="there is no job zzz"):
        client.view("ZZZ")


@pytest.mark.parametrize("name", ["a/b", "..", "a b", "ä", "", "@first", "a?b"])
def test_an_id_that_is_none_never_becomes_part_of_a_path(client: Client, name: str) -> None:
    with pytest.raises(BadRequest, match="is not a job's id"):
        client.view(name)


def test_a_question_is_repeated_while_a_part_restarts(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n", b"",
               b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]  # fmt: skip
    monkeypatch.setattr("chisel.api.time.sleep", lambda seconds: None)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for answer in answers:
                taken, _ = server.accept()
                with taken:
                    taken.recv(1 << 16)
                    taken.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with Api(url=f"http://127.0.0.1:{server.getsockname()[1]}", key=KEY) as api:
            assert api.get_bytes("/") == b"ok"
        thread.join()


def test_a_wrong_key(gateway: Gateway) -> None:
    with pytest.raises(Unauthenticated), Client(url=gateway.url, api_key="wrong") as client:
        client.views()


def test_a_stranger_at_the_address(gateway: Gateway) -> None:
    with (
        Client(url=f"{gateway.url}/elsewhere", api_key=KEY) as client,
        pytest.raises(NotFound, match="HTTP 404"),
    ):
        client.views()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, b'{"error": {"code": "not_found", "message": "no"}}', NotFound),
        (500, b'{"error": {"code": "storage_full", "message": "no"}}', StorageFull),
        (401, b"", Unauthenticated),
        (413, b"<html>", TooLarge),
        (502, b"[]", Unavailable),
        (503, b'{"error": 1}', Unavailable),
        (418, b"\xff", InternalError),
    ],
)
def test_answers_that_are_errors(status: int, body: bytes, kind: type[Exception]) -> None:
    assert type(error_of(status, body)) is kind


class TestTraces:
    @pytest.fixture(autouse=True)
    def saved(self, gateway: Gateway) -> None:
        gateway.view = job()
        gateway.script.traces = {"ops.json": b'{"traceEvents": []}' * 100_000, "train.json": b"{}"}

    def test_they_are_listed_and_downloaded_whole(
        self, gateway: Gateway, client: Client, tmp_path: Path
    ) -> None:
        traces = client.traces(JOB_ID)
        assert [trace.name for trace in traces] == ["ops.json", "train.json"]
        path = client.download_trace(traces[0], str(tmp_path / "new"))
        assert Path(path).read_bytes() == gateway.script.traces["ops.json"]
        assert [found.name for found in (tmp_path / "new").iterdir()] == ["ops.json"]

    def test_a_damaged_download_leaves_nothing(
        self, gateway: Gateway, client: Client, tmp_path: Path
    ) -> None:
        gateway.script.damage_traces = True
        (tmp_path / "ops.json").write_text("older")
        with pytest.raises(InternalError, match="arrived damaged"):
            client.download_trace(client.traces(JOB_ID)[0], str(tmp_path))
        assert (tmp_path / "ops.json").read_text() == "older"
        assert [found.name for found in tmp_path.iterdir()] == ["ops.json"]

    @pytest.mark.parametrize("name", ["../x.json", "/etc/x", ".hidden", "a/b", ""])
    def test_a_backend_cannot_choose_where_it_is_saved(
        self, client: Client, tmp_path: Path, name: str
    ) -> None:
        trace = TraceView(JobId(JOB_ID), 1, name, 1, Digest("0" * 64))
        with pytest.raises(InternalError, match="is no file name"):
            client.download_trace(trace, str(tmp_path))
