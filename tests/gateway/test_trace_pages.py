"""The page of a trace and the Perfetto UI behind it, as a browser gets them."""

import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path

import aiohttp
import msgspec
import pytest

from chisel_gateway.service import Gateway
from chisel_gateway.web import trace_view
from chisel_shared import perfetto
from chisel_shared.contract.ids import AgentId
from chisel_shared.runtime.bus import NatsBus
from chisel_shared.runtime.streams import Streams
from tests.cli.reports import SUMMARY
from tests.gateway.backend import READER, STRANGER, USER, Backend
from tests.gateway.conftest import Http, running_gateway
from tests.gateway.test_api import JOB, view
from tests.gateway.test_traces import store
from tests.support.storage import RunningStorage
from tests.support.waiting import until
from tests.traces.build import Trace

PAGE = f"/jobs/{JOB}/traces/step.json"


def small() -> bytes:
    trace = Trace()
    trace.span("chisel::step", 0.0, 1000.0)
    trace.op("aten::mm", 10.0, 50.0)
    trace.kernel(100.0, 200.0, launch=20.0, name="gemm<script>")
    trace.kernel(700.0, 200.0, launch=600.0, name="gemm<script>")
    return trace.data()


@pytest.fixture(autouse=True)
async def attempt(backend: Backend) -> None:
    backend.put(view(attempt=1))
    backend.add(JOB, 1, AgentId("agent-1"))


@pytest.fixture
async def browser(gateway: Gateway) -> AsyncIterator[aiohttp.ClientSession]:
    """Somebody who has signed in."""
    cookies = {"chisel-session": USER}
    async with aiohttp.ClientSession(base_url=gateway.url, cookies=cookies) as session:
        yield session


async def shown(browser: aiohttp.ClientSession, path: str = PAGE) -> tuple[int, str, "dict[str, str]"]:
    async with browser.get(path, allow_redirects=False) as answer:
        return answer.status, await answer.text(), dict(answer.headers)


async def read(http: Http, name: str = "step.json") -> None:
    """Store a trace, and wait until storage has read it."""
    await store(http, small(), name=name)

    async def done() -> bool:
        async with http().get(f"/api/v1/jobs/{JOB}/traces/{name}/summary") as answer:
            return answer.status == 200

    await until(done)


def rules(headers: dict[str, str]) -> dict[str, str]:
    parts = [part.strip() for part in headers["Content-Security-Policy"].split(";")]
    return {name: value for name, _, value in (part.partition(" ") for part in parts)}


