"""Manifests and packs, over real HTTP and the real bus: what is kept, what is refused, what is missing."""

import pytest

from chisel_shared.contract.ids import Digest, ProjectId
from chisel_shared.contract.manifest import Folder, Manifest, encode
from chisel_shared.contract.messages import BundlePresence, HasBundle
from chisel_shared.runtime.bus import NatsBus
from chisel_storage import bundles as module
from chisel_storage.blobs import bundle_key, pack_key
from tests.support.packs import bundle, pack, sha256
from tests.support.storage import PROJECT, RunningStorage

MADE = bundle({"main.py": "print(1)", "pkg/data": b"\0" * 5000, "pkg/same": b"\0" * 5000, "empty": ""})
MANIFEST = f"/bundles/{PROJECT}/{MADE.digest}"


async def presence(bus: NatsBus, project: ProjectId = PROJECT) -> BundlePresence:
    return await bus.request(HasBundle(project_id=project, digest=MADE.digest))


async def test_a_bundle_is_there_when_its_manifest_and_all_packs_are(
    storage: RunningStorage, bus: NatsBus
) -> None:
    first, second = MADE.packs
    async with storage.http() as http:
        put = await http.put(MANIFEST, data=MADE.manifest)
        told = await put.json()
        assert (put.status, told["missing"]) == (202, [first, second])
        assert not (await presence(bus)).present
        await http.put(f"/packs/{PROJECT}/{second}", data=MADE.packs[second])
        assert (await (await http.put(MANIFEST, data=MADE.manifest)).json())["missing"] == [first]
        await http.put(f"/packs/{PROJECT}/{first}", data=MADE.packs[first])
        found = await presence(bus)
        assert (found.present, found.max_bytes, found.max_entries) == (True, 8 << 30, 100_000)
        again = await http.put(MANIFEST, data=MADE.manifest)
        assert (again.status, (await again.json())["missing"]) == (201, [])
        assert await (await http.get(MANIFEST)).read() == MADE.manifest
        got = await http.get(f"/packs/{PROJECT}/{first}")
        assert (await got.read(), got.headers["X-Chisel-Sha256"]) == (MADE.packs[first], first)


async def test_another_project_has_neither_manifest_nor_packs(storage: RunningStorage, bus: NatsBus) -> None:
    other = ProjectId("project-2")
    async with storage.http() as http:
        await http.put(MANIFEST, data=MADE.manifest)
        for digest, content in MADE.packs.items():
            await http.put(f"/packs/{PROJECT}/{digest}", data=content)
            assert (await http.get(f"/packs/{other}/{digest}")).status == 404
        assert (await http.get(MANIFEST.replace(PROJECT, other))).status == 404
        assert not (await presence(bus, other)).present
        put = await http.put(MANIFEST.replace(PROJECT, other), data=MADE.manifest)
        assert (put.status, (await put.json())["missing"]) == (202, list(MADE.packs))
        assert not (await presence(bus, other)).present


@pytest.mark.parametrize("lost", ["pack", "manifest"])
async def test_what_the_disk_lost_is_asked_for_again(
    storage: RunningStorage, bus: NatsBus, lost: str
) -> None:
    digest = Digest(next(iter(MADE.packs)))
    async with storage.http() as http:
        await http.put(MANIFEST, data=MADE.manifest)
        for name, content in MADE.packs.items():
            await http.put(f"/packs/{PROJECT}/{name}", data=content)
        key = pack_key(PROJECT, digest) if lost == "pack" else bundle_key(PROJECT, MADE.digest)
        path = storage.blobs.find(key)
        assert path is not None
        path.unlink()
        assert not (await presence(bus)).present
        missing = (await (await http.put(MANIFEST, data=MADE.manifest)).json())["missing"]
        assert missing == ([digest] if lost == "pack" else [])
        await http.put(f"/packs/{PROJECT}/{digest}", data=MADE.packs[digest])
        assert (await presence(bus)).present


async def test_wrong_digests_and_sizes_are_refused(
    storage: RunningStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, content = pack(b"x" * 100)
    path = f"/packs/{PROJECT}/{digest}"
    async with storage.http() as http:
        wrong = await http.put(path, data=content + b"x")
        assert (wrong.status, (await wrong.json())["error"]["code"]) == (400, "bad_request")
        wrong = await http.put(f"/bundles/{PROJECT}/{digest}", data=MADE.manifest)
        assert (wrong.status, (await wrong.json())["error"]["code"]) == (400, "bad_request")
        monkeypatch.setattr(module, "MAX_PACK_BYTES", 50)
        monkeypatch.setattr(module, "MAX_MANIFEST_BYTES", 50)
        for where, body in ((path, content), (MANIFEST, MADE.manifest)):
            large = await http.put(where, data=body)
            assert (large.status, (await large.json())["error"]["code"]) == (413, "too_large")
            assert (await http.get(where)).status == 404
        for where in ("/bundles/p/../../etc/passwd", "/packs/p/xyz", "/packs/A/" + digest, "/nothing"):
            assert (await http.put(where, data=b"")).status in (404, 405)


async def test_what_an_agent_would_refuse_is_not_kept(storage: RunningStorage) -> None:
    async with storage.http() as http:
        for encoded in (b"{}", b"\xff", encode(Manifest(1, (), (Folder("../up"),)))):
            put = await http.put(f"/bundles/{PROJECT}/{sha256(encoded)}", data=encoded)
            assert (put.status, (await put.json())["error"]["code"]) == (400, "bad_request")
            assert (await http.get(f"/bundles/{PROJECT}/{sha256(encoded)}")).status == 404


async def test_the_servers_own_limits_hold(storage: RunningStorage) -> None:
    storage.bundles._max_entries, storage.bundles._max_bytes = 3, 6000
    for made in (MADE, bundle({"a": b"1" * 6001})):
        async with storage.http() as http:
            put = await http.put(f"/bundles/{PROJECT}/{made.digest}", data=made.manifest)
        assert put.status == 413
