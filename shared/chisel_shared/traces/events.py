"""Takes the events out of a trace file, a block at a time, and its metadata; salvages what can be salvaged.

A file is cut into pieces between events and each piece is decoded at once. A piece that is not JSON is mended
(`repair`), and if that does not help it is read event by event: what is damaged is left out and counted. A
file that ends in the middle gives the whole events before its end.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import msgspec

from chisel_shared.traces import lenient, repair
from chisel_shared.traces.source import BLOCK_BYTES, Blocks, TraceError

MAX_EVENT_BYTES = 64 << 20
MAX_UNBALANCED_BYTES = 8 << 20
"""What lists of objects inside of an event may hide the places between events for."""
MAX_METADATA_BYTES = 64 << 20
MAX_DAMAGED = 1000
"""More events than these that cannot be read: the file is something else."""

NO_ARGS = msgspec.Raw(b"{}")
NO_TIME = float("nan")

_START = re.compile(rb'"traceEvents"\s*+:\s*+\[')
_BETWEEN = re.compile(rb'\}\s*+,\s*+(?=\{\s*+")')
"""Between two events: inside a string the quote would have a backslash before it. It may also lie between two
objects inside of an event; then the piece does not decode, and an earlier place is tried."""
_BETWEEN_TEXT = re.compile(r'\}\s*+,\s*+(?=\{\s*+")')
_GAP = re.compile(r"[\s,]*+")
_TRAILING = re.compile(r"trailing characters \(byte (\d+)\)")
_SEARCH_BYTES = 64 << 10
_TRIES = 4


class Event(msgspec.Struct, gc=False):
    """One entry of `traceEvents`, whatever the order of its keys; what it lacks has a default."""

    ph: str = ""
    cat: str = ""
    name: str = ""
    pid: int | str | None = None
    tid: int | str | None = None
    ts: float = NO_TIME
    dur: float = 0.0
    args: msgspec.Raw = NO_ARGS


Entry = TypeVar("Entry")


class _Unbalanced(Exception):
    """The piece ends inside of an event."""


class Events(Generic[Entry]):
    """Iterate once, lists of entries; the other attributes are complete after it. See `parsed` and `raw`."""

    def __init__(
        self,
        blocks: Blocks,
        decoder: msgspec.json.Decoder[list[Entry]],
        from_any: Callable[[dict[str, Any]], Entry],
    ) -> None:
        self.metadata: dict[str, Any] = {}
        """Everything beside `traceEvents`, from before and after it."""
        self.truncated = False
        self.repaired = 0
        self.damaged = 0
        self._decoder = decoder
        self._from_any = from_any
        self._source = blocks
        self._blocks = iter(blocks)
        self._ended = False
        """The source has no more bytes."""
        self._tail: bytes | None = None
        """What follows the array of events, once its end was seen."""
        self._bare = False
        """The file is the list itself, without an object around it."""

    def __iter__(self) -> Iterator[list[Entry]]:
        rest = self._head()
        wanted = BLOCK_BYTES
        while self._tail is None:
            rest = self._filled(rest, wanted)
            if self._ended:
                yield self._last(rest)
                rest = b""
                break
            piece, rest_after = self._piece(rest)
            if piece is None:
                wanted = 2 * len(rest)
                continue
            wanted = BLOCK_BYTES
            rest = rest_after
            yield piece
        self._finish(rest)

    # Where the array begins

    def _head(self) -> bytes:
        """Read to the first event; the bytes that follow it."""
        data = self._filled(b"", 1).removeprefix(b"\xef\xbb\xbf").lstrip()
        if data.startswith(b"["):
            self._bare = True
            return data[1:]
        if data[:1] not in (b"{", b""):
            raise TraceError("The file is no trace: it does not start with an object or a list.")
        searched = 0
        while True:
            starts = list(_START.finditer(data, searched))
            if starts:
                break
            if self._ended or len(data) > MAX_METADATA_BYTES:
                raise TraceError("The file is no trace: it holds no traceEvents.")
            searched = max(0, len(data) - 256)
            data = self._filled(data, len(data) + BLOCK_BYTES)
        for start in starts[:_TRIES]:
            head = self._object(data[: start.start()].rstrip().rstrip(b",") + b"}")
            if head is not None:
                self.metadata.update(head)
                return data[start.end() :]
        self.damaged += 1
        return data[starts[0].end() :]

    # Pieces

    def _piece(self, data: bytes) -> tuple[list[Entry] | None, bytes]:
        """The events up to a place between two of them, and the bytes after that place; None: more is needed
        to see such a place."""
        places = _places_between(data)
        events = None
        unbalanced = 0
        for place in places:
            try:
                events = self._decoded(b"".join((b"[", memoryview(data)[: place.start() + 1], b"]")))
            except _Unbalanced:
                unbalanced += 1
            if events is not None:
                break
        if events is None:
            if unbalanced == len(places) and len(data) < (
                MAX_UNBALANCED_BYTES if places else MAX_EVENT_BYTES
            ):
                return None, data
            if not places:
                raise TraceError(f"An event is larger than {MAX_EVENT_BYTES:,} bytes: this is no trace.")
            place = places[0]
            events = self._salvaged(data[: place.start() + 1], last=False)
        # Past the end of the array the comma belongs to the metadata.
        return events, data[place.end() if self._tail is None else place.start() + 1 :]

    def _decoded(self, whole: bytes) -> list[Entry] | None:
        """Of a piece in brackets. None when it does not decode; then nothing of it has been counted."""
        try:
            return self._decoder.decode(whole)
        except msgspec.ValidationError:
            return None
        except lenient.UNREADABLE as error:
            if (found := _TRAILING.search(str(error))) is not None:
                return self._to_the_end(whole[:-1], int(found[1]))
            if "truncated" in str(error):
                raise _Unbalanced from error
        mended, count = repair.mend(whole[1:-1])
        if not count:
            return None
        try:
            events = self._decoder.decode(b"[" + mended + b"]")
        except lenient.UNREADABLE:
            return None
        self.repaired += count
        return events

    def _to_the_end(self, data: bytes, trailing: int) -> list[Entry] | None:
        """The array ends within `data`, a little before the byte `trailing`."""
        for until in (trailing - 1, trailing):
            end = data.rfind(b"]", 0, until) + 1
            try:
                events = self._decoder.decode(data[:end])
            except lenient.UNREADABLE:
                continue
            self._tail = data[end:]
            return events
        return None

    def _last(self, rest: bytes) -> list[Entry]:
        """The events of what remains at the end of the file: with the end of the array, or cut."""
        events = self._array(rest)
        if events is not None:
            return events
        mended, count = repair.mend(rest)
        if count and (events := self._array(mended)) is not None:
            self.repaired += count
            return events
        return self._cut(rest)

    def _array(self, rest: bytes) -> list[Entry] | None:
        whole = b"[" + rest
        try:
            events = self._decoder.decode(whole)
        except lenient.UNREADABLE as error:
            found = _TRAILING.search(str(error))
            return None if found is None else self._to_the_end(whole, int(found[1]))
        self._tail = b""
        return events

    def _cut(self, rest: bytes) -> list[Entry]:
        """Most of it at once, event by event what lies around the cut."""
        for place in _places_between(rest):
            try:
                events = self._decoded(b"".join((b"[", memoryview(rest)[: place.start() + 1], b"]")))
            except _Unbalanced:
                continue
            if events is not None:
                return (
                    events
                    if self._tail is not None
                    else events + self._salvaged(rest[place.end() :], last=True)
                )
        return self._salvaged(rest, last=True)

    def _salvaged(self, piece: bytes, *, last: bool) -> list[Entry]:
        """Event by event; `last`: one that does not end is cut off, not damaged."""
        text = piece.decode(errors="replace")
        events: list[Entry] = []
        at = 0
        while (at := _past_gap(text, at)) < len(text):
            if text[at] == "]":
                self._tail = text[at + 1 :].encode(errors="replace")
                break
            try:
                value, at = lenient.DECODER.raw_decode(text, at)
            except lenient.UNREADABLE as error:
                if last and lenient.ends_in(text, error):
                    break
                self._damage()
                following = _BETWEEN_TEXT.search(text, at + 1)
                if following is None:
                    break
                at = following.end()
                continue
            if isinstance(value, dict):
                events.append(self._from_any(value))
            else:
                self._damage()
        return events

    def _damage(self) -> None:
        self.damaged += 1
        if self.damaged > MAX_DAMAGED:
            raise TraceError(f"More than {MAX_DAMAGED:,} events of the file are not JSON: this is no trace.")

    # What surrounds the array

    def _finish(self, rest: bytes) -> None:
        if self._tail is None:
            self.truncated = True
            return
        tail = self._tail + rest
        while not self._ended and len(tail) <= MAX_METADATA_BYTES:
            tail = self._filled(tail, len(tail) + BLOCK_BYTES)
        if self._source.cut:
            self.truncated = True
        tail = tail.strip()
        if self._bare and not tail:
            return
        found = self._object(b"{" + tail.removeprefix(b",")) if len(tail) <= MAX_METADATA_BYTES else None
        if found is None:
            self.truncated = True
        else:
            self.metadata.update(found)

    def _object(self, data: bytes) -> dict[str, Any] | None:
        mended, count = data, 0
        for attempt in range(2):
            if attempt:
                mended, count = repair.mend(data)
            try:
                value = lenient.decoded(mended)
            except lenient.UNREADABLE:
                continue
            if isinstance(value, dict):
                self.repaired += count
                return value
        return None

    def _filled(self, data: bytes, size: int) -> bytes:
        """At least `size` bytes, unless the source ends."""
        pieces = [data]
        length = len(data)
        while length < size and not self._ended:
            block = next(self._blocks, None)
            if block is None:
                self._ended = True
                break
            pieces.append(block)
            length += len(block)
        return b"".join(pieces) if len(pieces) > 1 else data


def parsed(blocks: Blocks) -> Events[Event]:
    """What is read of each entry."""
    return Events(blocks, msgspec.json.Decoder(list[Event], strict=False), _lenient_event)


def raw(blocks: Blocks) -> Events[msgspec.Raw]:
    """Each entry as it is written, whatever it is; mended where it was not JSON."""
    return Events(
        blocks, msgspec.json.Decoder(list[msgspec.Raw]), lambda value: msgspec.Raw(lenient.encoded(value))
    )


def _places_between(data: bytes) -> list[re.Match[bytes]]:
    """The last few places between two events, last first."""
    window = _SEARCH_BYTES
    while True:
        found = list(_BETWEEN.finditer(data, max(0, len(data) - window)))
        if found or window >= len(data):
            return found[: -_TRIES - 1 : -1]
        window *= 8


def _past_gap(text: str, at: int) -> int:
    found = _GAP.match(text, at)
    return found.end() if found else at


def _lenient_event(value: dict[str, Any]) -> Event:
    args = value.get("args")
    return Event(
        ph=lenient.text(value.get("ph")),
        cat=lenient.text(value.get("cat")),
        name=lenient.text(value.get("name")),
        pid=lenient.identity(value.get("pid")),
        tid=lenient.identity(value.get("tid")),
        ts=lenient.number(value.get("ts"), NO_TIME),
        dur=lenient.number(value.get("dur"), 0.0),
        args=msgspec.Raw(json.dumps(args).encode()) if isinstance(args, dict) else NO_ARGS,
    )
