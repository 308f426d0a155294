"""What an agent offers."""

import pytest

from chisel_agent.gpus import Gpus, NvmlGpus, SimulatedGpus, offered, probe_of


@pytest.mark.parametrize(
    ("names", "model", "expected"),
    [
        (["NVIDIA A100-SXM4-80GB"] * 2, "", Gpus("A100-80GB", (0, 1))),
        (["NVIDIA H200"], "", Gpus("H200", (0,))),
        (["NVIDIA H200"], "A100-80GB", Gpus("A100-80GB", (0,))),
        (["NVIDIA A100-SXM4-80GB", "", "NVIDIA A100-SXM4-80GB"], "", Gpus("A100-80GB", (0, 2))),
        (["NVIDIA T4", "NVIDIA A100 80GB PCIe", "NVIDIA A100 80GB PCIe"], "", Gpus("A100-80GB", (1, 2))),
        ([], "", Gpus("A100-80GB", ())),
    ],
)
def test_what_a_machine_with_such_gpus_offers(names: list[str], model: str, expected: Gpus) -> None:
    assert offered(names, model=model) == expected


def test_simulated_gpus_are_of_the_default_model_or_the_one_named() -> None:
    assert probe_of("sim:2").find() == Gpus("A100-80GB", (0, 1))
    assert probe_of("sim:1", model="H200").find() == Gpus("H200", (0,))
    assert isinstance(probe_of("sim:8"), SimulatedGpus)


def test_auto_asks_the_driver() -> None:
    assert isinstance(probe_of("auto"), NvmlGpus)


@pytest.mark.parametrize("setting", ["", "8", "sim", "sim:", "sim:-1", "sim:x", "sim:65", "all"])
def test_anything_else_is_refused(setting: str) -> None:
    with pytest.raises(ValueError, match="CHISEL_AGENT_GPUS"):
        probe_of(setting)


def test_a_machine_without_a_driver_has_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    import pynvml

    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    assert NvmlGpus().find().indices == ()


def test_a_device_that_does_not_answer_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import pynvml

    def name(handle: int) -> bytes:
        if handle == 1:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return b"NVIDIA A100-SXM4-80GB"

    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 3)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", name)
    assert NvmlGpus().find() == Gpus("A100-80GB", (0, 2))
