"""What a bundle is: a list of what lies where, and of the packs that hold the content.

A manifest's bytes are canonical, and their sha256 names the bundle, so a bundle never changes. Content
travels in packs, each a gzipped tar whose members are chunks of files, named by their own sha256: a file
that was renamed, or is there twice, is sent once. Storage checks a manifest before it keeps it, an agent
before it unpacks it.
"""

import hashlib
from typing import Union

import msgspec

from chisel_shared.contract import bundles
from chisel_shared.contract.bundles import CHUNK_BYTES, path_fault
from chisel_shared.contract.errors import BadRequest, TooLarge
from chisel_shared.contract.ids import Digest, is_digest

VERSION = 1


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """A piece of a file: its sha256, and the pack that holds it as a place in the manifest's `packs`.

    Every chunk but a file's last has `CHUNK_BYTES`.
    """

    sha256: Digest
    pack: int


class Folder(msgspec.Struct, frozen=True, array_like=True, tag="d"):
    path: str


class Link(msgspec.Struct, frozen=True, array_like=True, tag="l"):
    """A symbolic link; `target` is relative to the folder the link is in."""

    path: str
    target: str


class File(msgspec.Struct, frozen=True, array_like=True, tag="f"):
    """A file: its mode is 0755 when `executable`, else 0644. An empty one has no chunks."""

    path: str
    executable: bool
    size: int
    chunks: tuple[Chunk, ...] = ()


Entry = Union[Folder, Link, File]


class Pack(msgspec.Struct, frozen=True, array_like=True):
    """A pack by the sha256 of its gzipped bytes."""

    sha256: Digest
    size: int


class Manifest(msgspec.Struct, frozen=True):
    """Paths are POSIX and relative, in the order of their bytes; every folder is an entry of its own."""

    version: int
    packs: tuple[Pack, ...]
    entries: tuple[Entry, ...]


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Manifest)


def encode(manifest: Manifest) -> bytes:
    """The one form in which a manifest has a digest."""
    return _encoder.encode(manifest)


def digest(encoded: bytes) -> Digest:
    """The name of the bundle that `encoded` describes."""
    return Digest(hashlib.sha256(encoded).hexdigest())


def decode(
    encoded: bytes, *, max_entries: int = bundles.MAX_ENTRIES, max_bytes: int = bundles.MAX_UNPACKED_BYTES
) -> Manifest:
    """A manifest that may be believed; `BadRequest` or `TooLarge` says why it may not."""
    try:
        manifest = _decoder.decode(encoded)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise BadRequest(f"the manifest cannot be read: {error}") from error
    if manifest.version != VERSION:
        raise BadRequest(f"the manifest has version {manifest.version}, and only {VERSION} is known here")
    if encode(manifest) != encoded:
        raise BadRequest("the manifest is not in canonical form")
    if len(manifest.entries) > max_entries:
        raise TooLarge(f"the server takes at most {max_entries:,} files and folders")
    if sum(entry.size for entry in manifest.entries if isinstance(entry, File)) > max_bytes:
        raise TooLarge(f"the server takes at most {max_bytes:,} bytes of files")
    _check_packs(manifest.packs)
    _check_entries(manifest)
    return manifest


def plain_path_fault(path: str) -> str | None:
    """What forbids `path` as the place of an entry; None when it can only mean one place below a root."""
    if not path or path.startswith("/") or not all(parts := path.split("/")):
        return "is not a plain relative path"
    if "." in parts or ".." in parts:
        return "is not a plain relative path"
    return path_fault(path)


def _check_packs(packs: tuple[Pack, ...]) -> None:
    if len({pack.sha256 for pack in packs}) != len(packs):
        raise BadRequest("the manifest names a pack twice")
    for pack in packs:
        if not is_digest(pack.sha256):
            raise BadRequest("the manifest names a pack that is no sha256")
        if not 0 < pack.size <= bundles.MAX_PACK_BYTES:
            raise TooLarge(f"a pack has at most {bundles.MAX_PACK_BYTES:,} bytes")


def _check_entries(manifest: Manifest) -> None:
    folders = {""}
    last = b""
    used: set[int] = set()
    for entry in manifest.entries:
        path = entry.path
        if (fault := plain_path_fault(path)) is not None:
            raise BadRequest(f"{path[:80]!r} {fault}")
        encoded = path.encode()
        if encoded <= last:
            raise BadRequest(f"{path[:80]!r} is in the manifest twice or out of order")
        last = encoded
        if path.rpartition("/")[0] not in folders:
            raise BadRequest(f"{path[:80]!r} lies in a folder that the manifest does not have")
        match entry:
            case Folder():
                folders.add(path)
            case Link(target=target):
                if not target or target.startswith("/") or path_fault(target) is not None:
                    raise BadRequest(f"the link {path[:80]!r} does not lead to a relative path")
            case File():
                _check_file(entry, len(manifest.packs))
                used.update(chunk.pack for chunk in entry.chunks)
    if len(used) != len(manifest.packs):
        raise BadRequest("the manifest names a pack that no file needs")


def _check_file(file: File, packs: int) -> None:
    if file.size < 0 or len(file.chunks) != -(-file.size // CHUNK_BYTES):
        raise BadRequest(f"the size of {file.path[:80]!r} does not fit its chunks")
    for chunk in file.chunks:
        if not is_digest(chunk.sha256) or not 0 <= chunk.pack < packs:
            raise BadRequest(f"{file.path[:80]!r} has a chunk that is nowhere")
