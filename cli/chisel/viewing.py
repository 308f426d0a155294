"""A small web server for one trace and one browser, on this machine's loopback address.

`at_perfetto`: ui.perfetto.dev fetches the file, which its content policy allows from port 9001 alone.
`own_page`: a page of ours posts it to the UI, from any port. Both answer only who names the loopback
address (a page elsewhere whose name was made to point here does not), below a path that cannot be guessed,
since other users of this machine can connect too.
"""

import os
import secrets
import shutil
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote, urlsplit

from chisel_shared import perfetto
from chisel_shared.perfetto_page import page

PERFETTO = "https://ui.perfetto.dev"
PERFETTO_PORT = 9001
_HOST = "127.0.0.1"
_AWAY_SECONDS = 5.0
"""A page that was loaded again is back by then."""


class PortTaken(Exception):
    """Another program listens on the port."""


class Viewing:
    """Serving, from its making until `close`."""

    def __init__(
        self, path: str, name: str, *, port: int = 0, ui: str = "", copy: perfetto.Copy | None = None
    ) -> None:
        """Without `ui` the file alone is served, for ui.perfetto.dev to fetch. Else a page that hands it to
        the UI at that address, or to the `copy` served here."""
        self.path = path
        self.name = name
        self.copy = copy
        self.token = secrets.token_urlsafe(18)
        self._ui = ui
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._pages = 0
        self._left_at: float | None = None
        try:
            self._server = _Server((_HOST, port), self)
        except OSError as error:
            raise PortTaken(str(error)) from error
        self.port: int = self._server.server_address[1]
        self.hosts = (f"{_HOST}:{self.port}", f"localhost:{self.port}")
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="viewing", daemon=True
        )
        self._thread.start()

    @property
    def file_path(self) -> str:
        return f"/{self.token}/{quote(self.name)}"

    @property
    def url(self) -> str:
        """What the browser is to open."""
        if self._ui:
            return f"http://{_HOST}:{self.port}/{self.token}/"
        return f"{PERFETTO}/#!/?url=http://{_HOST}:{self.port}{self.file_path}&referrer=chisel"

    def page(self) -> tuple[str, dict[str, str]] | None:
        """The page that hands the trace over, if there is one."""
        if not self._ui:
            return None
        return page(
            ui=self._ui, trace=quote(self.name), name=self.name, here="here", tab=self._ui == PERFETTO
        )

    def fetched(self) -> None:
        """The whole file has gone out."""
        if not self._ui:
            self._done.set()

    def stays(self, *, here: bool) -> None:
        """A page has come, or gone."""
        with self._lock:
            self._pages += 1 if here else -1
            self._left_at = None if self._pages else time.monotonic()

    def wait(self) -> None:
        """Return when the file has been fetched, or its page has been closed."""
        while not self._done.wait(0.2):
            left_at = self._left_at
            if left_at is not None and time.monotonic() - left_at > _AWAY_SECONDS:
                return

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> "Viewing":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def at_perfetto(path: str, name: str, *, port: int = PERFETTO_PORT) -> Viewing:
    """Let ui.perfetto.dev fetch the file. `PortTaken` when port 9001 is."""
    return Viewing(path, name, port=port)


def own_page(path: str, name: str, *, ui: str = PERFETTO, copy: perfetto.Copy | None = None) -> Viewing:
    """A page that hands the file to the UI at `ui`, or to the `copy`, which is served as well."""
    return Viewing(path, name, ui=perfetto.PATH + perfetto.ROUTE if copy else ui, copy=copy)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = os.name == "posix"  # elsewhere it would mean to share the port

    def __init__(self, address: tuple[str, int], viewing: Viewing) -> None:
        self.viewing = viewing
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that went away in the middle is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version = "chisel"
    sys_version = ""
    timeout = 60

    def do_OPTIONS(self) -> None:
        """Browsers ask before a public page may fetch from this machine."""
        viewing = self.server.viewing
        if not self._is_ours() or self._path() != unquote(viewing.file_path) or not self._is_perfetto():
            self._answer(404)
            return
        self._answer(204, {
            **self._cors(),
            "Access-Control-Allow-Methods": "GET",
            "Access-Control-Allow-Private-Network": "true",
            "Access-Control-Allow-Local-Network": "true",
        })  # fmt: skip

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        viewing, path = self.server.viewing, self._path()
        page = viewing.page()
        if not self._is_ours():
            self._answer(404)
        elif path == unquote(viewing.file_path):
            self._file(viewing, shared=page is None)
        elif page is not None and path == f"/{viewing.token}/":
            self._answer(200, page[1], page[0].encode())
        elif page is not None and path == f"/{viewing.token}/here":
            self._here(viewing)
        elif viewing.copy is not None and path.startswith(perfetto.PATH):
            self._asset(viewing.copy, path.removeprefix(perfetto.PATH))
        else:
            self._answer(404)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody wants to read it."""

    def _path(self) -> str:
        return unquote(urlsplit(self.path).path)

    def _is_ours(self) -> bool:
        return self.headers.get("Host", "") in self.server.viewing.hosts

    def _is_perfetto(self) -> bool:
        return self.headers.get("Origin") == PERFETTO

    def _cors(self) -> dict[str, str]:
        return {"Access-Control-Allow-Origin": PERFETTO, "Vary": "Origin"}

    def _file(self, viewing: Viewing, *, shared: bool) -> None:
        """The trace; to other sites only where it is meant for Perfetto's."""
        if self.headers.get("Origin") is not None and not (shared and self._is_perfetto()):
            self._answer(404)
            return
        with open(viewing.path, "rb") as file:
            headers = {"Content-Type": "application/octet-stream", "Cache-Control": "no-cache"}
            self._head(200, headers | (self._cors() if shared else {}), os.fstat(file.fileno()).st_size)
            if self.command == "GET":
                shutil.copyfileobj(file, self.wfile, 1 << 20)
                self.wfile.flush()
                viewing.fetched()

    def _asset(self, copy: perfetto.Copy, name: str) -> None:
        asset = copy.asset(name)
        if asset is None:
            self._answer(404)
            return
        self._answer(200, dict(asset.headers), asset.path.read_bytes())

    def _here(self, viewing: Viewing) -> None:
        """Held open for as long as the page is there."""
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        viewing.stays(here=True)
        try:
            self.wfile.write(b": here\n\n")
            self.connection.settimeout(None)
            with suppress(OSError):
                self.connection.recv(1)
        finally:
            viewing.stays(here=False)

    def _answer(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self._head(status, headers or {}, len(body))
        if self.command == "GET":
            self.wfile.write(body)

    def _head(self, status: int, headers: dict[str, str], size: int) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(size))
        self.end_headers()