async def test_a_trace_has_a_page_without_scripts(http: Http, browser: aiohttp.ClientSession) -> None:
    await read(http)
    await read(http, "step.2.json")
    status, text, headers = await shown(browser)
    assert status == 200
    words = " ".join(unescape(re.sub(r"<style>.*?</style>|<[^>]+>", " ", text, flags=re.DOTALL)).split())
    assert "GPU busy 400 µs of 800 µs (50.0 %)" in words
    assert "Other traces of this job step.2" in words
    assert "<script" not in text
    assert "gemm<script>" not in text
    assert '<iframe src="step.json/timeline" loading="lazy"' in text
    policy = rules(headers)
    assert policy["default-src"] == "'none'"
    assert policy["frame-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert "script-src" not in policy
    assert "style=" not in text


async def test_its_timeline_hands_the_file_to_the_copy_here(
    http: Http, browser: aiohttp.ClientSession
) -> None:
    await read(http)
    status, text, headers = await shown(browser, f"{PAGE}/timeline")
    assert status == 200
    assert 'data-ui="../../../../perfetto/index.html#!/viewer?mode=embedded"' in text
    assert 'data-trace="file"' in text
    policy = rules(headers)
    assert policy["connect-src"] == policy["frame-src"] == policy["frame-ancestors"] == "'self'"
    assert "https:" not in headers["Content-Security-Policy"]
    assert "Cross-Origin-Opener-Policy" not in headers
    async with browser.get(f"{PAGE}/file") as answer:
        assert (answer.status, await answer.read()) == (200, small())


async def test_who_is_not_signed_in_is_sent_there_and_comes_back(gateway: Gateway, http: Http) -> None:
    await read(http)
    for cookies in ({}, {"chisel-session": "nobody"}, {"chisel-session": "x" * 600}):
        async with aiohttp.ClientSession(base_url=gateway.url, cookies=cookies) as stranger:
            for path in (PAGE, f"{PAGE}/timeline", f"{PAGE}/file"):
                status, text, headers = await shown(stranger, path)
                assert (status, text) == (303, "")
                up = "../" * (path.count("/") - 1)
                assert headers["Location"] == f"{up}login?next={path.lstrip('/')}"


@pytest.mark.parametrize(("key", "status"), [(STRANGER, 404), (READER, 403)])
async def test_another_project_sees_nothing(gateway: Gateway, http: Http, key: str, status: int) -> None:
    await read(http)
    async with aiohttp.ClientSession(base_url=gateway.url, cookies={"chisel-session": key}) as other:
        for path in (PAGE, f"{PAGE}/file"):
            found, text, _ = await shown(other, path)
            assert found == status
            assert "gemm" not in text


async def test_what_cannot_be_shown_says_why(http: Http, browser: aiohttp.ClientSession) -> None:
    status, text, _ = await shown(browser)
    assert status == 404
    assert "no trace" in text
    await store(http, b"no trace at all", name="step.json")

    async def told() -> bool:
        return "has no summary" in (await shown(browser))[1]

    await until(told)


@pytest.mark.parametrize(
    ("path", "kind"), [("", "text/html"), ("index.html", "text/html"), ("nothing.js", "application/json")]
)
async def test_the_ui_is_served_to_anybody(gateway: Gateway, path: str, kind: str) -> None:
    async with aiohttp.ClientSession(base_url=gateway.url) as anybody:
        status, _, headers = await shown(anybody, f"/perfetto/{path}")
    assert status == (404 if kind == "application/json" else 200)
    assert headers["Content-Type"].startswith(kind)
    if status == 200:
        policy = rules(headers)
        assert policy["default-src"] == "'none'"
        assert policy["connect-src"] == "'self' data: blob:"
        assert headers["Cache-Control"] == "no-cache"


async def test_webassembly_has_its_type_and_is_kept(gateway: Gateway) -> None:
    copy = perfetto.find()
    assert copy is not None
    index = copy.asset("index.html")
    assert index is not None
    folder = next(path for path in index.path.parent.iterdir() if path.is_dir())
    path = f"/perfetto/{folder.name}/trace_processor.wasm"
    async with aiohttp.ClientSession(base_url=gateway.url) as anybody, anybody.get(path) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/wasm"
        assert "immutable" in answer.headers["Cache-Control"]
        assert (await answer.content.readexactly(4)) == b"\0asm"


@pytest.mark.parametrize(
    "path", ["..%2f..%2fsettings.py", "%2e%2e/%2e%2e/x.json", "..%5cx.json", "%2fetc%2fpasswd", "a%00.js"]
)
async def test_no_path_leads_out_of_the_copy(gateway: Gateway, path: str) -> None:
    from yarl import URL

    async with aiohttp.ClientSession() as anybody:
        url = URL(f"{gateway.url}/perfetto/{path}", encoded=True)
        async with anybody.get(url) as answer:
            assert answer.status in (401, 404)


async def test_without_a_copy_the_page_says_how_to_see_the_timeline(
    bus: NatsBus, streams: Streams, storage: RunningStorage, backend: Backend, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, http: Http,
) -> None:  # fmt: skip
    await read(http)
    monkeypatch.setattr(perfetto, "find", lambda folder="": None)
    async with running_gateway(bus, streams, storage.url) as bare:
        cookies = {"chisel-session": USER}
        async with aiohttp.ClientSession(base_url=bare.url, cookies=cookies) as browser:
            _, text, _ = await shown(browser)
            assert "<iframe" not in text
            assert f"chisel trace open {JOB}/step" in text
            assert (await shown(browser, f"{PAGE}/timeline"))[0] == 404
            assert (await shown(browser, "/perfetto/index.html"))[0] == 404


def test_everything_of_a_summary_is_on_the_page_and_escaped() -> None:
    text = trace_view.summary(SUMMARY, job="3k9x", name="train_step.json", timeline=True)
    for told in ("H100 80GB HBM3", "The GPU waits for Python", "softmax_warp_forward", "peak 2.71 GB"):
        assert told in text
    assert text.count("<rect") == 2 * 4  # bars and their keys
    assert 'class="chart"' in text
    odd = msgspec.structs.replace(SUMMARY.trace, gpu='<b onload="x">', name="<i>.json")
    text = trace_view.summary(
        msgspec.structs.replace(SUMMARY, trace=odd), job="3k9x", name="<i>.json", timeline=False
    )
    assert "<b" not in text.replace("<bo", "")
    assert "<i>" not in text


def test_the_widths_of_the_bar_add_up() -> None:
    text = trace_view.summary(SUMMARY, job="3k9x", name="x.json", timeline=False)
    bar = re.search(r'<svg class="bar".*?</svg>', text, re.DOTALL)
    assert bar is not None
    widths = [float(width) for width in re.findall(r' width="([\d.]+)"', bar[0])]
    assert sum(widths) == pytest.approx(100, abs=0.01)
