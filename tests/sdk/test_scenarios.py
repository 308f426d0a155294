"""Every scenario as processes: traced and untraced they print and exit alike, and the traces are right."""

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chisel_shared.traces import sidecar
from tests.sdk.scenarios import SCENARIOS, Scenario

if not os.environ.get("CI"):
    pytest.importorskip("torch", reason="needs torch: pip install -e '.[torch]'")

ON_GPU = " on a GPU"
WARNINGS = ("-W", "ignore::DeprecationWarning")
FORKED = Path(__file__).parent / "scenarios" / "forked.py"
LOCAL = threading.local()
SERVERS: list[subprocess.Popen[str]] = []
"""That run scripts untraced, one for each thread of the test."""
NOT_THEIRS = (
    *("chisel: ", " ", "Traceback", "During", "The above"),
    *("USDT:", "ERROR: External init", "[W"),  # torch, of its profiler
)


@dataclass(frozen=True)
class Run:
    """What came of one scenario: untraced, traced."""

    bare: subprocess.CompletedProcess[str]
    traced: subprocess.CompletedProcess[str]
    folder: Path


def run(name: str, folder: Path) -> Run:
    scenario = SCENARIOS[name.removesuffix(ON_GPU)]
    script = folder / "script.py"
    script.write_text(scenario.before + scenario.code)
    device = "cuda" if name.endswith(ON_GPU) else "cpu"
    traced = subprocess.run(
        [sys.executable, *WARNINGS, str(script)],
        cwd=folder,
        env=environment(device) | {"CHISEL_TRACE_DIR": str(folder / scenario.folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    return Run(bare(folder, device), traced, folder / scenario.folder)


def environment(device: str) -> dict[str, str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("CHISEL_", "KINETO_"))}
    return env | {"SCENARIO_DEVICE": device, "OMP_NUM_THREADS": "1"}


def bare(folder: Path, device: str) -> subprocess.CompletedProcess[str]:
    """The script without a backend."""
    servers: dict[str, subprocess.Popen[str]] = LOCAL.__dict__.setdefault("servers", {})
    if device not in servers:
        servers[device] = subprocess.Popen(
            [sys.executable, *WARNINGS, str(FORKED)],
            env=environment(device) | {"PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        SERVERS.append(servers[device])
    server = servers[device]
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(f"{folder}\n")
    server.stdin.flush()
    status = int(server.stdout.readline())
    stdout, stderr = ((folder / name).read_text() for name in ("stdout", "stderr"))
    return subprocess.CompletedProcess([], status, stdout, stderr)


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Run]]]:
    """All that were selected, two at a time."""
    chosen = [
        str(item.callspec.params["name"])
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and "runs" in item.fixturenames
        and not item.get_closest_marker("skip")
    ]
    if not any(name.endswith(ON_GPU) for name in chosen) or not has_gpu():
        chosen = [name for name in chosen if not name.endswith(ON_GPU)]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        places = {name: Path(folder) / name.replace(" ", "-") for name in chosen}
        for place in places.values():
            place.mkdir()
        futures = {name: pool.submit(run, name, place) for name, place in places.items()}
        yield futures
        for future in futures.values():
            future.cancel()
        pool.shutdown()
        while SERVERS:
            SERVERS.pop().communicate()


def has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


@pytest.mark.parametrize(
    "name",
    [
        *SCENARIOS,
        *(
            pytest.param(name + ON_GPU, marks=pytest.mark.gpu)
            for name, scenario in SCENARIOS.items()
            if "x @ x" in scenario.code
        ),
    ],
)
def test_a_script_cannot_tell_and_its_traces_are_whole(name: str, runs: dict[str, Future[Run]]) -> None:
    if name not in runs:
        pytest.skip("this machine has no GPU that torch finds")
    done = runs[name].result()
    scenario = SCENARIOS[name.removesuffix(ON_GPU)]
    shown = done.traced.stderr
    assert done.bare.returncode == scenario.status, done.bare.stderr
    expected = scenario.status if scenario.traced_status is None else scenario.traced_status
    assert done.traced.returncode == expected, shown
    assert done.traced.stdout == done.bare.stdout
    assert "chisel" not in done.bare.stderr or "Traceback" in done.bare.stderr
    ours = [line for line in shown.splitlines() if line.startswith("chisel: ")]
    assert without_ours(shown) == without_ours(done.bare.stderr)
    assert scenario.says in shown
    if scenario.errors is None:
        assert len(ours) <= 2 * max(1, len(scenario.traces)), shown
    else:
        assert len(ours) == scenario.errors, shown
    assert found(done.folder, scenario, gpu=name.endswith(ON_GPU)) == scenario.traces


def without_ours(shown: str) -> list[str]:
    """The last line of each traceback, and what else the script and torch say."""
    return [line for line in shown.splitlines() if line and not line.startswith(NOT_THEIRS)]


def found(folder: Path, scenario: Scenario, *, gpu: bool) -> dict[str, str]:
    """How each trace's capture ended, by stem. Numbers of processes are replaced by 1, 2, …"""
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    assert tuple(name for name in names if name.startswith(".")) == scenario.left
    for name in scenario.left:
        marker = json.loads((folder / name).read_bytes())
        assert set(marker) == {"name", "function", "call", "rank", "pid", "started_at"}
        assert marker["function"] == "__main__.f"
    pids: dict[str, str] = {}
    endings = {}
    for name in names:
        if name.startswith(".") or name.endswith(sidecar.SUFFIX):
            continue
        stem = name.removesuffix(".json")
        loaded = json.loads((folder / name).read_bytes())
        events = loaded["traceEvents"]
        labels = {event.get("name") for event in events}
        assert set(scenario.holds) <= labels, stem
        assert loaded.get("traceName", name) == name
        if gpu and "aten::mm" in scenario.holds and scenario.holds[0] == "aten::mm":
            assert "kernel" in {event.get("cat") for event in events}, stem
        facts = check_sidecar(folder, stem, events)
        pid = re.search(r"\.pid(\d+)", stem)
        if pid is not None:
            stem = stem.replace(pid[1], pids.setdefault(pid[1], str(len(pids) + 1)))
        endings[stem] = facts.ended_by
    return endings


def check_sidecar(folder: Path, stem: str, events: list[dict[str, Any]]) -> sidecar.Sidecar:
    data = (folder / (stem + sidecar.SUFFIX)).read_bytes()
    facts = sidecar.decode(data)
    # Nothing of what the job wrote is lost on the way, and no field is left out.
    read = msgspec.structs.asdict(facts)
    read["options"] = msgspec.structs.asdict(facts.options)
    read["gpus"] = [msgspec.structs.asdict(gpu) | {"throttled": list(gpu.throttled)} for gpu in facts.gpus]
    assert json.loads(data) == read
    assert facts.size_bytes == (folder / f"{stem}.json").stat().st_size
    assert facts.torch
    assert facts.function
    assert facts.seconds > 0
    assert facts.save_seconds > 0
    assert facts.pid in {event.get("pid") for event in events}
    assert bool(facts.error) == (facts.ended_by in ("exception", "signal"))
    return facts
