"""The copy of the Perfetto UI: its files and nothing else, and quiet."""

import base64
import hashlib
from pathlib import Path

import pytest

from chisel_shared import perfetto
from chisel_shared.perfetto import Copy

INLINE = "'use strict'; start();"


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    root = tmp_path / "ui"
    (root / "v1.2-abc" / "assets").mkdir(parents=True)
    page = f'<script src="x.js"></script><script type="text/javascript">{INLINE}</script>'
    (root / "index.html").write_text(page)
    (root / "service_worker.js").write_text("")
    (root / "trace_processor").write_text("#!/usr/bin/env python")
    (root / "v1.2-abc" / "engine.wasm").write_bytes(b"\0asm")
    (root / "v1.2-abc" / "assets" / "x.woff2").write_bytes(b"font")
    (tmp_path / "secret.json").write_text("{}")
    (tmp_path / "ui-beside").mkdir()
    (tmp_path / "ui-beside" / "x.json").write_text("{}")
    (root / "link.json").symlink_to(tmp_path / "secret.json")
    return Copy(root)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("", "text/html; charset=utf-8"),
        ("index.html", "text/html; charset=utf-8"),
        ("v1.2-abc/engine.wasm", "application/wasm"),
        ("v1.2-abc/assets/x.woff2", "font/woff2"),
    ],
)
def test_a_file_of_it_has_its_type(copy: Copy, name: str, kind: str) -> None:
    asset = copy.asset(name)
    assert asset is not None
    assert asset.headers["Content-Type"] == kind
    assert asset.headers["Content-Security-Policy"] == copy.policy


@pytest.mark.parametrize(
    "name",
    [
        "../secret.json",
        "v1.2-abc/../../secret.json",
        "..\\secret.json",
        "/etc/passwd",
        "//etc/passwd",
        "../ui-beside/x.json",
        "link.json",
        "v1.2-abc",
        "v1.2-abc/",
        "trace_processor",
        "service_worker.js",
        "nothing.js",
        "index.html\0.js",
        "a" * 5000,
    ],
)
def test_anything_else_is_not_served(copy: Copy, name: str) -> None:
    assert copy.asset(name) is None


def test_only_what_names_its_version_is_kept_for_good(copy: Copy) -> None:
    def lasting(name: str) -> str:
        asset = copy.asset(name)
        assert asset is not None
        return asset.headers["Cache-Control"]

    assert "immutable" in lasting("v1.2-abc/engine.wasm")
    assert lasting("index.html") == "no-cache"


def test_its_policy_names_its_own_scripts_and_no_other_server(copy: Copy) -> None:
    digest = base64.b64encode(hashlib.sha256(INLINE.encode()).digest()).decode()
    rules = dict(rule.split(" ", 1) for rule in copy.policy.split("; "))
    assert f"'sha256-{digest}'" in rules["script-src"]
    assert "unsafe-inline" not in rules["script-src"]
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == "'self' data: blob:"
    assert "https:" not in copy.policy
    assert rules["frame-ancestors"].startswith("'self' http://127.0.0.1:*")


def test_an_operators_folder_comes_before_what_is_installed(tmp_path: Path, copy: Copy) -> None:
    found = perfetto.find(str(tmp_path / "ui"))
    assert found is not None
    assert found.asset("v1.2-abc/engine.wasm") is not None
    assert perfetto.find(str(tmp_path / "nowhere")) is None


def test_what_is_installed_is_whole() -> None:
    found = perfetto.find()
    assert found is not None, "the extra `viewer` is part of dev"
    index = found.asset("index.html")
    assert index is not None
    assert "data-perfetto_version" in index.path.read_text(encoding="utf-8")
