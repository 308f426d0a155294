"""The file a token is kept in."""

import os
import stat
import threading
from pathlib import Path

import pytest

from chisel_auth.token_file import BadTokenFile, ensure
from chisel_auth.tokens import Kind, make


def test_a_missing_file_is_made_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "key"
    token = ensure(path, Kind.USER)
    assert path.read_text() == token.text + "\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]
    assert ensure(path, Kind.USER) == token


def test_a_loose_umask_does_not_loosen_it(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        ensure(tmp_path / "key", Kind.JOIN)
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_a_token_that_is_there_is_adopted(tmp_path: Path) -> None:
    token = make(Kind.JOIN)
    path = tmp_path / "token"
    path.write_text(f"  {token.text}\n\n")
    assert ensure(path, Kind.JOIN) == token
    assert path.read_text() == f"  {token.text}\n\n"


@pytest.mark.parametrize("content", ["", "\n", "changeme", make(Kind.JOIN).text, make(Kind.USER).text[:-1]])
def test_anything_else_is_refused_and_not_repeated(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key"
    path.write_text(content)
    with pytest.raises(BadTokenFile) as raised:
        ensure(path, Kind.USER)
    assert str(path) in str(raised.value)
    assert not content.strip() or content.strip() not in str(raised.value)
    assert path.read_text() == content


def test_many_that_start_at_once_agree(tmp_path: Path) -> None:
    path = tmp_path / "key"
    found: list[str] = []
    together = threading.Barrier(8)

    def start() -> None:
        together.wait()
        found.append(ensure(path, Kind.USER).text)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert set(found) == {path.read_text().strip()}
    assert list(tmp_path.iterdir()) == [path]
