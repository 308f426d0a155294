"""Blobs appear whole or not at all."""

import errno
import hashlib
import os
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from chisel_shared.contract.errors import BadRequest, NotFound, StorageFull, TooLarge
from chisel_shared.contract.files import FileKind
from chisel_shared.contract.ids import Digest, JobId, ProjectId
from chisel_storage.blobs import DiskBlobs, bundle_key, file_key, pack_key
from tests.support import full_disk

DATA = random.Random(1).randbytes(3_500_000)
SHA256 = Digest(hashlib.sha256(DATA).hexdigest())
KEY = bundle_key(ProjectId("p1"), SHA256)


async def pieces(data: bytes, *, size: int = 100_000, cut_at: int | None = None) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        if cut_at is not None and start >= cut_at:
            raise BadRequest("the upload was cut off")
        yield data[start : start + size]


@pytest.fixture
def blobs(tmp_path: Path) -> DiskBlobs:
    made = DiskBlobs(tmp_path)
    made.prepare()
    return made


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, len(DATA)])
async def test_what_is_put_is_found(blobs: DiskBlobs, tmp_path: Path, size: int) -> None:
    data = DATA[:size]
    stored = await blobs.put("bundles/x", pieces(data), limit_bytes=1 << 30)
    assert (stored.size_bytes, stored.sha256) == (size, hashlib.sha256(data).hexdigest())
    path = blobs.find("bundles/x")
    assert path is not None
    assert path.read_bytes() == data
    assert files(tmp_path) == [path]
    assert path.stat().st_mode & 0o077 == 0


async def test_an_upload_that_breaks_off_leaves_nothing(blobs: DiskBlobs, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="cut off"):
        await blobs.put(KEY, pieces(DATA, cut_at=2_000_000), limit_bytes=1 << 30)
    assert files(tmp_path) == []


async def test_another_sha256_than_promised_is_refused(blobs: DiskBlobs, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=f"{SHA256}"):
        await blobs.put(KEY, pieces(DATA[:-1]), limit_bytes=1 << 30, sha256=SHA256)
    assert files(tmp_path) == []


async def test_more_than_the_limit_is_refused_before_it_is_stored(blobs: DiskBlobs, tmp_path: Path) -> None:
    with pytest.raises(TooLarge, match="1,048,576 bytes"):
        await blobs.put(KEY, pieces(DATA), limit_bytes=1 << 20)
    assert files(tmp_path) == []


async def test_the_same_blob_twice_is_one(blobs: DiskBlobs, tmp_path: Path) -> None:
    for _ in range(2):
        await blobs.put(KEY, pieces(DATA), limit_bytes=1 << 30, sha256=SHA256)
    assert len(files(tmp_path)) == 1


async def test_what_a_crash_left_behind_is_dropped_at_start(blobs: DiskBlobs, tmp_path: Path) -> None:
    (tmp_path / "incoming" / "leftover").write_bytes(b"half")
    blobs.prepare()
    assert files(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
async def test_a_full_disk_is_said_and_healed_without_a_restart(
    blobs: DiskBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(descriptor: int, data: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr("chisel_storage.blobs.os.write", full)
        with pytest.raises(StorageFull):
            await blobs.put(KEY, pieces(DATA), limit_bytes=1 << 30, sha256=SHA256)
    assert files(tmp_path) == []
    await blobs.put(KEY, pieces(DATA), limit_bytes=1 << 30, sha256=SHA256)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with full_disk.small_disk(tmp_path / "small", size_bytes=2 << 20) as disk:
        yield disk.folder


async def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    blobs = DiskBlobs(small_disk)
    blobs.prepare()
    with pytest.raises(StorageFull):
        await blobs.put(KEY, pieces(DATA), limit_bytes=1 << 30, sha256=SHA256)
    assert files(small_disk) == []
    await blobs.put("bundles/small", pieces(DATA[:1_500_000]), limit_bytes=1 << 30)


async def test_a_reserve_is_left_for_others(small_disk: Path) -> None:
    blobs = DiskBlobs(small_disk, reserve_bytes=1 << 30)
    blobs.prepare()
    assert blobs.has_room()
    (small_disk / "others").write_bytes(bytes((2 << 20) - 90_000))  # a twentieth of 2 MiB is 104,857 bytes
    assert not blobs.has_room()
    with pytest.raises(StorageFull):
        await blobs.put("bundles/tiny", pieces(b"1"), limit_bytes=1 << 30)
    assert files(small_disk) == [small_disk / "others"]


@pytest.mark.parametrize(
    ("project", "digest"),
    [("p1", "../../etc/passwd"), ("..", SHA256), ("p1/x", SHA256), ("p1", SHA256.upper()), ("", SHA256)],
)
def test_only_ids_and_digests_become_paths(project: str, digest: str) -> None:
    with pytest.raises(NotFound):
        bundle_key(ProjectId(project), Digest(digest))
    with pytest.raises(NotFound):
        pack_key(ProjectId(project), Digest(digest))
    with pytest.raises(NotFound):
        file_key(FileKind.OUTPUT, JobId(project), 1, Digest(digest))
