"""Which backend is meant."""

import importlib.util
from types import SimpleNamespace

import pytest

from chisel import auth, settings
from chisel.settings import Backend, NoBackend, backend
from chisel_shared.contract.errors import BadRequest


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.delenv("CHISEL_BACKEND_URL", raising=False)
    monkeypatch.setattr(auth, "stored_backend", lambda: None)
    monkeypatch.setattr("chisel.local.stack.find", lambda: None)
    return []


def test_the_environment_comes_first(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "stored_backend", lambda: "https://stored")
    monkeypatch.setenv("CHISEL_BACKEND_URL", "https://Named.example.com/")
    assert backend(said.append) == Backend("https://named.example.com")
    monkeypatch.delenv("CHISEL_BACKEND_URL")
    assert backend(said.append) == Backend("https://stored")
    assert said == []


def test_a_running_stack_is_announced_where_that_is_wanted(
    said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = SimpleNamespace(url="http://127.0.0.1:8000", key="k")
    monkeypatch.setattr("chisel.local.stack.find", lambda: found)
    assert backend(said.append) == Backend("http://127.0.0.1:8000", "k")
    assert said == []
    assert backend(said.append, announced=True) == Backend("http://127.0.0.1:8000", "k")
    assert said == ["using the local stack at http://127.0.0.1:8000"]


def test_a_stack_is_started_with_a_word(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def ensure(say: object) -> SimpleNamespace:
        assert callable(say)
        say("started")
        return SimpleNamespace(url="http://127.0.0.1:8000", key="k")

    monkeypatch.setattr("chisel.local.stack.ensure", ensure)
    assert backend(said.append) == Backend("http://127.0.0.1:8000", "k")
    assert said == ["started"]


def test_without_the_extra_all_ways_out_are_named(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NoBackend) as caught:
        backend(said.append)
    assert "chisel login URL" in str(caught.value)
    assert "pip install 'chisel-gpu[local]'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_address_that_is_none_is_named(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHISEL_BACKEND_URL", "localhost:8000")
    with pytest.raises(BadRequest, match="'localhost:8000' is not a backend's address"):
        backend(said.append)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colours(variables: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert settings.colors() is expected
