"""Failpoints strike where, how and when they are told to, and nowhere else."""

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from chisel_shared.contract.errors import Unavailable
from chisel_shared.runtime.failpoints import arm, failpoint, parse
from chisel_shared.runtime.settings import ServiceSettings


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm("")


def test_nothing_strikes_unless_armed() -> None:
    failpoint("a.b")
    arm("a.b:error")
    failpoint("a.c")
    arm("")
    failpoint("a.b")


def test_an_error_strikes_once() -> None:
    arm("a.b:error")
    with pytest.raises(Unavailable, match=r"failpoint a\.b"):
        failpoint("a.b")
    failpoint("a.b")


def test_the_third_time() -> None:
    arm("a.b:error@3")
    failpoint("a.b")
    failpoint("a.b")
    with pytest.raises(Unavailable):
        failpoint("a.b")


def test_several_strike_each_for_itself() -> None:
    arm("a.b:error,a.c:error@2")
    failpoint("a.c")
    for name in ("a.b", "a.c"):
        with pytest.raises(Unavailable):
            failpoint(name)


def test_a_delay_stops_everything() -> None:
    arm("a.b:delay=0.05")
    before = time.monotonic()
    failpoint("a.b")
    assert time.monotonic() - before >= 0.05


def test_a_kill_leaves_no_time_for_anything() -> None:
    code = """
from chisel_shared.runtime.failpoints import arm, failpoint
arm("a.b:kill")
try:
    failpoint("a.b")
finally:
    print("still here", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (-9, b"")


@pytest.mark.parametrize(
    "text", ["a", "a:", ":kill", "a:delay", "a:kill=3", "a:explode", "a:kill@x", "a:delay=x"]
)
def test_what_makes_no_sense_is_refused_at_start(text: str) -> None:
    with pytest.raises(ValueError, match="a failpoint is NAME:kill"):
        parse(text)
    with pytest.raises(ValidationError):
        ServiceSettings(failpoint=text)
