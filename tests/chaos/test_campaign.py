"""A whole campaign of a minute: at least 25 kills, nothing lost, nothing run twice."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.source import ROOT

pytestmark = pytest.mark.e2e

SEED = 21_482
"""Of its forty faults at least 27 are kills whatever the shims do, one is the death of a host, and three are
full disks."""
KILLS = ("kill", "quit", "shim kill", "host death")


@pytest.mark.timeout(240)
def test_a_campaign_breaks_no_promise(tmp_path: Path) -> None:
    # A process of its own: it has mounts of its own, for disks that can be full.
    command = [sys.executable, "-m", "tests.chaos", "--profile", "smoke", "--seed", str(SEED)]
    done = subprocess.run(
        [*command, "--folder", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"seed {SEED}\n{done.stdout}\n{done.stderr[-3000:]}"
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["violations"] == {}
    struck = {fault: count for fault, count in report["by_fault"].items() if fault.startswith(KILLS)}
    assert sum(struck.values()) >= 25, struck

    # And the checker is a program of its own, which says the same of what was kept.
    checker = [sys.executable, "-m", "tests.chaos.checker", str(tmp_path)]
    checked = subprocess.run(checker, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout.splitlines()[-1].endswith("; 0 violations")) == (0, True)


def test_a_campaign_that_cannot_be_drawn_is_refused() -> None:
    command = [sys.executable, "-m", "tests.chaos", "--profile", "none"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "invalid choice" in done.stderr
