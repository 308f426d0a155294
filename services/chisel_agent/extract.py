"""Unpacks a bundle into a new folder: nothing lands outside, nothing is bigger than allowed.

Files are created with O_EXCL and O_NOFOLLOW while the tree holds no link at all; links come last,
and each must then lead to a place inside. Owners, times, and modes but the x-bit do not travel.
"""

import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from chisel_agent.records import write_all
from chisel_agent.tar import BadArchive, Entry, Gunzip, Kind, entries
from chisel_shared.contract.bundles import MAX_ENTRIES, MAX_UNPACKED_BYTES, path_fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    entries: int = MAX_ENTRIES
    total_bytes: int = 2 * MAX_UNPACKED_BYTES  # files may have grown while they were packed
    file_bytes: int = MAX_UNPACKED_BYTES


class Cancelled(Exception):
    """Whoever asked for it no longer wants it."""


def extract(
    archive: BinaryIO, into: Path, *, limits: Limits | None = None, cancelled: threading.Event | None = None
) -> None:
    """Unpack `archive` into the new folder `into`, completely or not at all.

    `BadArchive` says what is wrong with it, `OSError` what the disk said.
    """
    try:
        _Extraction(into, limits or Limits(), cancelled or threading.Event()).run(archive)
    except BaseException:
        shutil.rmtree(into, ignore_errors=True)
        raise


class _Extraction:
    def __init__(self, root: Path, limits: Limits, cancelled: threading.Event) -> None:
        self._root = str(root)
        self._limits = limits
        self._cancelled = cancelled
        self._folders = {""}
        self._links: list[tuple[str, str]] = []

    def run(self, archive: BinaryIO) -> None:
        os.mkdir(self._root, 0o755)
        stream = Gunzip(archive, self._check_bytes)
        for count, entry in enumerate(entries(stream), 1):
            if count > self._limits.entries:
                raise BadArchive(f"it has more than {self._limits.entries:,} entries")
            self._write(stream, entry)
        for path, target in self._links:
            self._link(path, target)
        for path, _ in self._links:
            self._check_link(path)

    def _check_bytes(self, written: int) -> None:
        if self._cancelled.is_set():
            raise Cancelled
        if written > self._limits.total_bytes + self._limits.entries * 1024:
            raise BadArchive(f"it unpacks to more than {self._limits.total_bytes:,} bytes")

    def _write(self, stream: Gunzip, entry: Entry) -> None:
        path = clean(entry.path)
        if not path and entry.kind is not Kind.FOLDER:
            raise BadArchive("an entry has no name")
        match entry.kind:
            case Kind.FOLDER:
                self._make_folder(path)
            case Kind.LINK:
                self._make_folder(path.rpartition("/")[0])
                self._links.append((path, entry.target))
            case Kind.FILE:
                if entry.size > self._limits.file_bytes:
                    raise BadArchive(f"{path!r} is larger than {self._limits.file_bytes:,} bytes")
                self._make_folder(path.rpartition("/")[0])
                self._write_file(stream, entry, path)

    def _write_file(self, stream: Gunzip, entry: Entry, path: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(f"{self._root}/{path}", flags, 0o755 if entry.executable else 0o644)
        except FileExistsError:
            raise BadArchive(f"{path!r} is in it twice") from None
        try:
            stream.copy(entry.size, lambda data: write_all(descriptor, data))
        finally:
            os.close(descriptor)

    def _make_folder(self, path: str) -> None:
        if path in self._folders:
            return
        self._make_folder(path.rpartition("/")[0])
        try:
            os.mkdir(f"{self._root}/{path}", 0o755)
        except FileExistsError:
            raise BadArchive(f"{path!r} is in it twice, as a file and as a folder") from None
        self._folders.add(path)

    def _link(self, path: str, target: str) -> None:
        if not target or target.startswith("/") or "\0" in target:
            raise BadArchive(f"the link {path!r} does not lead to a relative path")
        try:
            os.symlink(target, f"{self._root}/{path}")
        except FileExistsError:
            raise BadArchive(f"{path!r} is in it twice") from None

    def _check_link(self, path: str) -> None:
        """Follow it for real: what a chain of links means cannot be read from their texts."""
        root = os.path.realpath(self._root)
        real = os.path.realpath(f"{self._root}/{path}")
        if real != root and not real.startswith(root + "/"):
            raise BadArchive(f"the link {path!r} leads outside")


def clean(path: str) -> str:
    """An entry's path in plain form, "" for the root; `BadArchive` for any that could mean another."""
    if path.startswith("/"):
        raise BadArchive(f"{path!r} is an absolute path")
    parts = [part for part in path.removesuffix("/").split("/") if part != "."]
    if path and not all(parts):
        raise BadArchive(f"{path!r} has an empty part")
    if ".." in parts:
        raise BadArchive(f"{path!r} leads upwards")
    plain = "/".join(parts)
    if (fault := path_fault(plain)) is not None:
        raise BadArchive(f"{path[:80]!r} {fault}")
    return plain
