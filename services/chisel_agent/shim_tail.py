"""The end of output that is longer than its spool may become. Standard library only (see `shim.py`).

A spool takes the first bytes of a stream, its head, and then no more. What follows goes into a ring
beside it, which holds the last of it; when the job has ended, `append` puts a line that says how much
is missing, and then the ring's bytes, behind the head.

    NAME.tail    counted, tail, room, head: 8 bytes each; then `room` bytes

Byte number i beyond the head lies at i % room. `room` is larger than the `tail` bytes that are kept
by what one write may have at most, so a write goes only over bytes that are too old, and counts when
`counted` says so, which is written after it: whenever the writer is killed, the last `tail` bytes of
those counted are there.
"""

import fcntl
import os

from chisel_agent.shim_system import write_all

SUFFIX = ".tail"
SLACK_BYTES = 1 << 20
HEADER_BYTES = 32
PIECE_BYTES = 256 * 1024
TRIES = 10  # a second apart: a full disk may have room again


def steps(counted: int, tail: int, room: int, data: bytes | memoryview) -> list[tuple[int, memoryview]]:
    """What to write where, in order, to add `data` to the `counted` bytes of a ring: (place, bytes)."""
    found = []
    view = memoryview(data)
    while view:
        piece = view[: room - tail]
        place = counted % room
        found.append((HEADER_BYTES + place, piece[: room - place]))
        if len(piece) > room - place:
            found.append((HEADER_BYTES, piece[room - place :]))
        counted += len(piece)
        found.append((0, memoryview(counted.to_bytes(8, "big"))))
        view = view[len(piece) :]
    return found


def places(counted: int, tail: int, room: int, skip: int = 0) -> list[tuple[int, int]]:
    """Where the kept bytes lie, oldest first, without the first `skip` of them: (place, size)."""
    found = []
    begin = max(0, counted - tail) + skip
    while begin < counted:
        place = begin % room
        size = min(counted - begin, room - place)
        found.append((HEADER_BYTES + place, size))
        begin += size
    return found


def notice(counted: int, tail: int, *, within_line: bool) -> bytes:
    """What stands between head and tail: a line of its own, nothing if nothing is missing."""
    if counted <= tail:
        return b""
    missing = counted - tail
    what = "1 byte was" if missing == 1 else f"{missing:,} bytes were"
    return b"\n" * within_line + f"[chisel: {what} left out here]\n".encode()


class Tail:
    """The ring of one stream, as its shim writes it."""

    def __init__(self, spool: str, *, tail: int, head: int) -> None:
        self.counted, self.tail, self.room = 0, tail, tail + SLACK_BYTES
        self.file = os.open(spool + SUFFIX, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        numbers = (0, self.tail, self.room, head)
        self.put(0, memoryview(b"".join(number.to_bytes(8, "big") for number in numbers)))

    def write(self, data: bytes | memoryview) -> None:
        for place, piece in steps(self.counted, self.tail, self.room, data):
            self.put(place, piece)
            if place == 0:
                self.counted = int.from_bytes(piece, "big")

    def put(self, place: int, view: memoryview) -> None:
        while view:
            written = os.pwrite(self.file, view, place)
            place += written
            view = view[written:]


def append(spool: str) -> None:
    """Put behind the head in `spool` what its ring kept. It goes on where an earlier call was killed,
    and does nothing where all is done, or nothing is to do. `OSError`: try again."""
    try:
        ring = os.open(spool + SUFFIX, os.O_RDONLY)
    except FileNotFoundError:
        return
    file = -1
    try:
        fcntl.flock(ring, fcntl.LOCK_EX)
        numbers = read_numbers(ring)
        file = os.open(spool, os.O_RDWR | os.O_APPEND)
        done = os.fstat(file).st_size - numbers[3]
        if done < 0:  # a power cut: nobody can tell what belongs here
            return
        counted, tail, room, head = numbers
        said = notice(counted, tail, within_line=ends_within_line(file, head))
        write_all(file, said[done:])
        for place, size in places(counted, tail, room, max(0, done - len(said))):
            while size and (data := os.pread(ring, min(size, PIECE_BYTES), place)):
                write_all(file, data)
                place += len(data)
                size -= len(data)
    finally:
        for descriptor in (ring, file):
            if descriptor >= 0:
                os.close(descriptor)


def left_out(spool: str) -> int:
    """How many bytes of a stream that has ended are in no file."""
    try:
        ring = os.open(spool + SUFFIX, os.O_RDONLY)
    except FileNotFoundError:
        return 0
    file = os.open(spool, os.O_RDONLY)
    try:
        counted, tail, _, head = read_numbers(ring)
        said = notice(counted, tail, within_line=ends_within_line(file, head))
        return counted - min(counted, tail, max(0, os.fstat(file).st_size - head - len(said)))
    finally:
        os.close(ring)
        os.close(file)


def read_numbers(ring: int) -> tuple[int, int, int, int]:
    data = os.pread(ring, HEADER_BYTES, 0).ljust(HEADER_BYTES, b"\0")  # killed before it had any
    counted, tail, room, head = (int.from_bytes(data[n : n + 8], "big") for n in range(0, HEADER_BYTES, 8))
    return counted, tail, room, head


def ends_within_line(file: int, head: int) -> bool:
    return head > 0 and os.pread(file, 1, head - 1) != b"\n"
