"""The upload directory as one immutable file: what travels to the backend, named by its sha256.

The same tree gives the same bytes, so a directory that has not changed is not sent again.
"""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO, FileIO
from typing import BinaryIO, NamedTuple

from chisel.archive import Archive
from chisel.ignore import is_excluded
from chisel_shared.contract import bundles
from chisel_shared.contract.errors import BadRequest, TooLarge
from chisel_shared.contract.ids import Digest

_PIECE_BYTES = 1 << 20
_MEMORY_BYTES = 8 << 20
"""A bundle up to this size never touches the disk."""


class Entry(NamedTuple):
    """One thing to pack: its POSIX path below the root, and what `lstat` says of it."""

    name: str
    path: str
    status: os.stat_result


class Tree(NamedTuple):
    """What a directory holds: entries in the order they are packed, and names that cannot travel."""

    entries: tuple[Entry, ...]
    skipped: tuple[str, ...]
    files: int
    size_bytes: int


class Bundle:
    """A packed directory. Close it, or use it as a context manager, to drop its temporary file."""

    def __init__(self, *, tree: Tree, digest: Digest, size: int, content: BinaryIO) -> None:
        self.tree = tree
        self.digest = digest
        self.size = size
        self._content = content

    def __iter__(self) -> Iterator[bytes]:
        """The bundle's bytes in pieces, from the first one each time."""
        self._content.seek(0)
        while piece := self._content.read(_PIECE_BYTES >> 2):
            yield piece

    def close(self) -> None:
        self._content.close()

    def __enter__(self) -> "Bundle":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


