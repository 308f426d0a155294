"""Which terminal escapes of a script reach the user's terminal.

A terminal does what it is written: it puts text into the clipboard, renames its window, answers
questions by typing, prints. A job's output comes from elsewhere, so of its escapes those go through
that draw: colours, the cursor, erasing, scrolling, hyperlinks. The rest is left out, and 8-bit
controls become question marks. Everything else passes at once; only what may become an escape, or
half a character, waits for its end.
"""

import re

_LONGEST_SEQUENCE = 256
_LONGEST_LINK = 8 << 10
_LONGEST_STRING = 1 << 20
"""A string that is never ended must not swallow the rest of the output."""

_DRAWS = b"@ABCDEFGHIJKLMPSTXZ`abdefghlmrsu"
_PLAIN = re.compile(
    rb"(?:[\x00-\x04\x06-\x1a\x1c-\x7f]++|\x1b\[[0-;]{0,64}+[" + _DRAWS + rb"]"
    rb"|\xc2[\xa0-\xbf]|[\xc3-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3})++"
)
_HALF_CHARACTER = re.compile(rb"[\xc2-\xdf]|[\xe0-\xef][\x80-\xbf]?|[\xf0-\xf4][\x80-\xbf]{0,2}")
_CONTROL_SEQUENCE = re.compile(rb"\x1b\[([<-?]?)([0-;]*)([ -/]*)([@-~])")
_ESCAPE = re.compile(rb"\x1b[ -/]*[0-~]")
_HALF_ESCAPE = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*|[ -/]*)")
_STRING = re.compile(rb"\x1b[\]PX^_k]")
_STRING_ENDS = {
    # The window title of screen and an OSC are one line; a string of another kind may be a picture.
    ord("]"): re.compile(rb"\x07|\x1b\\|\xc2\x9c|[\x18\x1a\n\x1b]"),
    ord("k"): re.compile(rb"\x07|\x1b\\|\xc2\x9c|[\x18\x1a\n\x1b]"),
}
_OTHER_END = re.compile(rb"\x1b\\|\xc2\x9c|[\x18\x1a\x1b]")
_LINK = re.compile(rb"8;[^\x00-\x1f\x7f]*")

_DRAWS_WITH_MARK = b"hlJK"
_DRAWS_WITH_INTERMEDIATE = (b" q", b"!p")
_TYPING_MODES = {9, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1015, 1016, 2031}
"""Modes in which the terminal types by itself: at every movement of the mouse, at a change of focus."""


class Filter:
    """One stream of output, which may be split anywhere between two calls of `feed`."""

    def __init__(self) -> None:
        self._held = b""
        self._string = 0
        """The kind of the string that is open, as the byte behind ESC; 0: none."""
        self._content = bytearray()
        self._swallowed = 0

    def feed(self, data: bytes | bytearray) -> bytes | bytearray:
        """What of `data`, and of what was held back before, may be written."""
        if (
            data.isascii()
            and b"\x1b" not in data
            and b"\x05" not in data
            and not (self._held or self._string)
        ):
            return data
        data = self._held + bytes(data)
        self._held = b""
        out: list[bytes] = []
        at = 0
        while at < len(data):
            at = self._in_string(data, at, out) if self._string else self._in_text(data, at, out)
        return b"".join(out)

    def end(self) -> bytes:
        """What is left of a character that was never completed; a sequence that was not is left out."""
        held, self._held = self._held, b""
        return b"" if held.startswith(b"\x1b") else held

    def _in_text(self, data: bytes, at: int, out: list[bytes]) -> int:
        if plain := _PLAIN.match(data, at):
            out.append(plain.group())
            return plain.end()
        first = data[at]
        if first == 0x1B:
            return self._escape(data, at, out)
        if first == 0xC2 and at + 1 < len(data) and 0x80 <= data[at + 1] <= 0x9F:
            out.append(b"?")
            return at + 2
        if first >= 0xC2 and _HALF_CHARACTER.fullmatch(data, at):
            self._held = data[at:]
            return len(data)
        if first != 0x05:  # ENQ: the terminal would type its answerback
            out.append(b"?" if 0x80 <= first <= 0x9F else data[at : at + 1])
        return at + 1

    def _escape(self, data: bytes, at: int, out: list[bytes]) -> int:
        if found := _CONTROL_SEQUENCE.match(data, at):
            if found.end() - at <= _LONGEST_SEQUENCE and _draws(*found.groups()):
                out.append(found.group())
            return found.end()
        if len(data) - at <= _LONGEST_SEQUENCE and _HALF_ESCAPE.fullmatch(data, at):
            self._held = data[at:]
            return len(data)
        if found := _STRING.match(data, at):
            self._string, self._swallowed = data[at + 1], 0
            self._content.clear()
            return found.end()
        if data[at : at + 2] != b"\x1b[" and (found := _ESCAPE.match(data, at)):
            if found.group() != b"\x1bZ":  # the terminal would type who it is
                out.append(found.group())
            return found.end()
        return at + 1

    def _in_string(self, data: bytes, at: int, out: list[bytes]) -> int:
        end = _STRING_ENDS.get(self._string, _OTHER_END).search(data, at)
        if end is None or (end.group() == b"\x1b" and end.end() == len(data)):
            upto = len(data) if end is None else end.start()
            # Half of an 8-bit end may be the last byte.
            upto -= data[at:upto].endswith(b"\xc2")
            self._swallow(data[at:upto])
            self._held = data[upto:]
            return len(data)
        self._swallow(data[at : end.start()])
        is_link = self._string == ord("]") and _LINK.fullmatch(self._content) is not None
        self._string = 0
        if is_link and end.group() in (b"\x07", b"\x1b\\"):
            out.append(b"\x1b]" + bytes(self._content) + end.group())
        # Neither a line's end nor the next escape is a part of the string.
        return end.start() if end.group() in (b"\n", b"\x1b") else end.end()

    def _swallow(self, data: bytes) -> None:
        self._swallowed += len(data)
        if self._string == ord("]") and len(self._content) + len(data) <= _LONGEST_LINK:
            self._content += data
        else:
            self._content[:] = b"\x00"  # no link any more
        if self._swallowed > _LONGEST_STRING:
            self._string = 0


def _draws(mark: bytes, parameters: bytes, intermediate: bytes, final: bytes) -> bool:
    """Whether a control sequence does nothing but draw."""
    if intermediate:
        return not mark and intermediate + final in _DRAWS_WITH_INTERMEDIATE
    if not mark:
        return final in _DRAWS
    if mark != b"?" or final not in _DRAWS_WITH_MARK:
        return False
    modes = {int(word) for word in re.split(rb"[;:]", parameters) if word}
    return final != b"h" or not modes & _TYPING_MODES
