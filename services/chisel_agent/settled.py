"""What has been dealt with, so that an agent's restart deals with the rest: a line of JSON for each."""

import json
from dataclasses import dataclass
from pathlib import Path

from chisel_agent.records import append_line
from chisel_shared.runtime.logs import Log

log = Log("chisel.agent.settled")

Mark = tuple[int, int]
"""Size and time of change: a file that has another was written again."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A file as it was when it was stored, or refused for a `reason`."""

    mark: Mark
    stored: bool
    reason: str = ""


class Settled:
    """`record` is the file that remembers."""

    def __init__(self, record: Path) -> None:
        self._record = record
        self.outcomes = self._read()

    @property
    def count(self) -> int:
        """How many are stored."""
        return sum(outcome.stored for outcome in self.outcomes.values())

    def knows(self, path: str, mark: Mark) -> bool:
        outcome = self.outcomes.get(path)
        return outcome is not None and outcome.mark == mark

    def note(self, path: str, outcome: Outcome) -> None:
        self.outcomes[path] = outcome
        line = json.dumps([path, *outcome.mark, outcome.stored, outcome.reason]).encode()
        try:
            append_line(self._record, line)
        except OSError as error:
            log.warning("upload_not_noted", error=repr(error))  # at worst it is uploaded twice

    def _read(self) -> dict[str, Outcome]:
        found: dict[str, Outcome] = {}
        try:
            lines = self._record.read_bytes().splitlines()
        except OSError:
            return found
        for line in lines:
            try:
                path, size, changed_at, stored, *reason = json.loads(line)
            except ValueError:
                continue  # cut short by a full disk or a crash: that file is uploaded again
            found[path] = Outcome((size, changed_at), stored, *reason)
        return found
