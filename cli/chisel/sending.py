"""Sending a bundle: the manifest, then the packs that the backend says it lacks, then no more."""

from collections.abc import Generator

import msgspec

from chisel.api import Api
from chisel.bundle import Bundle
from chisel_shared.contract.errors import InternalError

_PIECE_BYTES = 256 * 1024
_PLANS = 3
"""A pack that cannot be made again costs a new plan; one that was just made can be sent."""


class _Stored(msgspec.Struct):
    missing: tuple[str, ...] = ()


def send(bundle: Bundle, api: Api) -> Generator[tuple[int, int], None, None]:
    """Send what the backend lacks; yields the bytes sent so far and all there are to send. What it has got
    already, by an earlier try too, is not sent again. The bundle may have another digest afterwards."""
    for _ in range(_PLANS):
        answer = api.put_bytes(f"/api/v1/bundles/{bundle.digest}", bundle.manifest)
        missing = msgspec.json.decode(answer, type=_Stored).missing
        if (yield from _send_packs(bundle, api, missing)):
            bundle.stored()
            return
    raise InternalError("the backend asks again and again for packs that it was given")


def _send_packs(bundle: Bundle, api: Api, missing: tuple[str, ...]) -> Generator[tuple[int, int], None, bool]:
    total = sum(bundle.packs[digest].size for digest in missing)
    sent = 0
    gone = []
    for digest in missing:
        content = bundle.content(digest)
        if content is None:
            gone.append(digest)
            continue
        pieces = [content[at : at + _PIECE_BYTES] for at in range(0, len(content), _PIECE_BYTES)]
        for part in api.upload(f"/api/v1/packs/{digest}", len(content), pieces):
            yield sent + part, total
        sent += len(content)
    if gone:
        bundle.forget(gone)
    return not gone
