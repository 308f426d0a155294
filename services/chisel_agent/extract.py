"""Unpacks a bundle into a new folder: what its manifest lists, byte for byte, and nothing else.

Paths come from the manifest, which was checked when it was read; a pack only says which bytes have which
sha256. Files are opened with O_NOFOLLOW while the tree holds no link at all; links come last, and each
must then lead to a place inside. Owners, times, and modes but the x-bit do not travel.
"""

import hashlib
import os
import threading
from pathlib import Path
from typing import BinaryIO, NamedTuple

from chisel_agent.records import write_all
from chisel_agent.tar import BadArchive, Gunzip, Member, members
from chisel_shared.contract.bundles import CHUNK_BYTES, MAX_PACK_BYTES
from chisel_shared.contract.ids import Digest
from chisel_shared.contract.manifest import File, Folder, Link, Manifest

_COPY_BYTES = 1 << 20


class Cancelled(Exception):
    """Whoever asked for it no longer wants it."""


class _Place(NamedTuple):
    """Where a chunk belongs: a file, by its path and mode, and the chunk's offset and size in it."""

    path: str
    executable: bool
    offset: int
    size: int


class Extraction:
    """One bundle being unpacked: `begin`, then `unpack` for each pack in any order, then `finish`.

    Every method blocks on the disk. `BadArchive` says what is wrong with the bundle, `OSError` what the
    disk said, `Cancelled` that `cancelled` was set; what is half done is the caller's to remove.
    """

    def __init__(self, manifest: Manifest, into: Path, *, cancelled: threading.Event) -> None:
        self._manifest = manifest
        self._root = str(into)
        self._cancelled = cancelled
        self._wanted: list[dict[Digest, list[_Place]]] = [{} for _ in manifest.packs]
        for entry in manifest.entries:
            if not isinstance(entry, File):
                continue
            for number, chunk in enumerate(entry.chunks):
                offset = number * CHUNK_BYTES
                place = _Place(entry.path, entry.executable, offset, min(CHUNK_BYTES, entry.size - offset))
                self._wanted[chunk.pack].setdefault(chunk.sha256, []).append(place)

    def begin(self) -> None:
        """Make the folders and the files that are empty."""
        os.mkdir(self._root, 0o755)
        for entry in self._manifest.entries:
            match entry:
                case Folder(path=path):
                    os.mkdir(f"{self._root}/{path}", 0o755)
                case File(path=path, executable=executable, chunks=()):
                    os.close(self._open(_Place(path, executable, 0, 0)))
            self._check_cancelled()

    def unpack(self, number: int, archive: BinaryIO) -> None:
        """Write what the pack with this number in the manifest holds, where it belongs."""
        wanted = self._wanted[number]
        stream = Gunzip(archive, self._check_bytes)
        for member in members(stream):
            places = wanted.pop(Digest(member.name), None)
            if places is None:
                stream.copy(member.size, lambda data: None)  # of a file that is not in this bundle any more
            else:
                self._write(stream, member, places)
        if wanted:
            raise BadArchive(
                f"{next(iter(wanted.values()))[0].path!r} is not in the pack that should have it"
            )

    def finish(self) -> None:
        """Make the links, once every file is there."""
        links = [entry for entry in self._manifest.entries if isinstance(entry, Link)]
        for link in links:
            os.symlink(link.target, f"{self._root}/{link.path}")
        for link in links:
            self._check_link(link.path)

    def _write(self, stream: Gunzip, member: Member, places: list[_Place]) -> None:
        first, *others = places
        if any(member.size != place.size for place in places):
            raise BadArchive(f"{first.path!r} has another size than its manifest says")
        sha256 = hashlib.sha256()
        descriptor = self._open(first)
        try:
            os.lseek(descriptor, first.offset, os.SEEK_SET)

            def write(data: bytes) -> None:
                sha256.update(data)
                write_all(descriptor, data)

            stream.copy(member.size, write)
            if sha256.hexdigest() != member.name:
                raise BadArchive(f"the content of {first.path!r} is not what its manifest says")
            for place in others:
                self._copy(descriptor, first, place)
        finally:
            os.close(descriptor)

    def _copy(self, source: int, first: _Place, place: _Place) -> None:
        self._check_cancelled()
        descriptor = self._open(place)
        try:
            os.lseek(descriptor, place.offset, os.SEEK_SET)
            done = 0
            while done < place.size:
                data = os.pread(source, min(_COPY_BYTES, place.size - done), first.offset + done)
                write_all(descriptor, data)
                done += len(data)
        finally:
            os.close(descriptor)

    def _open(self, place: _Place) -> int:
        """The file of a place: new, unless another chunk of it came first. No link is there to follow."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(f"{self._root}/{place.path}", flags, 0o755 if place.executable else 0o644)

    def _check_bytes(self, written: int) -> None:
        self._check_cancelled()
        if written > MAX_PACK_BYTES:
            raise BadArchive(f"a pack unpacks to more than {MAX_PACK_BYTES:,} bytes")

    def _check_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise Cancelled

    def _check_link(self, path: str) -> None:
        """Follow it for real: what a chain of links means cannot be read from their texts."""
        root = os.path.realpath(self._root)
        real = os.path.realpath(f"{self._root}/{path}")
        if real != root and not real.startswith(root + "/"):
            raise BadArchive(f"the link {path!r} leads outside")
