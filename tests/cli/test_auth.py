"""Keys: where they come from, and the file that keeps them."""

import json
import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from chisel import auth, settings
from chisel.auth import InsecureCredentials, authenticate, clear_credentials, is_authenticated
from chisel_shared.contract.errors import BadRequest
from tests.cli.gateway import KEY, Gateway

FAILED = "❌ Authentication failed. Unable to get valid API key."


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CHISEL_API_KEY", raising=False)
    monkeypatch.delenv("CHISEL_BACKEND_URL", raising=False)
    monkeypatch.setattr(settings, "local_backend", lambda: None)
    return tmp_path / ".chisel"


class Terminal:
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "sys", SimpleNamespace(stdin=Terminal(), stderr=Terminal()))


def answer(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setattr(auth, "_ask", lambda url: key)


def test_nobody_is_authenticated_at_first() -> None:
    assert not is_authenticated()


def test_the_environment_comes_first_and_is_not_stored(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    auth._store("http://h", "stored")
    assert authenticate("http://h") == "stored"
    monkeypatch.setenv("CHISEL_API_KEY", "given")
    assert is_authenticated()
    assert authenticate("http://h") == "given"
    assert "given" not in (folder / "credentials.json").read_text()


def test_the_embedded_stack_brings_its_own_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "local_backend", lambda: settings.Backend("http://127.0.0.1:8000", "own"))
    assert is_authenticated()
    assert authenticate("http://127.0.0.1:8000/") == "own"
    with pytest.raises(RuntimeError):
        authenticate("http://127.0.0.1:9000")


def test_without_a_terminal_the_reference_says_what_is_raised() -> None:
    with pytest.raises(RuntimeError) as caught:
        authenticate("http://localhost:8000")
    assert str(caught.value) == FAILED
    assert "CHISEL_API_KEY" in caught.value.__notes__[0]


def test_a_key_typed_in_is_checked_and_kept(
    gateway: Gateway, folder: Path, terminal: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, KEY)
    assert authenticate(gateway.url) == KEY
    assert gateway.requests == ["GET /api/v1/jobs"]
    assert is_authenticated()
    assert auth.stored_backend() == gateway.url
    answer(monkeypatch, "another")
    assert authenticate(gateway.url + "/") == KEY
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "credentials.json").stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == ["credentials.json"]


def test_a_wrong_key_is_not_kept(
    gateway: Gateway, folder: Path, terminal: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, "wrong")
    with pytest.raises(RuntimeError) as caught:
        authenticate(gateway.url)
    assert str(caught.value) == FAILED
    assert "does not accept this key" in caught.value.__notes__[0]
    assert not folder.exists()


def test_a_backend_that_is_down_is_named(terminal: None, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, KEY)
    with pytest.raises(RuntimeError) as caught:
        authenticate("http://127.0.0.1:1")
    assert str(caught.value) == FAILED
    assert caught.value.__notes__[0].startswith("the backend at http://127.0.0.1:1 does not answer")


def test_nothing_typed_is_no_key(terminal: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getpass", lambda prompt, stream: "")
    with pytest.raises(RuntimeError, match=f"^{FAILED}$"):
        authenticate("http://h")


def test_logging_out_forgets_everything(folder: Path) -> None:
    auth._store("http://a", "1")
    auth._store("http://b", "2")
    assert (authenticate("http://a"), authenticate("http://b")) == ("1", "2")
    clear_credentials()
    assert not is_authenticated()
    assert auth.stored_backend() is None
    clear_credentials()


def test_rights_that_are_too_wide_are_taken_back(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    file = folder / "credentials.json"
    file.write_text(json.dumps({"backend": "http://h", "keys": {"http://h": "k"}}))
    file.chmod(0o644)
    assert authenticate("http://h") == "k"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    auth._store("http://h", "k2")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_link_in_place_of_the_file_is_refused(folder: Path, tmp_path: Path) -> None:
    folder.mkdir()
    (tmp_path / "elsewhere").write_text("{}")
    (folder / "credentials.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InsecureCredentials, match="cannot be read"):
        is_authenticated()


def test_another_users_file_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    auth._store("http://h", "k")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(InsecureCredentials, match="belongs to another user"):
        is_authenticated()


@pytest.mark.parametrize("content", ["", "[]", "{", '{"keys": []}', "\udcff"])
def test_a_damaged_file_is_named(folder: Path, content: str) -> None:
    folder.mkdir()
    (folder / "credentials.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadRequest, match=r"credentials\.json is damaged: run `chisel --logout`"):
        is_authenticated()
