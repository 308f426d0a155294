"""What loading costs: the client is as fast as its imports are few."""

import subprocess
import sys

import pytest

from tests.cli.conftest import Command
from tests.cli.gateway import Gateway

HEAVY = {
    "aiohttp", "asyncio", "asyncpg", "click", "email", "nats", "numpy", "pydantic", "rich", "ssl", "tarfile",
    "torch", "typer", "fcntl", "termios", "pwd", "resource",
}  # fmt: skip
"""What no command people wait for may load; the last four do not exist on every system."""


def loaded(*command: str, chisel: Command) -> set[str]:
    """The modules a fresh interpreter has loaded after `command`."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command],
        cwd=chisel.project, env=chisel.env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "import time:" in line]
    # Whatever `site` loads is the installation's, not ours.
    return set(found[found.index("site") :])


def heavy(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules} & HEAVY


def test_the_package_loads_nothing(chisel: Command) -> None:
    # Python 3.13 loads linecache for any `-c`.
    nothing = loaded("-c", "pass", chisel=chisel)
    assert loaded("-c", "import chisel", chisel=chisel) - nothing == {"chisel"}


def test_the_decorator_loads_nothing_heavy_at_home(chisel: Command) -> None:
    modules = loaded("-c", "from chisel import GPUType, capture_trace; capture_trace(print)", chisel=chisel)
    assert not heavy(modules)
    ours = {module for module in modules if module.startswith("chisel") and module != "chisel"}
    assert ours == {
        "chisel.trace",
        "chisel.trace.capture",
        "chisel_shared",
        "chisel_shared.contract",
        "chisel_shared.contract.gpus",
    }


def test_the_decorator_knows_nothing_of_the_rest_on_a_backend(chisel: Command) -> None:
    chisel.env["CHISEL_TRACE_DIR"] = str(chisel.home)
    modules = loaded("-c", "from chisel import capture_trace; capture_trace(lambda: 0)", chisel=chisel)
    assert not heavy(modules)
    assert not [module for module in modules if module.startswith("chisel_shared")]


def test_the_version_costs_no_more_than_python(chisel: Command) -> None:
    modules = loaded("-m", "chisel", "version", chisel=chisel)
    assert not modules & {"typing", "re", "enum", "json"}


@pytest.mark.parametrize(
    ("words", "also_not"),
    [
        (
            ["python", "hello.py"],
            {"http", "json", "pathlib", "tempfile", "subprocess", "pathspec", "concurrent"},
        ),
        (["logs", "-f", "0123456789"], {"http", "json", "pathlib"}),
        (["cancel", "0123456789"], {"wsproto", "h11"}),
        (["ps"], {"wsproto", "h11"}),
    ],
    ids=["python", "logs", "cancel", "ps"],
)
def test_commands_load_only_what_they_need(
    gateway: Gateway, chisel: Command, words: list[str], also_not: set[str]
) -> None:
    assert chisel("python", "hello.py").status == 0  # the bundle is there now, as it mostly is
    modules = loaded("-m", "chisel", *words, chisel=chisel)
    assert "chisel.client" in modules
    brought_by_http = {"email", "ssl"} if "http.client" in modules else set()
    assert heavy(modules) <= brought_by_http
    assert not {module.partition(".")[0] for module in modules} & also_not
