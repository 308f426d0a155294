"""`chisel trace open`: the real command, and a browser that is an HTTP client."""

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urljoin
from urllib.request import urlopen

import pytest

from chisel import settings, viewing
from chisel.cli import trace_open
from chisel.viewing import Viewing
from tests.cli.conftest import Command
from tests.cli.gateway import JOB_ID, Gateway
from tests.traces.build import Trace


@contextmanager
def port_taken() -> Iterator[None]:
    """Somebody listens on Perfetto's port: this test, or whoever was there before."""
    with socket.socket() as taken:
        try:
            taken.bind(("127.0.0.1", viewing.PERFETTO_PORT))
            taken.listen()
        except OSError:
            pass  # taken already
        yield


def trace() -> bytes:
    made = Trace()
    made.op("aten::mm", 0.0, 10.0)
    return made.data()


class Opened:
    """The command while it serves; `answer` is what it said to programs."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        text = b""
        while not text.endswith(b"}\n"):
            line = process.stdout.readline()
            assert line, process.communicate()[1].decode()
            text += line
        self.answer: dict[str, Any] = json.loads(text)
        self.url: str = self.answer["url"]

    def get(self, name: str = "") -> bytes:
        with urlopen(urljoin(self.url, name), timeout=10) as answer:
            found: bytes = answer.read()
            return found


@contextmanager
def opened(chisel: Command, *words: str) -> Iterator[Opened]:
    with port_taken(), chisel.start("trace", "open", *words, "--json", "--no-browser") as process:
        try:
            yield Opened(process)
        finally:
            process.terminate()
            process.communicate(timeout=30)


def test_a_taken_port_leads_to_a_page_that_hands_the_trace_over(chisel: Command) -> None:
    (chisel.project / "step.json").write_bytes(trace())
    with opened(chisel, "step.json") as served:
        page = served.get().decode()
        assert 'data-ui="https://ui.perfetto.dev"' in page
        assert "<button" in page
        assert served.get("step.json") == trace()


def test_offline_the_ui_comes_from_here_where_no_backend_is_asked(gateway: Gateway, chisel: Command) -> None:
    (chisel.project / "step.json").write_bytes(trace())
    with opened(chisel, "step.json", "--offline") as served:
        assert 'data-ui="/perfetto/index.html#!/viewer?mode=embedded"' in served.get().decode()
        assert b"Perfetto UI" in served.get("/perfetto/index.html")
        assert gateway.requests == []


def test_offline_a_jobs_trace_is_shown_in_its_backends_copy(gateway: Gateway, chisel: Command) -> None:
    assert chisel("python", "hello.py", "-q").status == 0
    gateway.script.traces = {"step.json": trace(), "step.2.json": trace()}
    gateway.traces.perfetto = {"index.html": b"<html></html>"}
    with opened(chisel, f"{JOB_ID}/step", "--offline") as served:
        page = served.get().decode()
        assert f'data-ui="{gateway.url}/perfetto/index.html#!/viewer?mode=embedded"' in page
        assert served.get("step.json.gz")[:2] == b"\x1f\x8b"
    gateway.traces.perfetto = {}
    with opened(chisel, f"{JOB_ID}/step.2", "--offline") as served:
        assert 'data-ui="/perfetto/index.html' in served.get().decode()


@pytest.fixture
def at_perfetto(monkeypatch: pytest.MonkeyPatch) -> list[Viewing]:
    """What would be served to ui.perfetto.dev is, from any port, and seen by nobody."""
    made: list[Viewing] = []

    def serve(path: str, name: str) -> Viewing:
        made.append(Viewing(path, name))
        made[-1].fetched()
        return made[-1]

    monkeypatch.setattr(viewing, "at_perfetto", serve)
    return made


def test_without_a_browser_here_the_way_from_ones_own_machine_is_said(
    tmp_path: Path, at_perfetto: list[Viewing], monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.7 51234 10.0.0.9 22")
    monkeypatch.setenv("LOGNAME", "ada")
    path = tmp_path / "step.json"
    path.write_bytes(trace())
    assert trace_open.open_trace(str(path), False, False, False, False) == 0
    (served,) = at_perfetto
    told = capfd.readouterr()
    assert told.out == f"{served.url}\n"
    assert told.out.startswith("https://ui.perfetto.dev/#!/?url=http://127.0.0.1:")
    assert f"first: ssh -N -L {served.port}:127.0.0.1:{served.port} ada@10.0.0.9" in told.err


def test_a_browser_is_opened_where_there_is_one(
    tmp_path: Path, at_perfetto: list[Viewing], monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    asked: list[str] = []

    def browse(url: str) -> bool:
        asked.append(url)
        return True

    monkeypatch.setattr(settings, "has_browser", lambda: True)
    monkeypatch.setattr("webbrowser.open", browse)
    path = tmp_path / "step.json"
    path.write_bytes(trace())
    assert trace_open.open_trace(str(path), False, False, False, False) == 0
    assert asked == [at_perfetto[0].url]
    assert capfd.readouterr().out == ""
    assert trace_open.open_trace(str(path), False, True, False, False) == 0
    assert len(asked) == 1
    assert capfd.readouterr().out == f"{at_perfetto[1].url}\n"


def test_a_large_trace_is_opened_with_a_word_about_parts_of_it(
    tmp_path: Path, at_perfetto: list[Viewing], monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(trace_open, "_LARGE_BYTES", 10)
    path = tmp_path / "step.json"
    path.write_bytes(trace())
    assert trace_open.open_trace(str(path), False, True, False, False) == 0
    assert f"chisel trace slice {path} --drop python,flows" in capfd.readouterr().err
