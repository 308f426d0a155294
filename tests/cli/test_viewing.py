"""The web server for one trace, asked by a real HTTP client as a browser, or somebody else, would."""

import http.client
import socket
import threading
from pathlib import Path

import pytest

from chisel import viewing
from chisel.viewing import PERFETTO, PortTaken, Viewing
from chisel_shared import perfetto

TRACE = b'{"traceEvents": []}' * 1000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "step 1.json.gz"
    path.write_bytes(TRACE)
    return path


def ask(
    served: Viewing, path: str, *, method: str = "GET", host: str | None = None, origin: str | None = None
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{served.port}")
    if origin is not None:
        connection.putheader("Origin", origin)
    connection.endheaders()
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def ended(served: Viewing) -> threading.Thread:
    waiting = threading.Thread(target=served.wait)
    waiting.start()
    return waiting


def test_perfetto_fetches_the_file_and_that_is_all(file: Path) -> None:
    with viewing.at_perfetto(str(file), file.name, port=0) as served:
        assert served.url.startswith(
            f"{PERFETTO}/#!/?url=http://127.0.0.1:{served.port}/{served.token}/step%201"
        )
        waiting = ended(served)
        status, headers, body = ask(served, served.file_path, origin=PERFETTO)
        assert (status, body) == (200, TRACE)
        assert headers["Access-Control-Allow-Origin"] == PERFETTO
        assert headers["Cache-Control"] == "no-cache"
        waiting.join(10)
        assert not waiting.is_alive()


@pytest.mark.parametrize(
    "path", ["/", "/status", "/step%201.json.gz", "/x/step%201.json.gz", "/../etc/passwd"]
)
def test_anything_else_is_not_there(file: Path, path: str) -> None:
    with viewing.at_perfetto(str(file), file.name, port=0) as served:
        status, headers, body = ask(served, path, origin=PERFETTO)
        assert (status, body) == (404, b"")
        assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://ui.perfetto.dev"])
def test_another_site_gets_nothing(file: Path, origin: str) -> None:
    with viewing.at_perfetto(str(file), file.name, port=0) as served:
        assert ask(served, served.file_path, origin=origin)[0] == 404
        assert ask(served, served.file_path, method="OPTIONS", origin=origin)[0] == 404


def test_a_name_made_to_point_here_gets_nothing(file: Path) -> None:
    with viewing.at_perfetto(str(file), file.name, port=0) as served:
        for host in ("evil.example", f"evil.example:{served.port}", "127.0.0.1"):
            assert ask(served, served.file_path, host=host)[0] == 404
        assert ask(served, served.file_path, host=f"localhost:{served.port}")[0] == 200


def test_a_browser_may_ask_first_and_looking_is_not_fetching(file: Path) -> None:
    with viewing.at_perfetto(str(file), file.name, port=0) as served:
        status, headers, _ = ask(served, served.file_path, method="OPTIONS", origin=PERFETTO)
        assert status == 204
        assert headers["Access-Control-Allow-Private-Network"] == "true"
        assert headers["Access-Control-Allow-Origin"] == PERFETTO
        waiting = ended(served)
        status, headers, body = ask(served, served.file_path, method="HEAD", origin=PERFETTO)
        assert (status, headers["Content-Length"], body) == (200, str(len(TRACE)), b"")
        assert waiting.is_alive()
        assert ask(served, served.file_path, method="POST")[0] == 501
        ask(served, served.file_path)
        waiting.join(10)
        assert not waiting.is_alive()


def test_a_taken_port_is_told(file: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(PortTaken):
            viewing.at_perfetto(str(file), file.name, port=other.getsockname()[1])


def test_a_page_of_ours_hands_the_file_over(file: Path) -> None:
    with viewing.own_page(str(file), "a<b>.json") as served:
        page = served.url.removeprefix(f"http://127.0.0.1:{served.port}")
        status, headers, body = ask(served, page)
        assert status == 200
        assert b"a&lt;b&gt;.json" in body
        assert b"a<b>" not in body
        rules = dict(rule.split(" ", 1) for rule in headers["Content-Security-Policy"].split("; "))
        assert rules["default-src"] == "'none'"
        assert rules["connect-src"] == "'self'"
        assert rules["frame-ancestors"] == "'none'"
        status, headers, body = ask(served, served.file_path)
        assert (status, body) == (200, TRACE)
        assert "Access-Control-Allow-Origin" not in headers
        assert ask(served, served.file_path, origin=PERFETTO)[0] == 404
        assert ask(served, "/")[0] == 404
        assert ask(served, "/perfetto/index.html")[0] == 404


def test_the_page_ends_it_by_going_away(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewing, "_AWAY_SECONDS", 0.0)
    with viewing.own_page(str(file), file.name) as served:
        waiting = ended(served)
        page = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
        page.request("GET", f"/{served.token}/here")
        answer = page.getresponse()
        assert answer.read(8) == b": here\n\n"
        ask(served, served.file_path)
        assert waiting.is_alive()
        answer.close()
        page.close()
        waiting.join(10)
        assert not waiting.is_alive()


def test_the_ui_is_served_from_here_where_there_is_a_copy(file: Path, tmp_path: Path) -> None:
    root = tmp_path / "ui"
    root.mkdir()
    (root / "index.html").write_text("<html></html>")
    (root / "x.wasm").write_bytes(b"\0asm")
    (tmp_path / "secret.json").write_text("{}")
    with viewing.own_page(str(file), file.name, copy=perfetto.Copy(root)) as served:
        status, headers, body = ask(served, "/perfetto/x.wasm")
        assert (status, headers["Content-Type"], body) == (200, "application/wasm", b"\0asm")
        assert ask(served, "/perfetto/%2e%2e/secret.json")[0] == 404
        assert ask(served, "/perfetto/../secret.json")[0] == 404
        page = ask(served, f"/{served.token}/")[2].decode()
        assert 'data-ui="/perfetto/index.html#!/viewer?mode=embedded"' in page
        assert "<iframe" in page
