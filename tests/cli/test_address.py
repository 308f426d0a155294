"""Addresses of backends."""

import pytest

from chisel.address import Address, parse
from chisel_shared.contract.errors import BadRequest


@pytest.mark.parametrize(
    ("url", "expected", "written"),
    [
        ("http://localhost:8000", Address(False, "localhost", 8000, ""), "http://localhost:8000"),
        ("https://api.herdora.com", Address(True, "api.herdora.com", 443, ""), "https://api.herdora.com"),
        (
            "HTTPS://API.Example.com:443/",
            Address(True, "api.example.com", 443, ""),
            "https://api.example.com",
        ),
        ("http://h/base/", Address(False, "h", 80, "/base"), "http://h/base"),
        (" http://[::1]:8000 ", Address(False, "::1", 8000, ""), "http://[::1]:8000"),
        ("http://[::1]", Address(False, "::1", 80, ""), "http://[::1]"),
        ("https://h:80/a/b", Address(True, "h", 80, "/a/b"), "https://h:80/a/b"),
    ],
)
def test_parts(url: str, expected: Address, written: str) -> None:
    assert parse(url) == expected
    assert str(expected) == written
    assert parse(written) == expected


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8000", "ftp://h", "http://", "http://:80", "http://h:x", "http://h:70000", "http://a@b",
     "http://h/?q", "http://h/#f", "http://h h"],
)  # fmt: skip
def test_anything_else_is_refused(url: str) -> None:
    with pytest.raises(BadRequest, match="is not a backend's address"):
        parse(url)
