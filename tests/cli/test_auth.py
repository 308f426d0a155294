"""Keys: where they come from, and what happens when there is none."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from chisel import auth, credentials, login, settings
from chisel.auth import authenticate, clear_credentials, is_authenticated
from chisel_shared.contract.errors import Unauthenticated

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


def test_nobody_is_authenticated_at_first() -> None:
    assert not is_authenticated()


def test_the_environment_comes_first_and_is_not_stored(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials.store("http://h", "stored")
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
    credentials.store("http://127.0.0.1:8000", "ada's")
    assert authenticate("http://127.0.0.1:8000/") == "ada's"


def test_without_a_terminal_the_reference_says_what_is_raised() -> None:
    with pytest.raises(RuntimeError) as caught:
        authenticate("http://localhost:8000")
    assert str(caught.value) == FAILED
    assert "chisel login http://localhost:8000" in caught.value.__notes__[0]
    assert "CHISEL_API_KEY" in caught.value.__notes__[0]


def test_a_key_from_the_browser_is_kept(
    folder: Path, terminal: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    granted = login.Granted("from the page", "ada", "default")
    monkeypatch.setattr(login, "log_in", lambda url, *, browser: granted)
    assert authenticate("http://h/") == "from the page"
    assert is_authenticated()
    assert auth.stored_backend() == "http://h"
    monkeypatch.setattr(login, "log_in", None)
    assert authenticate("http://h") == "from the page"


def test_a_login_that_was_refused(folder: Path, terminal: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(url: str, *, browser: bool) -> None:
        raise Unauthenticated("the login was refused on the page")

    monkeypatch.setattr(login, "log_in", refused)
    with pytest.raises(RuntimeError) as caught:
        authenticate("http://h")
    assert (str(caught.value), caught.value.__notes__) == (FAILED, ["the login was refused on the page"])
    assert not is_authenticated()


def test_a_backend_that_is_down_is_named(terminal: None) -> None:
    with pytest.raises(RuntimeError) as caught:
        authenticate("http://127.0.0.1:1")
    assert str(caught.value) == FAILED
    assert caught.value.__notes__[0].startswith("the backend at http://127.0.0.1:1 does not answer")


def test_nobody_logs_in_where_the_key_could_not_be_kept(
    folder: Path, terminal: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.symlink_to("elsewhere")
    monkeypatch.setattr(login, "log_in", None)
    with pytest.raises(credentials.InsecureCredentials):
        authenticate("http://h")


def test_logging_out_forgets_everything() -> None:
    credentials.store("http://a", "1")
    credentials.store("http://b", "2")
    assert (authenticate("http://a"), authenticate("http://b")) == ("1", "2")
    clear_credentials()
    assert not is_authenticated()
    assert auth.stored_backend() is None
    clear_credentials()


DESKTOPS = [
    ("linux", {"DISPLAY": ":0"}, True),
    ("linux", {"WAYLAND_DISPLAY": "w"}, True),
    ("linux", {}, False),
    ("linux", {"DISPLAY": ":0", "SSH_CONNECTION": "1 2 3 4"}, False),
    ("linux", {"BROWSER": "/an/editors/own", "SSH_CONNECTION": "1 2 3 4"}, True),
    ("darwin", {}, True),
    ("darwin", {"SSH_CONNECTION": "1 2 3 4"}, False),
    ("win32", {}, True),
]


@pytest.mark.parametrize(("system", "variables", "expected"), DESKTOPS)
def test_where_a_browser_would_be_seen(
    system: str, variables: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION", "SSH_TTY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(settings, "sys", SimpleNamespace(platform=system))
    assert settings.has_browser() is expected


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("10.0.0.7 51234 10.0.0.9 22", "ssh -N -L 9001:127.0.0.1:9001 ada@10.0.0.9"),
        ("10.0.0.7 51234 10.0.0.9 2222", "ssh -N -L 9001:127.0.0.1:9001 -p 2222 ada@10.0.0.9"),
        ("", ""),
    ],
)
def test_how_a_port_is_reached_from_ones_own_machine(
    told: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_CONNECTION", told)
    monkeypatch.setenv("LOGNAME", "ada")
    assert settings.tunnel(9001) == expected
