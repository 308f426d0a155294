"""The GPUs of this machine: a `GpuProbe` finds them once, at start."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from chisel_shared.contract.gpus import DEFAULT_MODEL, GPUType, model_of
from chisel_shared.runtime.logs import Log

log = Log("chisel.agent.gpus")


@dataclass(frozen=True, slots=True)
class Gpus:
    """What the agent offers: `indices` as the driver (and CUDA_VISIBLE_DEVICES) counts them."""

    model: str
    indices: tuple[int, ...]


class GpuProbe(Protocol):
    def find(self) -> Gpus: ...

    def processes(self, indices: tuple[int, ...]) -> Mapping[int, frozenset[int] | None]:
        """The processes that the driver knows on each of these GPUs, None for one that does not answer;
        nothing about those it cannot tell it of. Blocks."""


class SimulatedGpus:
    """GPUs that are only counted: everything else about a job on them is real."""

    def __init__(self, *, count: int, model: str = "") -> None:
        self._count, self._model = count, model

    def find(self) -> Gpus:
        return Gpus(self._model or DEFAULT_MODEL, tuple(range(self._count)))

    def processes(self, indices: tuple[int, ...]) -> Mapping[int, frozenset[int] | None]:
        return {}


class NvmlGpus:
    """What the NVIDIA driver reports; no driver is no GPUs, not an error."""

    def __init__(self, *, model: str = "") -> None:
        self._model = model
        self._found = self._open = False

    def find(self) -> Gpus:
        import pynvml  # 70 ms that only a machine with the question pays

        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            log.warning("no_gpu_driver", error=str(error))
            return Gpus(self._model or DEFAULT_MODEL, ())
        try:
            names = [_name(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]
        except pynvml.NVMLError as error:
            log.warning("gpus_not_readable", error=str(error))
            names = []
        finally:
            pynvml.nvmlShutdown()
        self._found = bool(names)
        return offered(names, model=self._model)

    def processes(self, indices: tuple[int, ...]) -> Mapping[int, frozenset[int] | None]:
        if not indices or not self._found:
            return {}
        import pynvml

        try:
            if not self._open:
                pynvml.nvmlInit()  # once: it can take a second, and every end of a job asks
                self._open = True
            return {index: pids for index in indices if (pids := _processes(pynvml, index)) is not UNKNOWN}
        except pynvml.NVMLError as error:
            log.warning("driver_does_not_answer", error=str(error))
            return dict.fromkeys(indices)


def _name(pynvml: Any, index: int) -> str:
    """The product name of one device; "" for one that is there and does not answer."""
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        name = pynvml.nvmlDeviceGetName(handle)
    except pynvml.NVMLError as error:
        log.warning("gpu_does_not_answer", index=index, error=str(error))
        return ""
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


UNKNOWN: frozenset[int] = frozenset({-1})
"""The driver does not tell, as for a part of a GPU."""


def _processes(pynvml: Any, index: int) -> frozenset[int] | None:
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        return frozenset(process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle))
    except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_NoPermission):
        return UNKNOWN
    except pynvml.NVMLError as error:
        log.warning("gpu_does_not_answer", index=index, error=str(error))
        return None


def offered(names: list[str], *, model: str = "") -> Gpus:
    """What a machine with GPUs of these product names offers: those of its commonest model, or all
    that answer as `model`. A device without a name is left out."""
    alive = [(index, model or model_of(name)) for index, name in enumerate(names) if name]
    if not alive:
        return Gpus(model or DEFAULT_MODEL, ())
    models = [of for _, of in alive]
    chosen = max(sorted(set(models)), key=models.count)
    if chosen not in {entry.model for entry in GPUType}:
        log.warning("unknown_gpu_model", model=chosen, hint="CHISEL_AGENT_GPU_MODEL renames it")
    if len(set(models)) > 1:
        log.warning("mixed_gpu_models", offered=chosen, found=sorted(set(models)))
    return Gpus(chosen, tuple(index for index, of in alive if of == chosen))


def probe_of(setting: str, *, model: str = "") -> GpuProbe:
    """The probe a `CHISEL_AGENT_GPUS` value asks for; `ValueError` when it asks for nothing known."""
    if setting == "auto":
        return NvmlGpus(model=model)
    kind, _, count = setting.partition(":")
    if kind == "sim" and count.isdecimal() and int(count) <= 64:
        return SimulatedGpus(count=int(count), model=model)
    raise ValueError(f"CHISEL_AGENT_GPUS is 'auto' or 'sim:N' with N up to 64, not {setting!r}")
