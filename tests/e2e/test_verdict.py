"""What makes a cluster's logs fail a test: were this blind, no other test here would prove much."""

import json
import subprocess
import sys

import pytest

from tests.support.cluster import complaints

TRACEBACK = "Traceback (most recent call last):\n  File \"x.py\", line 1, in <module>\nKeyError: 'x'"
SERVICE = """
from chisel_shared.runtime.logs import Log, configure
configure("auth", "info")
Log("chisel.auth").warning("outside")
Log("chisel.auth").error("defect")
"""


def line(level: str) -> str:
    return json.dumps({"level": level, "service": "auth", "event": "something"})


@pytest.mark.parametrize("level", ["debug", "info", "warning"])
def test_an_outside_failure_is_none_of_ours(level: str) -> None:
    assert complaints(line(level) + "\n") == []


@pytest.mark.parametrize("level", ["error", "critical"])
def test_an_error_is_found_among_other_lines(level: str) -> None:
    assert complaints("\n".join((line("info"), line(level), line("warning")))) == [line(level)]


def test_what_the_interpreter_prints_is_found() -> None:
    assert complaints(f"{line('info')}\n{TRACEBACK}\n{line('info')}") == TRACEBACK.splitlines()


def test_what_a_service_logs_as_an_error_is_found() -> None:
    said = subprocess.run([sys.executable, "-c", SERVICE], capture_output=True, text=True, check=True).stderr
    (found,) = complaints(said)
    assert json.loads(found)["event"] == "defect"
