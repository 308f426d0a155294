"""The screen: the one place that prints, with the bar of `bar.py`.

The script's bytes go to stdout and stderr as they are; only a terminal is spared what could harm it
(`escapes.py`). Everything of ours goes to stderr as whole lines, except what a command was asked for,
which is its stdout.
"""

import errno
import os
import select
import sys
from typing import TYPE_CHECKING

from chisel import settings
from chisel.cli.legible import harmless, styled
from chisel_shared.contract.errors import UserError

if TYPE_CHECKING:
    from chisel.cli.bar import Bar
    from chisel.cli.escapes import Filter

_BOLD, _DIM, _RED = 1, 2, 31

BAR_BYTES = {"reading": 64 << 20, "packing": 32 << 20, "uploading": 4 << 20}
"""What is done with so much takes long enough to be worth loading rich for a bar."""


class OutputClosed(Exception):
    """Nobody reads our stdout or stderr any more, as after `| head`."""


class CannotWrite(UserError):
    """What was asked for cannot be written where it was to go."""


class Screen:
    """Knows what the terminal shows last, so that lines of ours never continue one of the script's."""

    def __init__(
        self, *, quiet: bool = False, raw: bool = False, payload: bool = False, together: bool = False
    ) -> None:
        """`quiet`: only errors and questions. `raw`: every escape of the script reaches the terminal.
        `payload`: stdout is for what the command was asked for, so the script's goes to stderr.
        `together`: what the script wrote is what the command was asked for, so all of it goes to stdout."""
        self._quiet = quiet
        self._raw = raw
        self._shared = [os.isatty(descriptor) for descriptor in (1, 2)]
        self._streams = {"stdout": 2 if payload else 1, "stderr": 1 if together else 2}
        self._filters: dict[str, Filter] = {}
        self._half_line = False
        self._drawn = 0
        self._held: list[str] = []
        self._bar: Bar | None = None
        self._bar_of = ""

    @property
    def is_terminal(self) -> bool:
        """Whether our own lines are read by a person right now."""
        return self._shared[1]

    @property
    def is_quiet(self) -> bool:
        return self._quiet

    def say(self, text: str, *, last: bool = False, detail: bool = False) -> None:
        """Lines of ours about what goes on. In a file they wait until the script's line is complete,
        unless they are the last ones; a terminal shows them at once, on a line of their own. `detail`:
        of interest only while somebody waits, so a file does not get it."""
        if self._quiet or (detail and not self.is_terminal):
            return
        self.end_bar()
        if self._half_line and not self.is_terminal and not last:
            self._held.append(text)
            return
        for line in (*self._held, text):
            self._write(f"chisel: {line}\n", _DIM)
        self._held.clear()

    def note(self, text: str) -> None:
        """A line of ours that says itself whose it is."""
        if not self._quiet:
            self._write(f"{text}\n", _DIM)

    def error(self, text: str) -> None:
        """What could not be done, whose fault it was and what to do."""
        self.end_bar()
        self._write(f"chisel: {text}\n", _RED)

    def ask(self, question: str) -> None:
        """Words that an answer follows, on a line of their own. The answer's end is the terminal's."""
        self.end_bar()
        self._write(question, _BOLD)

    def result(self, text: str) -> None:
        """What the command was asked for. Colours stay, other escapes are written out."""
        self.end_bar()
        self._emit(1, f"{styled(text)}\n".encode("utf-8", "replace"))

    def json(self, value: object, *, lines: bool = False) -> None:
        """What a program asked for: indented, or one document a line."""
        import msgspec

        encoded = msgspec.json.encode(value)
        self.result((encoded if lines else msgspec.json.format(encoded, indent=2)).decode())

    @property
    def columns(self) -> int:
        """How wide stdout is; 0 when it is no terminal."""
        return self._size()[0]

    @property
    def colors(self) -> bool:
        """Whether what the command was asked for may be in colours."""
        return self._shared[0] and settings.colors()

    @property
    def letters(self) -> bool:
        """Whether stdout takes more than ASCII."""
        return (getattr(sys.stdout, "encoding", None) or "").lower().startswith("utf")

    def redraw(self, text: str) -> None:
        """What the command was asked for, in place of what this drew before, as far as it fits."""
        lines = text.split("\n")[: max(1, self._size()[1] - 1)]
        back = f"\x1b[{self._drawn}F\x1b[J" if self._drawn else ""
        self._drawn = len(lines)
        self._emit(1, (back + "\n".join(lines) + "\n").encode("utf-8", "replace"))

    def _size(self) -> tuple[int, int]:
        try:
            return os.get_terminal_size(1) if self._shared[0] else (0, 0)
        except OSError:
            return 0, 0

    def output(self, stream: str, data: bytes | bytearray) -> None:
        """Bytes of the script: untouched but for escapes that could harm a terminal. `OutputClosed` when
        nobody is there to read them."""
        self.end_bar()
        descriptor = self._streams[stream]
        if self._shared[descriptor - 1] and not self._raw:
            data = self._filter(stream).feed(data)
        if self._held and descriptor == 2 and b"\n" in data:
            line, _, data = data.partition(b"\n")
            _write_all(descriptor, line + b"\n")
            self._half_line = False
            held, self._held = self._held, []
            for text in held:
                self.say(text)
        if data:
            self._emit(descriptor, data)

    def _emit(self, descriptor: int, data: bytes | bytearray) -> None:
        _write_all(descriptor, data)
        if descriptor == 2 or (self._shared[0] and self._shared[1]):
            self._half_line = not data.endswith(b"\n")

    def _filter(self, stream: str) -> "Filter":
        if stream not in self._filters:
            from chisel.cli.escapes import Filter

            self._filters[stream] = Filter()
        return self._filters[stream]

    def progress(self, what: str, done: int, total: int) -> None:
        """How far something that moves bytes is: a bar where somebody watches and it is worth one."""
        if not self.is_terminal or self._quiet or total < BAR_BYTES[what]:
            return
        if self._bar_of != what:
            self.end_bar()
        if self._bar is None:
            from chisel.cli.bar import Bar

            self._bar, self._bar_of = Bar(f"chisel: {what}"), what
        self._bar.update(done, total)
        if done >= total:
            self.end_bar()

    def end_bar(self) -> None:
        """Take the bar off the terminal, if there is one."""
        if self._bar is not None:
            bar, self._bar = self._bar, None
            bar.end()

    def _write(self, text: str, style: int) -> None:
        before = "\n" if self._half_line else ""
        self._half_line = False
        text = harmless(text)
        if self.is_terminal and settings.colors():
            text = f"\x1b[{style}m{text.rstrip(chr(10))}\x1b[0m" + "\n" * text.endswith("\n")
        try:
            _write_all(2, (before + text).encode(getattr(sys.stderr, "encoding", None) or "utf-8", "replace"))
        except (OutputClosed, CannotWrite):
            return  # nobody reads it; what is said here never decides anything


def _write_all(descriptor: int, data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            # Somebody who shares the descriptor made it non-blocking.
            select.select([], [descriptor], [])
        except OSError as error:
            if error.errno in (errno.EPIPE, errno.EBADF, errno.EIO):
                raise OutputClosed from error
            name = "stdout" if descriptor == 1 else "stderr"
            raise CannotWrite(
                f"{name} cannot be written ({error.strerror}); a job that runs goes on"
            ) from error
