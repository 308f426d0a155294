"""What a capture asks the driver, with a library that answers as the real one does, and with the real one."""

import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from chisel.trace import gpus
from chisel_shared.traces.sidecar import Gpu

BUSY, NOT_SUPPORTED = 999, 3


class Driver:
    """Two GPUs; the second has a part with a name of its own. Handles are 1 and 2, and the part's is 100."""

    def __init__(self) -> None:
        self.temperature = 40
        self.reasons = 0x1 | 0x4
        self.pids = [os.getpid(), 7, 8]
        self.asked: list[str] = []
        self.mute: set[str] = set()

    def __getattr__(self, name: str) -> Callable[..., int]:
        if not name.startswith("nvml"):
            raise AttributeError(name)
        answer = getattr(type(self), "_" + name)

        def call(*arguments: Any) -> int:
            self.asked.append(name)
            return BUSY if name in self.mute else int(answer(self, *arguments))

        return call

    def _nvmlInit_v2(self) -> int:
        return 0

    def _nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = 2
        return 0

    def _nvmlDeviceGetHandleByIndex_v2(self, index: Any, handle: Any) -> int:
        handle._obj.value = index.value + 1
        return 0

    def _nvmlDeviceGetHandleByUUID(self, uuid: Any, handle: Any) -> int:
        if uuid.value != b"MIG-part":
            return BUSY
        handle._obj.value = 100
        return 0

    def _nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, part: Any, handle: Any) -> int:
        if part.value != 100:
            return NOT_SUPPORTED
        handle._obj.value = 2
        return 0

    def _nvmlDeviceGetIndex(self, device: Any, index: Any) -> int:
        index._obj.value = device.value - 1
        return 0

    def _nvmlDeviceGetUUID(self, device: Any, text: Any, size: Any) -> int:
        text.value = b"MIG-part" if device.value == 100 else b"GPU-%d-abc" % device.value
        return 0

    def _nvmlDeviceGetName(self, device: Any, text: Any, size: Any) -> int:
        text.value = b"NVIDIA H100 80GB HBM3"
        return 0

    def _nvmlSystemGetDriverVersion(self, text: Any, size: Any) -> int:
        text.value = b"570.1"
        return 0

    def _nvmlDeviceGetClockInfo(self, device: Any, kind: Any, clock: Any) -> int:
        clock._obj.value = {1: 1980, 2: 2619}[kind.value]
        return 0

    def _nvmlDeviceGetMaxClockInfo(self, device: Any, kind: Any, clock: Any) -> int:
        clock._obj.value = 1985
        return 0

    def _nvmlDeviceGetTemperature(self, device: Any, sensor: Any, degrees: Any) -> int:
        degrees._obj.value = self.temperature
        self.temperature += 1
        return 0

    def _nvmlDeviceGetPowerUsage(self, device: Any, power: Any) -> int:
        power._obj.value = 123_400
        return 0

    def _nvmlDeviceGetEnforcedPowerLimit(self, device: Any, power: Any) -> int:
        power._obj.value = 700_000
        return 0

    def _nvmlDeviceGetCurrentClocksThrottleReasons(self, device: Any, reasons: Any) -> int:
        reasons._obj.value = self.reasons
        self.reasons = 0x40
        return 0

    def _nvmlDeviceGetComputeRunningProcesses_v3(self, device: Any, count: Any, found: Any) -> int:
        for place, pid in zip(found._obj, self.pids, strict=False):
            place.pid = pid
        count._obj.value = len(self.pids)
        return 0


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: made)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    return made


def test_everything_that_a_driver_says(driver: Driver) -> None:
    (found,) = gpus.Watch().end()
    assert Gpu(**{**found, "throttled": tuple(found["throttled"])}) == Gpu(
        index=1,
        uuid="GPU-2-abc",
        model="NVIDIA H100 80GB HBM3",
        driver="570.1",
        sm_clock_mhz=1980,
        sm_clock_end_mhz=1980,
        max_sm_clock_mhz=1985,
        memory_clock_mhz=2619,
        temperature_c=40,
        temperature_end_c=41,
        power_watts=123.4,
        power_limit_watts=700.0,
        throttled=("power_cap", "hardware_thermal"),
        neighbours=2,
    )


@pytest.mark.parametrize(
    ("visible", "uuids"),
    [
        (None, ["GPU-1-abc", "GPU-2-abc"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("1,0", ["GPU-2-abc", "GPU-1-abc"]),
        ("0,7,1", ["GPU-1-abc"]),
        ("GPU-2", ["GPU-2-abc"]),
        ("GPU-", []),
        ("MIG-part", ["MIG-part"]),
        ("MIG-other", []),
    ],
)
def test_only_the_gpus_of_this_process(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, visible: str | None, uuids: list[str]
) -> None:
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu["uuid"] for gpu in gpus.read()] == uuids


def test_what_the_driver_does_not_say_is_not_known(driver: Driver) -> None:
    driver.mute = {"nvmlDeviceGetPowerUsage", "nvmlDeviceGetUUID", "nvmlDeviceGetComputeRunningProcesses_v3"}
    (found,) = gpus.read()
    assert (found["power_watts"], found["uuid"], found["neighbours"]) == (None, "", None)
    assert found["power_limit_watts"] == 700.0


def test_processes_in_a_container_have_other_numbers(driver: Driver) -> None:
    driver.pids = [1000, 1001]
    assert gpus.read()[0]["neighbours"] == 1
    driver.pids = []
    assert gpus.read()[0]["neighbours"] == 0


def test_a_driver_that_does_not_answer_is_left_alone(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    monkeypatch.setattr(Driver, "_nvmlInit_v2", lambda self: never.wait() and 0)
    monkeypatch.setattr(gpus, "_WAIT_SECONDS", 0.01)
    assert gpus.Watch().end() == []
    never.set()


def test_no_driver_no_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert gpus.Watch().end() == []


@pytest.mark.gpu
def test_the_real_driver() -> None:
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        pytest.skip("this machine has no driver of NVIDIA's")
    if library.nvmlInit_v2() != 0:
        pytest.skip("the driver of this machine finds no GPU")
    code = (
        "import json, torch; from chisel.trace.gpus import Watch; watch = Watch();"
        "assert not torch.cuda.is_initialized(); print(json.dumps(watch.end()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = gpus.read()
    assert found
    for gpu in found:
        assert gpu["uuid"].startswith(("GPU-", "MIG-"))
        assert gpu["uuid"] in done.stdout
        assert gpu["model"]
        assert gpu["driver"]
        assert 0 < gpu["temperature_c"] < 120
        assert gpu["max_sm_clock_mhz"] >= (gpu["sm_clock_mhz"] or 0)
