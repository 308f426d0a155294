"""The guide to the slow line as a reader follows it: the trace names the line, the diff proves the cure."""

import importlib.util
import json

import msgspec
import pytest

from chisel_shared.traces.diff import regressed
from chisel_shared.traces.report import Diff, Summary
from tests.support.cluster import Cluster
from tests.support.source import ROOT

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed here"),
]

EXAMPLE = ROOT / "docs" / "examples" / "slow_line"


def _run(cluster: Cluster, name: str, *more: str) -> bytes:
    done = cluster.run(["python", "train.py", "-a", name, *more], cwd=EXAMPLE, timeout=280)
    assert done.returncode == 0, done.stderr.decode()
    assert f"chisel trace summary {cluster.job(name)['id']}" in done.stderr.decode()
    return done.stdout


@pytest.mark.timeout(600)
def test_the_trace_names_the_line_and_the_diff_proves_the_cure(cluster: Cluster) -> None:
    before, after = _run(cluster, "slow"), _run(cluster, "fast", "--fast")
    assert before == after, "the cure changed what is learnt"
    slow, fast = (cluster.job(name)["id"] for name in ("slow", "fast"))

    told = cluster.run(["trace", "summary", slow, "--json"])
    summary = msgspec.json.decode(told.stdout, type=Summary)
    finding = summary.findings[0]
    assert finding.code == "slow-line"
    assert "shifted_one_by_one at train.py:" in finding.text

    compared = cluster.run(["trace", "diff", slow, fast, "--json"])
    (found,) = msgspec.json.decode(compared.stdout, type=list[Diff])
    assert len(found.a.traces) == len(found.b.traces) == 4, "the first call of each is left out"
    assert {part.name: part.verdict for part in found.ops}["aten::roll"] == "gone"
    assert sum(change.delta_us for change in found.changes) == pytest.approx(
        found.b.wall_us - found.a.wall_us
    )

    # The other way round it is a regression, for those whose runs show one.
    gate = cluster.run(["trace", "diff", fast, slow, "--fail-over", "5%", "--json"])
    (back,) = msgspec.json.decode(gate.stdout, type=list[Diff])
    assert gate.returncode == int(regressed(back, 0.05))
    assert json.loads(told.stdout)["trace"]["call"] == 2
