"""Bundles: manifests and the packs they need. A bundle is there when its manifest and all packs are.

A manifest is checked before it is kept, so whatever is present here can be unpacked by an agent, unless a
pack does not hold what its manifest says, which only the agent can see. Each project has its own: knowing
the digest of another's pack gives nobody its content.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from pathlib import Path

from chisel_shared.contract import manifest
from chisel_shared.contract.bundles import MAX_MANIFEST_BYTES, MAX_PACK_BYTES
from chisel_shared.contract.errors import BadRequest, NotFound, TooLarge
from chisel_shared.contract.ids import Digest, ProjectId, is_digest, is_id
from chisel_shared.contract.messages import BundlePresence, HasBundle
from chisel_shared.runtime.logs import Log
from chisel_storage.blobs import Blob, Blobs, bundle_key, pack_key
from chisel_storage.store import Store

log = Log("chisel.storage.bundles")


class Bundles:
    """`max_bytes` and `max_entries` bound the files of one bundle."""

    def __init__(self, *, blobs: Blobs, store: Store, max_bytes: int, max_entries: int) -> None:
        self._blobs = blobs
        self._store = store
        self._max_bytes = max_bytes
        self._max_entries = max_entries

    async def presence(self, ask: HasBundle) -> BundlePresence:
        """Whether the project has the whole bundle, and what a bundle may be here."""
        present = False
        if is_id(ask.project_id) and is_digest(ask.digest):
            packs = await self._store.packs_of(ask.project_id, ask.digest)
            on_disk = self._blobs.find(bundle_key(ask.project_id, ask.digest)) is not None
            present = on_disk and packs is not None and not await self._missing(ask.project_id, packs)
        return BundlePresence(present=present, max_bytes=self._max_bytes, max_entries=self._max_entries)

    async def put_manifest(
        self, project_id: ProjectId, digest: Digest, body: AsyncIterable[bytes]
    ) -> tuple[Blob, tuple[Digest, ...]]:
        """Keep a manifest; also returns the packs that are still to come, in the manifest's order."""
        key = bundle_key(project_id, digest)
        encoded = await _whole(body, MAX_MANIFEST_BYTES)
        if (found := manifest.digest(encoded)) != digest:
            raise BadRequest(f"what arrived has the sha256 {found}, not {digest}")
        checked = await asyncio.to_thread(
            manifest.decode, encoded, max_entries=self._max_entries, max_bytes=self._max_bytes
        )
        blob = await self._blobs.put(key, _once(encoded), limit_bytes=MAX_MANIFEST_BYTES, sha256=digest)
        packs = [pack.sha256 for pack in checked.packs]
        await self._store.add_bundle(project_id, digest, blob.size_bytes, packs)
        missing = await self._missing(project_id, packs)
        log.info("manifest_stored", digest=digest, packs=len(packs), missing=len(missing))
        return blob, missing

    async def put_pack(self, project_id: ProjectId, digest: Digest, body: AsyncIterable[bytes]) -> Blob:
        key = pack_key(project_id, digest)
        blob = await self._blobs.put(key, body, limit_bytes=MAX_PACK_BYTES, sha256=digest)
        await self._store.add_pack(project_id, digest, blob.size_bytes)
        log.info("pack_stored", digest=digest, size_bytes=blob.size_bytes)
        return blob

    async def find_manifest(self, project_id: ProjectId, digest: Digest) -> Path:
        path = self._blobs.find(bundle_key(project_id, digest))
        if path is None or await self._store.packs_of(project_id, digest) is None:
            raise NotFound(f"there is no bundle {digest} in this project")
        return path

    async def find_pack(self, project_id: ProjectId, digest: Digest) -> Path:
        path = self._blobs.find(pack_key(project_id, digest))
        if path is None or not await self._store.known_packs(project_id, [digest]):
            raise NotFound(f"there is no pack {digest} in this project")
        return path

    async def _missing(self, project_id: ProjectId, packs: Iterable[Digest]) -> tuple[Digest, ...]:
        wanted = tuple(packs)
        known = await self._store.known_packs(project_id, wanted)
        return tuple(
            pack
            for pack in wanted
            if pack not in known or self._blobs.find(pack_key(project_id, pack)) is None
        )


async def _whole(body: AsyncIterable[bytes], limit_bytes: int) -> bytes:
    pieces, size = [], 0
    async for piece in body:
        size += len(piece)
        if size > limit_bytes:
            raise TooLarge(f"the server takes at most {limit_bytes:,} bytes here")
        pieces.append(piece)
    return b"".join(pieces)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
