"""What the tests' gateway was sent: manifests and packs by digest, and how it takes them."""

import hashlib

from aiohttp import web

from chisel_shared.contract import manifest
from tests.cli.script import Script
from tests.support.packs import members


class Stored:
    """`bundles` are manifests. `script` says how uploads go wrong."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.bundles: dict[str, bytes] = {}
        self.packs: dict[str, bytes] = {}

    def missing(self, encoded: bytes) -> list[str]:
        """The packs that are still to come for a manifest."""
        return [pack.sha256 for pack in manifest.decode(encoded).packs if pack.sha256 not in self.packs]

    def unpacked(self, bundle: str) -> dict[str, bytes]:
        """Every file of a bundle, by path, as an agent would get it."""
        listed = manifest.decode(self.bundles[bundle])
        packs = [members(self.packs[pack.sha256]) for pack in listed.packs]
        return {
            entry.path: b"".join(packs[chunk.pack][chunk.sha256] for chunk in entry.chunks)
            for entry in listed.entries
            if isinstance(entry, manifest.File)
        }

    async def put_bundle(self, request: web.Request) -> web.StreamResponse:
        encoded = await self._take(request)
        if isinstance(encoded, web.StreamResponse):
            return encoded
        if not self.script.forgets_bundles:
            self.bundles[request.match_info["digest"]] = encoded
        missing = self.missing(encoded)
        return web.json_response({"missing": missing}, status=202 if missing else 201)

    async def put_pack(self, request: web.Request) -> web.StreamResponse:
        content = await self._take(request)
        if isinstance(content, web.StreamResponse):
            return content
        if not self.script.forgets_bundles:
            self.packs[request.match_info["digest"]] = content
        return web.Response(status=201)

    async def _take(self, request: web.Request) -> bytes | web.StreamResponse:
        """The body, or the refusal that a test asked for."""
        if self.script.reject_upload:
            return refusal(self.script.reject_upload, "storage_full", "there is no space left")
        content = b""
        cut = self.script.cut_uploads > 0
        async for piece in request.content.iter_chunked(1 << 16):
            content += piece
            if cut:
                self.script.cut_uploads -= 1
                drop(request)
                return web.Response()
        if hashlib.sha256(content).hexdigest() != request.match_info["digest"]:
            return refusal(400, "bad_request", "the content is not what its name says")
        return content


def refusal(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message}}, status=status)


def drop(request: web.Request) -> None:
    """End the connection as a killed process does."""
    assert request.transport is not None
    request.transport.abort()
