"""What the user reads of a capture: single lines on stderr."""

import sys
from contextlib import suppress

_said: set[str] = set()


def say(text: str) -> None:
    """One line on stderr; a job whose stderr is gone must not notice."""
    with suppress(Exception):
        sys.stderr.write(f"chisel: {text}\n")
        sys.stderr.flush()


def say_once(text: str) -> None:
    """The same, the first time in a process."""
    if text not in _said:
        _said.add(text)
        say(text)


def why(error: BaseException) -> str:
    """One line about `error`."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def size(count: int) -> str:
    """Bytes for a reader."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
