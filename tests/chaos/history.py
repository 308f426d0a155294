"""What happened in a campaign, in the order in which it did: one JSON object a line, kept on disk."""

import json
import time
from pathlib import Path
from typing import Any

CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boottime() -> float:
    """The clock of everything here: never set, the same for all processes of a machine."""
    return time.clock_gettime(CLOCK)


class History:
    """Appended to as things happen; `entries` is all of it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)
        self.entries: list[dict[str, Any]] = []
        self.began = boottime()

    @property
    def now(self) -> float:
        """Seconds since the campaign began."""
        return boottime() - self.began

    def note(self, what: str, **facts: Any) -> dict[str, Any]:
        entry = {"at": round(self.now, 3), "what": what, **facts}
        self.entries.append(entry)
        self._file.write(json.dumps(entry) + "\n")
        return entry

    def of(self, what: str) -> list[dict[str, Any]]:
        return [entry for entry in self.entries if entry["what"] == what]

    def close(self) -> None:
        self._file.close()
