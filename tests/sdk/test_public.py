"""What `import chisel` offers."""

import tomllib
from pathlib import Path

import pytest

import chisel
from chisel import GPUType


def test_every_public_name_is_there() -> None:
    for name in chisel.__all__:
        assert getattr(chisel, name) is not None
    assert set(chisel.__all__) <= set(dir(chisel))


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'chisel' has no attribute 'nope'"):
        _ = chisel.nope


def test_the_version_is_the_distributions() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert chisel.__version__ == project["version"]


def test_gpu_types_are_those_of_the_reference() -> None:
    assert {kind.name: kind.value for kind in GPUType} == {
        "A100_80GB_1": "A100-80GB:1",
        "A100_80GB_2": "A100-80GB:2",
        "A100_80GB_4": "A100-80GB:4",
        "A100_80GB_8": "A100-80GB:8",
    }
