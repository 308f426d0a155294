"""Mends the JSON that torch writes wrongly: text of the user that it copies between quotes as it is.

A quote in the name of a `record_function`, a class, a file or a thread, and in older versions a line break, a
control character or a backslash, ends the string too early, and no reader takes any of the file. Here such a
value is found by the key before it and by what follows it in torch's own layouts: one key a line (2.13), or
`"ph", "cat", "name", "pid", "tid"` on one line (older). What is valid is never touched.

Standard library alone: the job itself mends what it saves (`chisel.trace`), readers what others saved.
"""

import re
from collections.abc import Iterator
from typing import BinaryIO

BLOCK_BYTES = 4 << 20
MAX_BLOCK_BYTES = 64 << 20
"""A file without a line break in so many bytes is not torch's layout, and is left as it is."""

_KEYS = (b"name", b"labels", b"pg_desc", b"Process Group Description")
"""Whose values are the user's text."""
_TEXT = rb'(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+"'
"""The rest of a JSON string."""
_SCALAR = rb'(?:"' + _TEXT + rb"|-?\d[\d.eE+-]*|true|false|null)"
_FOLLOWS = (
    rb"(?=(?:[ \t]*,[ \t]*\"" + _TEXT + rb"[ \t]*:[ \t]*" + _SCALAR + rb")*+"
    rb"[ \t]*,?[ \t\r]*(?:\n|\Z|[}\]]|\"" + _TEXT + rb"[ \t]*:[ \t]*[\[{]))"
)
"""What may stand behind a string on its line: pairs of key and value, then the end of something."""

# A pattern of its own for each key: only one that starts with plain text is searched for quickly.
_BROKEN = [
    (b'"%b":' % key, re.compile(b'"%b":' % key + rb"[ \t]*\"(?!" + _TEXT + _FOLLOWS + rb")")) for key in _KEYS
]

_BROKEN_HEADER = re.compile(rb'"[^"\n]+":[ \t]*"(?!' + _TEXT + _FOLLOWS + rb")")
_HEADER, _HEADER_END = b'"schemaVersion"', b'"traceEvents"'
"""What the script adds with `add_metadata` stands between them, a line each."""

_LINE_END = rb"[ \t]*,?[ \t\r]*(?:\Z|\n[ \t]*(?:\"[^\"\n]{1,40}\":|[}\],]))"
_END_ON_OWN_LINE = re.compile(rb'"(?=' + _LINE_END + rb")")
_END_AMONG_OTHERS = re.compile(
    rb'"(?=, "(?:pid|backend_config)": [-\d"]|, "[A-Z][\w ]*": |' + _LINE_END + rb")"
)
_MAX_VALUE = 256 << 10
"""Code that was compiled from a string may have all of itself as its file name."""

_MUST_ESCAPE = re.compile(rb'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})|["\\\x00-\x1f]')
_SHORT = {b'"': b'\\"', b"\\": b"\\\\", b"\n": b"\\n", b"\r": b"\\r", b"\t": b"\\t"}

_EVENT = b"\n  {"
"""Every event starts with such a line in torch's layouts."""


def mend(data: bytes) -> tuple[bytes, int]:
    """Whole lines of a trace file with every broken name made a JSON string, and how many were broken.

    Valid JSON comes back as it is. A name with a line break in it is mended when all of it is in `data`:
    `blocks` cuts between events.
    """
    data, mended = _decodable(data)
    for key, broken in _BROKEN:
        if key in data:
            data, count = _mend_values(data, broken)
            mended += count
    if _HEADER in data[:200] and (end := data.find(_HEADER_END)) > 0:
        header, count = _mend_values(data[:end], _BROKEN_HEADER)
        data = header + data[end:] if count else data
        mended += count
    return data, mended


def _mend_values(data: bytes, broken: re.Pattern[bytes]) -> tuple[bytes, int]:
    pieces: list[bytes] = []
    mended = done = 0
    while (found := broken.search(data, done)) is not None:
        start = found.end()
        own_line = not data[data.rfind(b"\n", 0, found.start()) + 1 : found.start()].strip(b" \t{")
        limit = data.find(_EVENT, start, start + _MAX_VALUE)
        limit = min(start + _MAX_VALUE, len(data)) if limit < 0 else limit + 1
        end = (_END_ON_OWN_LINE if own_line else _END_AMONG_OTHERS).search(data, start, limit)
        if end is None:
            pieces.append(data[done:start])
            done = start
            continue
        pieces += (data[done:start], _escaped(data[start : end.start()]))
        done = end.start()
        mended += 1
    return b"".join((*pieces, data[done:])), mended


def blocks(file: BinaryIO, size: int = BLOCK_BYTES) -> Iterator[bytes]:
    """The content of a trace file in pieces of about `size` bytes, cut between events where it has torch's
    layout, between lines where not."""
    rest = b""
    while data := file.read(size):
        rest += data
        cut = rest.rfind(_EVENT) + 1
        if not cut and len(rest) > 2 * size:
            cut = rest.rfind(b"\n") + 1
        if not cut and len(rest) > MAX_BLOCK_BYTES:
            cut = len(rest)
        if not cut:
            continue
        yield rest[:cut]
        rest = rest[cut:]
    if rest:
        yield rest


def mend_file(path: str, aside: str) -> int:
    """How many names of the trace file `path` are broken. When there are any, `aside` is the file with them
    mended; when not, nothing is written."""
    mended = 0
    offset = 0
    with open(path, "rb") as file:
        target: BinaryIO | None = None
        try:
            for block in blocks(file):
                whole, count = mend(block)
                mended += count
                if count and target is None:
                    target = open(aside, "wb")  # noqa: SIM115 - only when it is needed
                    _copy(path, target, offset)
                if target is not None:
                    target.write(whole)
                offset += len(block)
        finally:
            if target is not None:
                target.close()
    return mended


def _copy(path: str, target: BinaryIO, count: int) -> None:
    with open(path, "rb") as file:
        while count and (data := file.read(min(BLOCK_BYTES, count))):
            target.write(data)
            count -= len(data)


def _escaped(text: bytes) -> bytes:
    return _MUST_ESCAPE.sub(_escape, text)


def _escape(found: re.Match[bytes]) -> bytes:
    piece = found[0]
    return piece if len(piece) > 1 else _SHORT.get(piece) or b"\\u%04x" % piece[0]


def _decodable(data: bytes) -> tuple[bytes, int]:
    """With what is no UTF-8 replaced, and in how many lines."""
    try:
        data.decode()
        return data, 0
    except UnicodeDecodeError:
        lines = data.split(b"\n")
    mended = 0
    for number, line in enumerate(lines):
        whole = line.decode(errors="replace").encode()
        if whole != line:
            lines[number] = whole
            mended += 1
    return b"\n".join(lines), mended
