"""T: what `capture_trace` costs a function: at home, when its calls are spent, while recording.

`python -m tests.bench.t_capture` needs no stack. Each figure comes from a process of its own with the real
torch; what a call costs is the best of several loops, less the bare function's.
"""

import json
import os
import subprocess
import sys
import tempfile

from tests.bench.figures import Figure, table
from tests.bench.stack import Stack

_SMALL = """
import json, timeit
from chisel import capture_trace
def bare(): return 1
decorated = capture_trace(max_calls=1)(bare)
{torch}
decorated()
decorated()
best = lambda function: min(timeit.repeat(function, number=200_000, repeat=9)) / 200_000 * 1e9
print(json.dumps([decorated is bare, best(decorated) - best(bare)]))
"""

_LARGE = """
import json, os, sys, time, torch
from chisel import capture_trace
torch.set_num_threads(1)
x = torch.ones(64, 64)
def bare():
    began = time.perf_counter()
    for _ in range(10_000): x @ x + x
    return time.perf_counter() - began
bare()
plain = bare()
capture_trace("first")(lambda: x @ x)()
recorded = capture_trace("long")(bare)()
facts = json.load(open(os.environ["CHISEL_TRACE_DIR"] + "/long.meta.json"))
print(json.dumps([plain, recorded, facts["save_seconds"], facts["size_bytes"]]))
"""


def measure(stack: Stack | None, repeats: int) -> list[Figure]:
    """No part of it depends on the stack."""
    home = [_run(_SMALL.format(torch=""), traced=False) for _ in range(repeats)]
    spent = [_run(_SMALL.format(torch="import torch"), traced=True) for _ in range(repeats)]
    large = [_run(_LARGE, traced=True) for _ in range(repeats)]
    same = all(one[0] for one in home)
    at_home = tuple(0.0 if one[0] else one[1] for one in home)
    return [
        Figure(letter="T", what="a call at home", unit="ns", must=0, values=at_home,
               fault="" if same else "the function is not returned itself"),
        Figure(letter="T", what="a call when max_calls are spent", unit="ns",
               values=tuple(one[1] for one in spent), must=200),
        Figure(letter="T", what="20,000 operators, recorded over not recorded", unit="x",
               values=tuple(one[1] / one[0] for one in large)),
        Figure(letter="T", what="saving 20,000 operators", unit="s", values=tuple(one[2] for one in large)),
        Figure(letter="T", what="their file", unit="MB", values=tuple(one[3] / 1e6 for one in large)),
    ]  # fmt: skip


def _run(code: str, *, traced: bool) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        env = {key: value for key, value in os.environ.items() if not key.startswith("CHISEL_")}
        if traced:
            env["CHISEL_TRACE_DIR"] = folder
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        )
    found: list[float] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    print(table(measure(None, 3)))
