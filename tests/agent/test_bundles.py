"""The cache of bundles, with a source that is a function."""

import hashlib
from pathlib import Path

import pytest

from chisel_agent import bundles
from chisel_agent.bundles import Bundles
from chisel_shared.contract.errors import ChiselError, NotFound, StorageFull, Unavailable
from chisel_shared.contract.ids import Digest, ProjectId
from tests.agent.world import PROJECT


class Source:
    """Every pack is its own digest; `troubles` come first."""

    def __init__(self) -> None:
        self.troubles: list[ChiselError] = []
        self.fetched = 0

    async def fetch_bundle(self, project: ProjectId, digest: Digest, into: Path) -> int:
        return await self.fetch_pack(project, digest, into)

    async def fetch_pack(self, project: ProjectId, digest: Digest, into: Path) -> int:
        if self.troubles:
            raise self.troubles.pop(0)
        self.fetched += 1
        return into.write_text(digest)  # noqa: ASYNC240 - a few bytes


def digest(name: str) -> Digest:
    return Digest(hashlib.sha256(name.encode()).hexdigest())


async def test_one_that_gives_way_to_another_stays_readable(tmp_path: Path) -> None:
    source = Source()
    cache = Bundles(folder=tmp_path, source=source, max_bytes=0)
    with await cache.pack(PROJECT, digest("a")) as first, await cache.pack(PROJECT, digest("b")) as second:
        assert first.read() == digest("a").encode()
        assert second.read() == digest("b").encode()
    with await cache.pack(PROJECT, digest("b")):
        assert source.fetched == 2
    with await cache.pack(PROJECT, digest("a")):
        assert source.fetched == 3


async def test_what_may_pass_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "_RETRY_SECONDS", (0.0,))
    source = Source()
    source.troubles = [Unavailable(), StorageFull(), Unavailable()]
    cache = Bundles(folder=tmp_path, source=source, max_bytes=0)
    with await cache.pack(PROJECT, digest("a")) as bundle:
        assert bundle.read() == digest("a").encode()


async def test_what_does_not_pass_is_said_at_once(tmp_path: Path) -> None:
    source = Source()
    source.troubles = [NotFound()]
    with pytest.raises(NotFound):
        await Bundles(folder=tmp_path, source=source, max_bytes=0).pack(PROJECT, digest("a"))
