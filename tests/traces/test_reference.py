"""Published traces against published tables, to the last digit that they print (data/README.md)."""

import csv
import math
import os
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

from chisel_shared.traces import kernels, ops
from chisel_shared.traces.columns import Columns
from chisel_shared.traces.gpu import gpu_events
from chisel_shared.traces.ops import Attribution
from chisel_shared.traces.read import read
from chisel_shared.traces.report import Summary
from chisel_shared.traces.summary import summarize

HERE = Path(__file__).parent / "data"
FOLDERS = [HERE, *(Path(more) for more in [os.environ.get("CHISEL_REFERENCE_TRACES")] if more)]
TABLES = "_perf_report_csvs"
TRACES = sorted(
    trace
    for folder in FOLDERS
    for trace in folder.rglob("*.json.gz")
    if trace.with_name(trace.name.removesuffix(".json.gz") + TABLES).is_dir()
)

each_trace = pytest.mark.parametrize("trace", TRACES, ids=lambda trace: trace.name.removesuffix(".json.gz"))


@lru_cache(maxsize=2)
def loaded(trace: Path) -> tuple[Columns, Attribution, Summary]:
    columns = read(trace)
    return columns, ops.attribute(columns, gpu_events(columns)), summarize(columns, rows=None)


def table(trace: Path, name: str) -> Iterator[dict[str, str]]:
    path = trace.with_name(trace.name.removesuffix(".json.gz") + TABLES) / f"{name}.csv"
    if not path.exists():
        pytest.skip(f"{path.name} was not published for this trace")
    with path.open(newline="") as file:
        yield from csv.DictReader(file)


def same(ours: float, published: str) -> bool:
    return math.isclose(ours, float(published), rel_tol=1e-12, abs_tol=1e-12)


def test_the_traces_that_come_with_the_tests_are_there() -> None:
    assert sum(HERE in trace.parents for trace in TRACES) == 2


@each_trace
def test_gpu_timeline(trace: Path) -> None:
    gpu = loaded(trace)[2].gpu
    ours = {
        "computation_time": gpu.compute_us,
        "exposed_comm_time": gpu.exposed_comm_us,
        "exposed_memcpy_time": gpu.exposed_copy_us,
        "busy_time": gpu.busy_us,
        "idle_time": gpu.idle_us,
        "total_time": gpu.span_us,
        "total_comm_time": gpu.comm_us,
        "total_memcpy_time": gpu.copy_us,
    }
    published = {row["type"]: row for row in table(trace, "gpu_timeline")}
    assert {kind: us / 1e3 for kind, us in ours.items()} == {
        kind: float(row["time ms"]) for kind, row in published.items()
    }
    assert {kind: us / gpu.span_us * 100 for kind, us in ours.items()} == {
        kind: float(row["percent"]) for kind, row in published.items()
    }


@each_trace
def test_kernels(trace: Path) -> None:
    """By operator, name and stream, as published; the table has kernels alone, without copies and sets."""
    columns, called, summary = loaded(trace)
    found: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for event, row in enumerate(called.gpu.row.tolist()):
        if columns.categories[columns.category[row]] == "kernel":
            key = (called.names[event], columns.name_of(row), int(columns.stream[row]))
            found[key].append(float(called.gpu.dur[event]))
    all_kernels = math.fsum(us for times in found.values() for us in times)
    rows = list(table(trace, "kernel_summary"))
    keys = [(row["Parent cpu_op"], row["Kernel name"], int(row["Kernel stream"])) for row in rows]
    assert set(found) == set(keys)
    for row, key in zip(rows, keys, strict=True):
        times = found[key]
        total, prefix = math.fsum(times), "Kernel duration (µs)_"
        assert len(times) == int(row[prefix + "count"])
        assert (min(times), max(times)) == (float(row[prefix + "min"]), float(row[prefix + "max"]))
        assert same(total, row[prefix + "sum"])
        assert same(total / len(times), row[prefix + "mean"])
        assert same(total / all_kernels * 100, row["Percent of kernels time (%)"])
        assert same(total / summary.gpu.span_us * 100, row["Percent of total time (%)"])
    published = [float(row["Kernel duration (µs)_sum"]) for row in rows]
    assert published == sorted(published, reverse=True)


@each_trace
def test_rows_of_the_summary_add_up_to_the_published_kernels(trace: Path) -> None:
    columns, called, summary = loaded(trace)
    ours: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
    for kernel in summary.kernels:
        ours[kernel.name][0] += kernel.count
        ours[kernel.name][1] += kernel.us
    published: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
    for row in table(trace, "kernel_summary"):
        published[row["Kernel name"]][0] += int(row["Kernel duration (µs)_count"])
        published[row["Kernel name"]][1] += float(row["Kernel duration (µs)_sum"])
    for name, (count, us) in published.items():
        assert ours[name][0] == count
        assert math.isclose(ours[name][1], us, rel_tol=1e-12)
    durations = kernels.durations(columns, called.gpu)
    assert sum(len(some) for some in durations.values()) == sum(kernel.count for kernel in summary.kernels)


@each_trace
def test_operators(trace: Path) -> None:
    summary = loaded(trace)[2]
    launching = [op for op in summary.ops if op.launching]
    rows = list(table(trace, "ops_summary"))
    assert [op.name for op in launching] == [row["name"] for row in rows]
    for op, row in zip(launching, rows, strict=True):
        assert op.gpu_us == float(row["total_direct_kernel_time_sum"])
        assert op.gpu_us / 1e3 == float(row["total_direct_kernel_time_ms"])
        assert op.launching == int(row["Count"])
        assert same(op.share * 100, row["Percentage (%)"])
