"""The GPUs a job can ask for. A new type is new members of `GPUType` and one row of `NVML_NAMES`.

Standard library only: this file travels into every job.
"""

from enum import Enum


class GPUType(Enum):
    """A GPU model and how many of them; the value is what travels: `"<model>:<count>"`."""

    A100_80GB_1 = "A100-80GB:1"
    A100_80GB_2 = "A100-80GB:2"
    A100_80GB_4 = "A100-80GB:4"
    A100_80GB_8 = "A100-80GB:8"

    @property
    def model(self) -> str:
        return self.value.rpartition(":")[0]

    @property
    def count(self) -> int:
        return int(self.value.rpartition(":")[2])


DEFAULT_MODEL = "A100-80GB"

NVML_NAMES = {
    # What the driver calls the product, lower case, as a part of the name it reports.
    "a100-sxm4-80gb": "A100-80GB",
    "a100 80gb": "A100-80GB",
    "a100-sxm-80gb": "A100-80GB",
}


def counts(model: str = DEFAULT_MODEL) -> tuple[int, ...]:
    """The numbers of `model` a job may ask for, ascending; empty when there is no such model."""
    return tuple(sorted(g.count for g in GPUType if g.model == model))


def gpu_type(count: int, model: str = DEFAULT_MODEL) -> GPUType:
    """The catalogue's entry for `count` GPUs of `model`; `ValueError` says which counts exist."""
    for entry in GPUType:
        if entry.model == model and entry.count == count:
            return entry
    offered = ", ".join(str(n) for n in counts(model)) or "none"
    raise ValueError(f"a job can have {offered} {model} GPUs, not {count}")


def model_of(nvml_name: str) -> str:
    """The model an NVML product name stands for; an unknown product is its own, tidied, model."""
    lowered = nvml_name.lower()
    for part, model in NVML_NAMES.items():
        if part in lowered:
            return model
    return nvml_name.replace("NVIDIA", "").strip().replace(" ", "-") or "unknown"
