"""Which paths and links of a job's files may travel."""

import pytest

from chisel_shared.contract.files import link_fault, path_fault


@pytest.mark.parametrize("path", ["a", "a/b", "größe 数/x", ".hidden", "a..b", "...", "-", "a b", "x" * 255])
def test_plain_relative_paths_may_travel(path: str) -> None:
    assert path_fault(path) is None


@pytest.mark.parametrize(
    "path",
    [
        *("", ".", "..", "/", "/a", "a/", "a//b", "./a", "a/.", "../a", "a/../b", "a/.."),
        *("a\\b", "a\nb", "a\x00", "\udcff"),
        *("x" * 256, "a/" * 64 + "b", "/".join(["x" * 200] * 21)),
    ],
)
def test_everything_else_may_not(path: str) -> None:
    assert path_fault(path)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("a", "b"),
        ("a", "d/b"),
        ("d/a", "../b"),
        ("d/e/a", "../../b/c"),
        ("d/a", ".."),
        ("a", "."),
        ("a", "b/"),
    ],
)
def test_links_that_stay_inside_may_travel(path: str, target: str) -> None:
    assert link_fault(path, target) is None


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("a", ""),
        ("a", "/etc/passwd"),
        ("a", "//etc"),
        ("a", ".."),
        ("a", "../b"),
        ("d/a", "../../b"),
        ("d/a", "./../../b"),
        ("a", "b/.."),
        ("d/a", "../e/../../b"),
        ("a", "b\\c"),
        ("a", "C:\\windows"),
        ("a", "b\nc"),
        ("a", "\udcff"),
        ("a", "x" * 5000),
    ],
)
def test_links_that_could_lead_out_may_not(path: str, target: str) -> None:
    assert link_fault(path, target)
