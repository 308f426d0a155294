"""Bundles made by hand with the standard library: what the client would send, byte for byte checkable."""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass

from chisel_shared.contract import manifest
from chisel_shared.contract.bundles import CHUNK_BYTES
from chisel_shared.contract.ids import Digest
from chisel_shared.contract.manifest import Chunk, Entry, File, Folder, Manifest, Pack


@dataclass(frozen=True)
class HandMade:
    """A manifest's bytes and its packs by digest."""

    manifest: bytes
    packs: dict[str, bytes]

    @property
    def digest(self) -> Digest:
        return manifest.digest(self.manifest)


def sha256(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).hexdigest())


def pack(*contents: bytes) -> tuple[Digest, bytes]:
    """One pack of these chunks and its digest."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for content in contents:
            member = tarfile.TarInfo(sha256(content))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    packed = gzip.compress(raw.getvalue(), mtime=0)
    return sha256(packed), packed


def members(packed: bytes) -> dict[str, bytes]:
    """What a pack holds, by name."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
        for member in archive:
            content = archive.extractfile(member)
            assert content is not None
            found[member.name] = content.read()
    return found


def bundle(files: Mapping[str, str | bytes], *extra: Entry) -> HandMade:
    """A bundle of small `files`, each in a pack of its own, and the folders they need."""
    packs: dict[str, bytes] = {}
    entries: dict[str, Entry] = {entry.path: entry for entry in extra}
    for path, text in files.items():
        content = text.encode() if isinstance(text, str) else text
        assert len(content) <= CHUNK_BYTES
        folder = path.rpartition("/")[0]
        while folder:
            entries[folder] = Folder(folder)
            folder = folder.rpartition("/")[0]
        chunks: tuple[Chunk, ...] = ()
        if content:
            digest, data = pack(content)
            packs.setdefault(digest, data)
            chunks = (Chunk(sha256(content), list(packs).index(digest)),)
        entries[path] = File(path, executable=False, size=len(content), chunks=chunks)
    made = Manifest(
        version=manifest.VERSION,
        packs=tuple(Pack(Digest(digest), len(data)) for digest, data in packs.items()),
        entries=tuple(sorted(entries.values(), key=lambda entry: entry.path.encode())),
    )
    return HandMade(manifest.encode(made), packs)
