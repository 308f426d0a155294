"""The GPUs of this machine: a `GpuProbe` finds them once, at start."""

from dataclasses import dataclass
from typing import Protocol

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


class SimulatedGpus:
    """GPUs that are only counted: everything else about a job on them is real."""

    def __init__(self, *, count: int, model: str = "") -> None:
        self._count, self._model = count, model

    def find(self) -> Gpus:
        return Gpus(self._model or DEFAULT_MODEL, tuple(range(self._count)))


class NvmlGpus:
    """What the NVIDIA driver reports; no driver is no GPUs, not an error."""

    def __init__(self, *, model: str = "") -> None:
        self._model = model

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
        return offered(names, model=self._model)


def _name(pynvml: object, index: int) -> str:
    """The product name of one device; "" for one that is there and does not answer."""
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)  # type: ignore[attr-defined]
        name = pynvml.nvmlDeviceGetName(handle)  # type: ignore[attr-defined]
    except pynvml.NVMLError as error:  # type: ignore[attr-defined]
        log.warning("gpu_does_not_answer", index=index, error=str(error))
        return ""
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


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
