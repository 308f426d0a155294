"""What the NVIDIA driver says of this process's GPUs: clocks, temperature, power, who else is there.

Through the driver's own library (NVML) alone, which every machine with a driver has: no package is needed in
the job's environment, and CUDA is never initialised. It is asked beside the capture, and one that does not
answer in time is left alone: nothing here may cost the job anything.
"""

import _thread
import ctypes
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

_LIBRARY = "libnvidia-ml.so.1"
_WAIT_SECONDS = 0.5
_MAX_GPUS = 16

_SM, _MEMORY = 1, 2
_REASONS = (
    (0x02, "application_clocks"),
    (0x04, "power_cap"),
    (0x08, "hardware_slowdown"),
    (0x10, "sync_boost"),
    (0x20, "thermal"),
    (0x40, "hardware_thermal"),
    (0x80, "power_brake"),
)
"""Why a clock is held down, beside having nothing to do."""

Facts = dict[str, Any]
"""The fields of a `Gpu` in the sidecar."""


class _Process(ctypes.Structure):
    _fields_ = (
        ("pid", ctypes.c_uint),
        ("memory", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )


class Watch:
    """Asks when a capture begins and when it ends."""

    def __init__(self) -> None:
        self._first = _beside(read)

    def end(self) -> list[Facts]:
        """One for each GPU; empty when the driver did not answer."""
        first = self._first()
        if not first:
            return []
        last = {gpu["uuid"]: gpu for gpu in _beside(read)() or ()}
        return [_both(gpu, last.get(gpu["uuid"], {})) for gpu in first]


def _both(first: Facts, last: Facts) -> Facts:
    throttled = dict.fromkeys((*first.get("throttled", ()), *last.get("throttled", ())))
    return {
        **first,
        "sm_clock_end_mhz": last.get("sm_clock_mhz"),
        "temperature_end_c": last.get("temperature_c"),
        "throttled": list(throttled),
    }


def _beside(ask: Callable[[], list[Facts]]) -> Callable[[], list[Facts] | None]:
    """Start to ask in a thread; what comes back waits for the answer, for a while, None if there is none."""
    answers: list[list[Facts]] = []
    asked = threading.Lock()
    asked.acquire()

    def run() -> None:
        with suppress(Exception):
            answers.append(ask())
        asked.release()

    def answer() -> list[Facts] | None:
        asked.acquire(timeout=_WAIT_SECONDS)
        return answers[0] if answers else None

    _thread.start_new_thread(run, ())
    return answer


def read() -> list[Facts]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves this process, now. Raises when there is no driver."""
    nvml = Nvml(ctypes.CDLL(_LIBRARY))
    return [nvml.facts(device) for device in nvml.visible(os.environ.get("CUDA_VISIBLE_DEVICES"))]


class Nvml:
    """The library's calls, each None where the driver does not say."""

    def __init__(self, library: Any) -> None:
        self._library = library
        if library.nvmlInit_v2() != 0:
            raise OSError("the driver does not answer")

    def visible(self, names: str | None) -> list[ctypes.c_void_p]:
        """The devices that CUDA sees: all without `names`, else those before the first that is none."""
        count = self._number("nvmlDeviceGetCount_v2") or 0
        if names is None:
            return [device for index in range(min(count, _MAX_GPUS)) if (device := self._at(index))]
        found: list[ctypes.c_void_p] = []
        for name in names.split(",")[:_MAX_GPUS]:
            device = self._named(name.strip(), count)
            if device is None:
                break
            found.append(device)
        return found

    def facts(self, device: ctypes.c_void_p) -> Facts:
        # A part of a GPU has a name of its own; clocks and temperature are the whole one's.
        whole = self._handle("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", device) or device
        power, limit = (
            self._number(f"nvmlDeviceGet{what}", whole) for what in ("PowerUsage", "EnforcedPowerLimit")
        )
        reasons = (
            self._number("nvmlDeviceGetCurrentClocksThrottleReasons", whole, kind=ctypes.c_ulonglong) or 0
        )
        return {
            "index": self._number("nvmlDeviceGetIndex", whole) or 0,
            "uuid": self._text("nvmlDeviceGetUUID", device),
            "model": self._text("nvmlDeviceGetName", whole),
            "driver": self._text("nvmlSystemGetDriverVersion"),
            "sm_clock_mhz": self._number("nvmlDeviceGetClockInfo", whole, ctypes.c_uint(_SM)),
            "max_sm_clock_mhz": self._number("nvmlDeviceGetMaxClockInfo", whole, ctypes.c_uint(_SM)),
            "memory_clock_mhz": self._number("nvmlDeviceGetClockInfo", whole, ctypes.c_uint(_MEMORY)),
            "temperature_c": self._number("nvmlDeviceGetTemperature", whole, ctypes.c_uint(0)),
            "power_watts": None if power is None else power / 1000,
            "power_limit_watts": None if limit is None else limit / 1000,
            "throttled": [name for bit, name in _REASONS if reasons & bit],
            "neighbours": self._neighbours(device),
        }

    def _named(self, name: str, count: int) -> ctypes.c_void_p | None:
        if name.isdecimal():
            return self._at(int(name)) if int(name) < count else None
        if name.startswith("MIG-"):
            return self._handle("nvmlDeviceGetHandleByUUID", ctypes.c_char_p(name.encode()))
        if not name.startswith("GPU-"):
            return None
        # CUDA takes the beginning of a UUID too.
        devices = [device for index in range(count) if (device := self._at(index))]
        found = [device for device in devices if self._text("nvmlDeviceGetUUID", device).startswith(name)]
        return found[0] if len(found) == 1 else None

    def _neighbours(self, device: ctypes.c_void_p) -> int | None:
        """Other processes than this one. In a container the driver's numbers are not ours, and this process
        is taken for one of those it names."""
        ask = self._function("nvmlDeviceGetComputeRunningProcesses_v3")
        count, processes = ctypes.c_uint(256), (_Process * 256)()
        if ask is None or ask(device, ctypes.byref(count), ctypes.byref(processes)) != 0:
            return None
        pids = {process.pid for process in processes[: count.value]}
        return len(pids - {os.getpid()}) if os.getpid() in pids else max(0, len(pids) - 1)

    def _at(self, index: int) -> ctypes.c_void_p | None:
        return self._handle("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index))

    def _function(self, name: str) -> Any:
        return getattr(self._library, name, None)  # an old driver lacks the newer ones

    def _handle(self, name: str, *arguments: Any) -> ctypes.c_void_p | None:
        ask, handle = self._function(name), ctypes.c_void_p()
        return (
            handle
            if ask is not None and ask(*arguments, ctypes.byref(handle)) == 0 and handle.value
            else None
        )

    def _number(self, name: str, *arguments: Any, kind: Any = ctypes.c_uint) -> int | None:
        ask, number = self._function(name), kind()
        return int(number.value) if ask is not None and ask(*arguments, ctypes.byref(number)) == 0 else None

    def _text(self, name: str, *arguments: Any) -> str:
        ask, text = self._function(name), ctypes.create_string_buffer(96)
        if ask is None or ask(*arguments, text, ctypes.c_uint(len(text))) != 0:
            return ""
        return text.value.decode(errors="replace")
