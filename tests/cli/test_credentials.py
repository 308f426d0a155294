"""The credentials file: what it may look like, what is mended, what is refused."""

import json
import os
import stat
from pathlib import Path

import pytest

from chisel import credentials
from chisel.credentials import InsecureCredentials, Stored
from chisel_shared.contract.errors import BadRequest


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / ".chisel"


@pytest.fixture
def file(folder: Path) -> Path:
    credentials.store("http://h", "k")
    return folder / "credentials.json"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_it_is_made_for_its_owner_alone(folder: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        credentials.store("http://h", "k")
    finally:
        os.umask(before)
    assert (mode(folder), mode(folder / "credentials.json")) == (0o700, 0o600)
    assert [path.name for path in folder.iterdir()] == ["credentials.json"]


def test_backends_lie_side_by_side(file: Path) -> None:
    credentials.store("http://a", "1")
    credentials.store("http://b", "2")
    assert credentials.read() == Stored({"http://h": "k", "http://a": "1", "http://b": "2"}, "http://b")
    credentials.forget("http://a")
    assert credentials.read() == Stored({"http://h": "k", "http://b": "2"}, "http://b")
    credentials.forget("http://b")
    assert credentials.read() == Stored({"http://h": "k"}, "http://h")
    credentials.forget("http://nowhere")
    credentials.forget("http://h")
    assert credentials.read() == Stored({})
    assert not file.exists()


READABLE = [0o644, 0o640, 0o604, 0o711, 0o755, 0o600]
WRITABLE = [0o660, 0o606, 0o666, 0o620, 0o777]


@pytest.mark.parametrize("found", READABLE)
def test_others_rights_to_read_are_taken_back(file: Path, found: int) -> None:
    file.chmod(found)
    assert credentials.read().keys == {"http://h": "k"}
    assert mode(file) == 0o600


@pytest.mark.parametrize("found", WRITABLE)
def test_what_others_could_write_is_refused(file: Path, found: int) -> None:
    file.chmod(found)
    for act in (credentials.read, credentials.prepare, lambda: credentials.store("http://h", "k2")):
        with pytest.raises(InsecureCredentials, match="can be written by other users"):
            act()
    assert mode(file) == found
    credentials.clear()
    assert not file.exists()


@pytest.mark.parametrize("found", [0o755, 0o775, 0o777, 0o750, 0o701])
def test_a_folder_that_is_too_open_is_closed(file: Path, folder: Path, found: int) -> None:
    folder.chmod(found)
    assert credentials.read().keys == {"http://h": "k"}
    assert mode(folder) == 0o700


def test_no_link_is_followed(file: Path, folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(file.read_bytes())
    file.unlink()
    file.symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    with pytest.raises(InsecureCredentials, match="cannot be read"):
        credentials.read()
    with pytest.raises(InsecureCredentials):
        credentials.store("http://h", "k2")
    credentials.clear()
    assert elsewhere.read_bytes() == before
    assert not file.is_symlink()


def test_a_folder_that_is_a_link_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    folder.symlink_to(tmp_path / "real")
    for act in (credentials.read, credentials.prepare, credentials.clear):
        with pytest.raises(InsecureCredentials, match="is a link"):
            act()
    assert list((tmp_path / "real").iterdir()) == []


def test_what_is_no_file_is_refused(file: Path) -> None:
    file.unlink()
    os.mkfifo(file, 0o600)
    with pytest.raises(InsecureCredentials, match="is not a file"):
        credentials.read()


def test_another_users_file_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(InsecureCredentials, match="belongs to another user"):
        credentials.read()


DAMAGED = ["", "[]", "{", '{"keys": []}', '{"keys": {"a": 1}}', '{"backend": 3}', '"x"', "\udcff"]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_file_is_named(file: Path, content: str) -> None:
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadRequest, match=r"credentials\.json is damaged: run `chisel --logout`"):
        credentials.read()
    credentials.clear()
    assert credentials.read() == Stored({})


def test_a_write_that_fails_leaves_the_old_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadRequest, match="No space left"):
        credentials.store("http://h", "k2")
    assert json.loads(file.read_text())["keys"] == {"http://h": "k"}
    assert [path.name for path in file.parent.iterdir()] == ["credentials.json"]


def test_a_system_without_descriptors_for_folders(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "_POSIX", False)
    assert credentials.read() == Stored({})
    credentials.store("http://h", "k")
    credentials.store("http://a", "1")
    assert credentials.read() == Stored({"http://h": "k", "http://a": "1"}, "http://a")
    credentials.clear()
    assert credentials.read() == Stored({})
