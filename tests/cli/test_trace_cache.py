"""Traces that are kept here: fetched once, forgotten when they are too many."""

import os
from pathlib import Path

import pytest

from chisel.trace_cache import TraceCache


class Backend:
    def __init__(self, size: int) -> None:
        self.size, self.asked = size, 0

    def __call__(self, folder: str) -> str:
        self.asked += 1
        path = os.path.join(folder, "t.json.gz")
        Path(path).write_bytes(b"x" * self.size)
        return path


def test_what_was_fetched_is_not_fetched_again(tmp_path: Path) -> None:
    cache, backend = TraceCache(str(tmp_path)), Backend(10)
    first = cache.get("a" * 64, "t.json.gz", backend)
    assert cache.get("a" * 64, "t.json.gz", backend) == first
    assert (backend.asked, Path(first).stat().st_size) == (1, 10)


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache, backend = TraceCache(str(tmp_path), max_bytes=250), Backend(100)
    for name in "abc":
        cache.get(name, "t.json.gz", backend)
    for age, name in enumerate("bca"):
        os.utime(tmp_path / name, (1000 + age, 1000 + age))
    cache.trim()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a", "c"]


def test_what_is_in_use_stays(tmp_path: Path) -> None:
    cache, backend = TraceCache(str(tmp_path), max_bytes=50), Backend(100)
    cache.get("a", "t.json.gz", backend)
    cache.trim(keep=frozenset("a"))
    assert (tmp_path / "a").exists()
    cache.trim()
    assert not (tmp_path / "a").exists()


def test_a_download_that_failed_is_none(tmp_path: Path) -> None:
    def fails(folder: str) -> str:
        raise OSError("gone")

    cache = TraceCache(str(tmp_path))
    with pytest.raises(OSError, match="gone"):
        cache.get("a", "t.json.gz", fails)
    backend = Backend(1)
    cache.get("a", "t.json.gz", backend)
    assert backend.asked == 1


def test_nothing_kept_is_nothing_to_forget(tmp_path: Path) -> None:
    TraceCache(str(tmp_path / "never")).trim()
    assert not (tmp_path / "never").exists()
