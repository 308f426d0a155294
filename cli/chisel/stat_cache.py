"""What was learnt of a directory when it was last packed, so that an unchanged file is not read again.

One file per directory below `~/.chisel/cache`, replaced whole: two commands at once cost nothing but that
the later one's knowledge stays. A file that cannot be read, or is not what was written, is no cache at
all. Nothing but this module knows the format.
"""

import hashlib
import os
import time
from contextlib import suppress
from typing import NamedTuple

import msgspec

from chisel.ignore import Rule

_VERSION = 1
_FINE_NS = 100_000_000
_COARSE_NS = 2_000_000_000
"""A file system that keeps whole seconds, or every second one, shows by its zeros."""
_KEPT_SECONDS = 90 * 86_400


class Mark(NamedTuple):
    """What `lstat` says of a file's content without reading it."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Mark":
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)

    def may_still_change(self, read_at_ns: int) -> bool:
        """Whether a file read at that time could be written once more without showing it here: its last
        change was so short before that another one may get the same time."""
        newest = max(self.mtime_ns, self.ctime_ns)
        tick = _FINE_NS if self.mtime_ns % 1_000_000_000 else _COARSE_NS
        return newest + tick >= read_at_ns


class KnownFile(NamedTuple):
    """The sha256 of each of its chunks."""

    mark: Mark
    chunks: tuple[str, ...]


class KnownPack(NamedTuple):
    """A pack that the backend had: its size, the size of its tar, and its chunks in their order."""

    size: int
    tar_size: int
    chunks: tuple[str, ...]


class Cache(msgspec.Struct):
    """By path, by digest, and by the text of a file with rules."""

    version: int = _VERSION
    files: dict[str, KnownFile] = {}
    packs: dict[str, KnownPack] = {}
    rules: dict[str, tuple[Rule, ...]] = {}


_decoder = msgspec.json.Decoder(Cache)


def load(folder: str, root: str) -> Cache:
    """What `folder` has about the directory `root`; an empty cache when that is nothing, or no use."""
    try:
        with open(_path(folder, root), "rb") as file:
            told, body = file.readline(), file.read()
        if told.strip() == _sum(body):
            cache = _decoder.decode(body)
            if cache.version == _VERSION:
                return cache
    except (OSError, msgspec.MsgspecError):
        pass
    return Cache()


def save(folder: str, root: str, cache: Cache) -> None:
    """Keep `cache` for the next time. A disk that does not take it costs speed and nothing else."""
    path = _path(folder, root)
    aside = f"{path}.{os.getpid()}.{os.urandom(4).hex()}"
    body = msgspec.json.encode(cache)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with open(os.open(aside, flags, 0o600), "wb") as file:
            file.write(_sum(body) + b"\n" + body)
        os.replace(aside, path)
        _forget_old(folder)
    except OSError:
        with suppress(OSError):
            os.unlink(aside)


def _sum(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


def _path(folder: str, root: str) -> str:
    name = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:32]
    return os.path.join(folder, f"tree-{name}")


def _forget_old(folder: str) -> None:
    """Drop what was not written for long: its directory is gone, or never changes."""
    oldest = time.time() - _KEPT_SECONDS
    with os.scandir(folder) as found:
        for item in found:
            if item.name.startswith("tree-") and item.stat().st_mtime < oldest:
                os.unlink(item.path)
