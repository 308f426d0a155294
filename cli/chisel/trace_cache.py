"""Traces of jobs that were read here before, by their sha256, below `~/.chisel/cache/traces`.

Bounded: what was used longest ago goes first. All of it can be thrown away at any time.
"""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress

MAX_BYTES = 2_000_000_000


class TraceCache:
    def __init__(self, folder: str, *, max_bytes: int = MAX_BYTES) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    def get(self, sha256: str, name: str, fetch: Callable[[str], str]) -> str:
        """The path of a file with this content; `fetch` saves it in a folder and says where."""
        folder = os.path.join(self._folder, sha256)
        path = os.path.join(folder, name)
        if not os.path.isfile(path):
            os.makedirs(folder, mode=0o700, exist_ok=True)
            path = fetch(folder)
        with suppress(OSError):
            os.utime(folder)  # what says when it was used last
        return path

    def trim(self, keep: frozenset[str] = frozenset()) -> None:
        """Forget what is over the bound, but for the contents in `keep`."""
        entries = []
        with suppress(OSError):  # there is none, or none that can be read
            for entry in os.scandir(self._folder):
                with suppress(OSError):
                    size = sum(file.stat().st_size for file in os.scandir(entry.path))
                    entries.append((entry.stat().st_mtime, size, entry.name))
        total = sum(size for _, size, _ in entries)
        for _, size, name in sorted(entries):
            if total <= self._max_bytes:
                return
            if name not in keep:
                shutil.rmtree(os.path.join(self._folder, name), ignore_errors=True)
                total -= size
