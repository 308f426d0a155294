"""Ten thousand damaged traces: each is read or refused, in bounded memory, and none hangs or crashes."""

import json
import os
import subprocess
import sys

import pytest

from tests.support.source import ROOT

CASES = 10_000


@pytest.mark.timeout(600)
def test_whatever_a_trace_looks_like_it_is_read_or_refused() -> None:
    paths = [str(ROOT / folder) for folder in ("shared", ".")]
    # Threads of the linear algebra that nobody uses would reserve most of the address space.
    env = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.traces.fuzz", str(CASES)],
        env=env, cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    outcomes = json.loads(done.stdout)
    assert sum(outcomes.values()) == CASES
    # Every way out is taken often, so the damage is neither too little nor too much.
    assert all(outcomes[way] > CASES / 20 for way in ("read", "cut", "damaged", "refused"))
