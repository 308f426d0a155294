"""The format of the files that agent and shim leave for each other: `key=value` records, NUL-ended.

Neither side needs a parser that would slow the shim's start, values may hold anything but NUL, and a
key may repeat. The shim has its own copy of these lines: it must not import the package.
"""

import os
from collections.abc import Iterable
from pathlib import Path

Records = Iterable[tuple[str, str]]


def encode(records: Records) -> bytes:
    """`ValueError` when a value cannot be written, that is, when it holds a NUL."""
    parts = []
    for key, value in records:
        if "\0" in value:
            raise ValueError(f"{key} holds a NUL character")
        parts.append(os.fsencode(f"{key}={value}") + b"\0")
    return b"".join(parts)


def decode(data: bytes) -> list[tuple[str, str]]:
    pairs = (os.fsdecode(part).partition("=") for part in data.rstrip(b"\0").split(b"\0") if part)
    return [(key, value) for key, _, value in pairs]


def write_all(descriptor: int, data: bytes) -> None:
    """Every byte: one `write` may take only a part of them, on a disk that fills up for instance."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def append_line(path: Path, line: bytes) -> None:
    """Put `line` behind what is in `path`: a line of its own, whatever one that was cut short has left."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        write_all(descriptor, b"\n" + line + b"\n")
    finally:
        os.close(descriptor)


def write_aside(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Put `data` at `path` whole or not at all; mode 0600. With `durable`, it survives a power cut."""
    aside = path.with_name(path.name + ".new")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_all(descriptor, data)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    aside.rename(path)
