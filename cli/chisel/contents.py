"""Reading files: their chunks' sha256, and packs of them. What is large is read by several threads.

A file that is written meanwhile is noticed: `Changing` names it, and whoever asked looks again. One that
only grew is taken as it was when it was opened.
"""

import hashlib
import os
import stat
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO, NamedTuple, TypeVar

from chisel import archive
from chisel.stat_cache import KnownPack, Mark
from chisel.tree import Entry, unreadable
from chisel_shared.contract.bundles import CHUNK_BYTES, PACK_BYTES

_THREADS_FROM_BYTES = 8 << 20
"""Below this, starting threads costs more than they save."""
_MEMORY_BYTES = 32 << 20
"""Packs up to this size together never touch the disk."""

_OPEN_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a file that became a pipe since it was seen must not hang us
    | getattr(os, "O_BINARY", 0)
)

T = TypeVar("T")
U = TypeVar("U")


class Changing(Exception):
    """A file is no longer what it was when it was seen."""

    def __init__(self, name: str, path: str) -> None:
        super().__init__(path)
        self.name = name
        self.path = path


class Read(NamedTuple):
    """A file's content as it was at `at_ns`; 0 when it was being written."""

    name: str
    mark: Mark
    chunks: tuple[str, ...]
    at_ns: int


class Place(NamedTuple):
    """Where a chunk can be read."""

    chunk: str
    name: str
    path: str
    offset: int
    size: int


class Made(NamedTuple):
    """A pack, and what is to be remembered of it."""

    digest: str
    content: bytes
    known: KnownPack


def read_all(entries: Sequence[Entry]) -> Iterator[Read]:
    """The chunks of these files, in their order."""
    total = sum(entry.status.st_size for entry in entries)
    return _each(_read, entries, threads=total >= _THREADS_FROM_BYTES)


def pack_all(places: Iterable[Place]) -> Iterator[Made]:
    """Packs of these chunks, as many in each as fit, in their order."""
    groups: list[list[Place]] = []
    room = 0
    for place in places:
        taken = archive.tar_size(place.size)
        if taken > room or not groups:
            groups.append([])
            room = PACK_BYTES
        groups[-1].append(place)
        room -= taken
    return _each(pack, groups, threads=len(groups) > 1)


def pack(places: Sequence[Place]) -> Made:
    """One pack of these chunks."""
    content = archive.pack((place.chunk, _read_chunk(place)) for place in places)
    tar_size = sum(archive.tar_size(place.size) for place in places)
    known = KnownPack(len(content), tar_size, tuple(place.chunk for place in places))
    return Made(hashlib.sha256(content).hexdigest(), content, known)


def _read(entry: Entry) -> Read:
    mark = Mark.of(entry.status)
    at_ns = time.time_ns()
    with _open(entry.name, entry.path) as file:
        before = os.fstat(file.fileno())
        left = before.st_size
        chunks = []
        while left:
            data = _piece(file, entry, min(left, CHUNK_BYTES))
            chunks.append(hashlib.sha256(data).hexdigest())
            left -= len(data)
        after = os.fstat(file.fileno())
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        if after.st_size <= before.st_size:
            raise Changing(entry.name, entry.path)
        at_ns = 0
    mark = mark._replace(size=before.st_size, mtime_ns=before.st_mtime_ns)
    return Read(entry.name, mark, tuple(chunks), at_ns)


def _read_chunk(place: Place) -> bytes:
    with _open(place.name, place.path) as file:
        file.seek(place.offset)
        try:
            data = file.read(place.size)
        except OSError as error:
            raise unreadable(place.path, error) from error
    if hashlib.sha256(data).hexdigest() != place.chunk:
        raise Changing(place.name, place.path)
    return data


def _open(name: str, path: str) -> BinaryIO:
    try:
        descriptor = os.open(path, _OPEN_FLAGS)
    except OSError as error:
        raise unreadable(path, error) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Changing(name, path)
    return open(descriptor, "rb", buffering=0 if os.name == "posix" else -1)


def _piece(file: BinaryIO, entry: Entry, count: int) -> bytes:
    try:
        data = file.read(count)
        while len(data) < count:
            more = file.read(count - len(data))
            if not more:
                raise Changing(entry.name, entry.path)
            data += more
    except OSError as error:
        raise unreadable(entry.path, error) from error
    return data


def _each(work: Callable[[T], U], items: Sequence[T], *, threads: bool) -> Iterator[U]:
    """`work` of every item, in order; with threads, no further ahead than there are of them."""
    if not threads:
        yield from map(work, items)
        return
    from concurrent.futures import Future, ThreadPoolExecutor

    count = min(4, os.cpu_count() or 1)
    coming: deque[Future[U]] = deque()
    with ThreadPoolExecutor(count, thread_name_prefix="packing") as pool:
        try:
            for item in items:
                coming.append(pool.submit(work, item))
                if len(coming) > 2 * count:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            for future in coming:
                future.cancel()


class Store:
    """Packs by digest: in memory, and in an unnamed temporary file when they are many."""

    def __init__(self) -> None:
        self._held: dict[str, bytes] = {}
        self._written: dict[str, tuple[int, int]] = {}
        self._room = _MEMORY_BYTES
        self._file: BinaryIO | None = None

    def __contains__(self, digest: str) -> bool:
        return digest in self._held or digest in self._written

    def add(self, digest: str, content: bytes) -> None:
        if digest in self:
            return
        if len(content) <= self._room:
            self._room -= len(content)
            self._held[digest] = content
            return
        if self._file is None:
            from tempfile import TemporaryFile

            self._file = TemporaryFile(prefix="chisel-")  # noqa: SIM115
        assert self._file is not None
        self._written[digest] = (self._file.seek(0, os.SEEK_END), len(content))
        self._file.write(content)

    def read(self, digest: str) -> bytes:
        if digest in self._held:
            return self._held[digest]
        assert self._file is not None
        at, size = self._written[digest]
        self._file.seek(at)
        return self._file.read(size)

    def close(self) -> None:
        self._held.clear()
        if self._file is not None:
            self._file.close()