class _Spool:
    """Keeps what is written in memory until it is large, then in an unnamed temporary file; raises
    what `too_large()` makes when it is larger than a bundle may be."""

    def __init__(self, too_large: Callable[[], TooLarge]) -> None:
        self.content: BinaryIO = BytesIO()
        self._room = _MEMORY_BYTES
        self._left = bundles.MAX_BYTES
        self._too_large = too_large

    def write(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise self._too_large()
        self.content.write(data)
        self._room -= len(data)
        if self._room < 0 < self._room + len(data):
            from tempfile import TemporaryFile

            held, self.content = self.content, TemporaryFile(prefix="chisel-")  # noqa: SIM115 - the bundle's
            held.seek(0)
            self.content.write(held.read())


def pack(root: str, tree: Tree | None = None) -> Bundle:
    """Pack the directory `root`, which was looked through by `walk` unless `tree` says so.

    `BadRequest` names the file that cannot travel, `TooLarge` the largest ones; nothing is left behind then.
    """
    found = tree or walk(root)
    spool = _Spool(lambda: _too_large(root, found.entries, f"packs to more than {_gib(bundles.MAX_BYTES)}"))
    archive = Archive(spool)
    inside = os.path.realpath(root)
    try:
        for entry in found.entries:
            if stat.S_ISDIR(entry.status.st_mode):
                archive.folder(entry.name)
            elif stat.S_ISLNK(entry.status.st_mode):
                archive.symlink(entry.name, _link_target(entry, inside))
            else:
                _add_file(archive, entry)
        digest = archive.finish()
    except BaseException:
        spool.content.close()
        raise
    return Bundle(tree=found, digest=Digest(digest), size=archive.size, content=spool.content)


def walk(root: str, *, without: str | None = None) -> Tree:
    """Everything below `root` that travels, in a fixed order; the folder `without` does not."""
    entries: list[Entry] = []
    skipped: list[str] = []
    _walk(root, "", entries, skipped, _identity(without))
    entries.sort(key=lambda entry: os.fsencode(entry.name))
    files = [entry for entry in entries if stat.S_ISREG(entry.status.st_mode)]
    size = sum(entry.status.st_size for entry in files)
    if len(entries) > bundles.MAX_ENTRIES:
        raise _too_large(root, entries, f"holds more than {bundles.MAX_ENTRIES:,} files and folders")
    if size > bundles.MAX_UNPACKED_BYTES:
        raise _too_large(root, entries, f"holds more than {_gib(bundles.MAX_UNPACKED_BYTES)}")
    return Tree(entries=tuple(entries), skipped=tuple(sorted(skipped)), files=len(files), size_bytes=size)


def _identity(folder: str | None) -> tuple[int, int] | None:
    try:
        status = os.stat(folder) if folder else None
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if status else None


def _walk(
    folder: str, prefix: str, entries: list[Entry], skipped: list[str], without: tuple[int, int] | None
) -> None:
    try:
        with os.scandir(folder) as found:
            listed = list(found)
    except OSError as error:
        raise _unreadable(folder, error) from error
    for item in listed:
        if is_excluded(item.name):
            continue
        name = prefix + item.name
        try:
            status = item.stat(follow_symlinks=False)
        except OSError as error:
            raise _unreadable(item.path, error) from error
        if stat.S_IFMT(status.st_mode) not in _TRAVELS:
            skipped.append(name)
            continue
        is_folder = stat.S_ISDIR(status.st_mode)
        if is_folder and without == (status.st_dev, status.st_ino):
            continue
        _check_path(name, item.path)
        entries.append(Entry(name, item.path, status))
        if is_folder:
            _walk(item.path, name + "/", entries, skipped, without)


_TRAVELS = (stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK)


def _check_path(name: str, path: str) -> None:
    """`BadRequest` for a name that no agent would unpack."""
    fault = bundles.path_fault(name)
    if fault is not None:
        # Quoted, for what is wrong with it may be what cannot be shown.
        raise BadRequest(f"{path!r} {fault}: rename it or move it out of the upload directory")


def _add_file(archive: Archive, entry: Entry) -> None:
    """Pack a file as it is when opened; one that shrinks meanwhile is refused, growth is left out."""
    try:
        # O_NONBLOCK: a file that became a pipe since the walk must not hang us.
        descriptor = os.open(entry.path, os.O_RDONLY | _OPEN_FLAGS)
    except OSError as error:
        raise _unreadable(entry.path, error) from error
    with open(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BadRequest(f"{entry.path} changed while it was being packed: run the command again")
        executable = bool(status.st_mode & 0o100)
        archive.file(
            entry.name, _pieces(file, entry.path, status.st_size), size=status.st_size, executable=executable
        )


_OPEN_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def _pieces(file: FileIO, path: str, size: int) -> Iterator[bytes]:
    left = size
    while left:
        try:
            piece = file.read(min(left, _PIECE_BYTES))
        except OSError as error:
            raise _unreadable(path, error) from error
        if not piece:
            raise BadRequest(f"{path} shrank while it was being packed: run the command again")
        left -= len(piece)
        yield piece


def _link_target(entry: Entry, inside: str) -> str:
    """The target of a link that stays inside the directory, relative to the link."""
    try:
        target = os.readlink(entry.path)
    except OSError as error:
        raise _unreadable(entry.path, error) from error
    folder = os.path.realpath(os.path.dirname(entry.path))
    written = os.path.normpath(os.path.join(folder, target))
    # Both must hold: where the link's text leads, and where that ends when other links are followed.
    for end in (written, os.path.realpath(written)):
        if end != inside and not end.startswith(inside.rstrip(os.sep) + os.sep):
            raise BadRequest(
                f"{entry.path} is a link to {target}, outside the upload directory: copy the file there"
                " or upload a directory that holds both"
            )
    relative = os.path.relpath(written, folder) if os.path.isabs(target) else target
    relative = relative.replace(os.sep, "/")
    if (fault := bundles.path_fault(relative)) is not None:
        raise BadRequest(f"{entry.path} is a link whose target {fault}: make it lead elsewhere or remove it")
    return relative


def _unreadable(path: str, error: OSError) -> BadRequest:
    if isinstance(error, FileNotFoundError):
        return BadRequest(f"{path} vanished while it was being packed: run the command again")
    return BadRequest(
        f"{path} cannot be read ({error.strerror}): make it readable or upload another directory"
    )


def _too_large(root: str, entries: Iterable[Entry], what: str) -> TooLarge:
    files = [entry for entry in entries if stat.S_ISREG(entry.status.st_mode)]
    largest = sorted(files, key=lambda entry: -entry.status.st_size)[:10]
    listed = "\n".join(f"  {entry.status.st_size / 1e6:10.1f} MB  {entry.name}" for entry in largest)
    return TooLarge(f"{root} {what}, which is more than can be uploaded. The largest files:\n{listed}")


def _gib(count: int) -> str:
    return f"{count >> 30} GiB"
