"""What earlier pulls left in a folder, so that newer results may replace it and nothing else.

One small file for each folder, below `~/.chisel`. Without it nothing is lost: files that are there are then
taken for the user's own.
"""

import hashlib
import os

from chisel import settings


class Records:
    """The contents that pulls left in `folder`, by path relative to it."""

    def __init__(self, folder: str) -> None:
        name = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:32]
        self._path = os.path.join(settings.home(), "pulled", f"{name}.json")
        self._noted: dict[str, str] = {}
        self._known = self._read()

    def knows(self, path: str, content: str) -> bool:
        """Whether a pull left exactly `content` at `path`."""
        return self._known.get(path) == content

    def note(self, path: str, content: str) -> None:
        """A pull left `content` at `path`."""
        self._known[path] = self._noted[path] = content

    def save(self) -> None:
        """Write down what was noted, beside what others wrote meanwhile."""
        if not self._noted:
            return
        import json

        aside = f"{self._path}.{os.getpid()}"
        try:
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            content = json.dumps({**self._read(), **self._noted}).encode()
            with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(content)
            os.replace(aside, self._path)
        except OSError:
            return  # a home that cannot be written: the next pull is careful instead

    def _read(self) -> dict[str, str]:
        import json

        try:
            with open(self._path, "rb") as file:
                found = json.load(file)
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}
