"""T2: how long a summary of a large trace takes, and what memory: 132 thousand events, and a million.

Each is measured in a process of its own, from its start: interpreter, imports, reading, analysis and the JSON
of the result. The traces are made up (`big_trace.py`), with the mix and the sizes of real ones. `python -m
tests.bench.t_reading [REPEATS]` measures them alone: no stack is used.
"""

import gzip
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench import big_trace
from tests.bench.figures import Figure, table
from tests.bench.machine import settle
from tests.bench.stack import Stack
from tests.support.source import ROOT

EVENTS = 132_152
MANY_EVENTS = 1_057_216
"""Those of an H100 trace of one call of a vision model, and eight times as many."""

_SUMMARIZE = """
import resource, sys, time
from chisel_shared.traces.summary import summarize
import msgspec
imported = time.perf_counter()
found = summarize(sys.argv[1])
msgspec.json.encode(found)
inside = time.perf_counter() - imported
used = resource.getrusage(resource.RUSAGE_SELF)
print(inside, used.ru_utime + used.ru_stime, used.ru_maxrss)
"""


@dataclass(frozen=True)
class _Kind:
    what: str
    events: int
    python: bool
    shapes: bool
    must_seconds: float
    must_megabytes: float | None = None


_KINDS = (
    _Kind("132 k events", EVENTS, python=True, shapes=True, must_seconds=0.6),
    _Kind("132 k events without Python frames", EVENTS, python=False, shapes=True, must_seconds=0.6),
    _Kind("1 M events", MANY_EVENTS, python=True, shapes=False, must_seconds=2.5, must_megabytes=300),
)


@dataclass(frozen=True)
class _Run:
    wall: float
    inside: float
    processor: float
    megabytes: float


def measure(stack: Stack, repeats: int) -> list[Figure]:
    return _measure(repeats)


def _measure(repeats: int) -> list[Figure]:
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in _KINDS:
            plain = Path(folder) / "trace.json"
            big_trace.write(plain, events=kind.events, python=kind.python, shapes=kind.shapes)
            packed = plain.with_suffix(".json.gz")
            with plain.open("rb") as whole, gzip.open(packed, "wb", compresslevel=1) as small:
                shutil.copyfileobj(whole, small, 1 << 20)
            for path in (plain, packed):
                figures += _figures(kind, path, [_run(path) for _ in range(min(repeats, 5))])
    return figures


def _figures(kind: _Kind, path: Path, runs: list[_Run]) -> list[Figure]:
    size = f"{path.stat().st_size / 1e6:.0f} MB" + (" .gz" if path.suffix == ".gz" else "")
    return [
        Figure(letter="T2", what=f"summary of {kind.what}, {size}: the whole process", unit="s",
               values=tuple(run.wall for run in runs), must=kind.must_seconds),
        Figure(letter="T2", what="the same after imports", unit="s",
               values=tuple(run.inside for run in runs)),
        Figure(letter="T2", what="the same, processor time of the whole process", unit="s",
               values=tuple(run.processor for run in runs)),
        Figure(letter="T2", what="the same, memory at its peak", unit="MB",
               values=tuple(run.megabytes for run in runs), must=kind.must_megabytes),
    ]  # fmt: skip


def _run(path: Path) -> _Run:
    settle()
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _SUMMARIZE, str(path)],
        cwd=ROOT / "shared",
        capture_output=True,
        text=True,
        check=True,
    )
    wall = time.perf_counter() - began
    inside, processor, kilobytes = done.stdout.split()
    return _Run(wall, float(inside), float(processor), int(kilobytes) / 1024)


def main() -> None:
    print(table(_measure(int(sys.argv[1]) if len(sys.argv) > 1 else 5)))


if __name__ == "__main__":
    main()
