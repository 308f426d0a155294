"""Failpoints: named places between two side effects, where a test lets a service die, fail or stand still.

`CHISEL_<SERVICE>_FAILPOINT=submit.committed:kill` ends the scheduler with SIGKILL when it gets there. The
actions are `kill`, `error` (the place raises `Unavailable`, as if the next part were away) and
`delay=SECONDS` (the whole process stands still, as one that was stopped); `@N` waits for the Nth time.
Several stand with commas between them, and each strikes once. Nobody sets it outside a test, and one that
is not set costs a look into an empty dictionary.
"""

import os
import re
import signal
import time
from dataclasses import dataclass

from chisel_shared.contract.errors import Unavailable
from chisel_shared.runtime.logs import Log

log = Log("chisel.failpoints")


@dataclass(slots=True)
class Failpoint:
    """One armed place. `left` times it is passed unharmed but for the last."""

    name: str
    action: str
    seconds: float = 0.0
    left: int = 1

    def strike(self) -> None:
        self.left -= 1
        if self.left != 0:
            return
        log.warning("failpoint", place=self.name, action=self.action)
        if self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.action == "error":
            raise Unavailable(f"failpoint {self.name}")
        else:
            time.sleep(self.seconds)


_armed: dict[str, Failpoint] = {}

_FORM = re.compile(
    r"(?P<name>[a-z]+\.[a-z]+):(kill|error|delay=(?P<seconds>[0-9]+(\.[0-9]+)?))(@(?P<number>[1-9][0-9]*))?"
)


def parse(text: str) -> dict[str, Failpoint]:
    """`NAME:ACTION[=SECONDS][@N],…` by name; `ValueError` says what that means."""
    return {found.name: found for found in map(_parse_one, text.split(",") if text else ())}


def _parse_one(text: str) -> Failpoint:
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"a failpoint is NAME:kill, NAME:error or NAME:delay=SECONDS, not {text!r}")
    action = found[2].partition("=")[0]
    seconds, number = float(found["seconds"] or 0), int(found["number"] or 1)
    return Failpoint(found["name"], action, seconds=seconds, left=number)


def arm(text: str) -> None:
    """Let the failpoints of `text` strike, and no others."""
    global _armed
    _armed = parse(text)


def failpoint(name: str) -> None:
    """A place that can be armed."""
    if (armed := _armed.get(name)) is not None:
        armed.strike()
