"""What is decided after a job's end: tables, and the driver's answer where there is a driver."""

import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

from chisel_agent.aftermath import may_repeat, occupied
from chisel_agent.gpus import NvmlGpus
from chisel_shared.contract.ids import Digest
from chisel_shared.contract.job import EndReason, JobEnd, JobSpec

MINE, OTHERS = 1 << 22, 2 << 22


@pytest.mark.parametrize(
    ("found", "problems"),
    [
        ({}, {}),
        ({0: frozenset()}, {}),
        ({0: frozenset({OTHERS})}, {}),
        ({0: frozenset({MINE, OTHERS}), 1: frozenset()}, {0: f"GPU 0 still has {MINE}"}),
        ({3: None}, {3: "GPU 3 does not answer its driver"}),
    ],
)
def test_a_gpu_is_free_when_the_driver_knows_nobody_of_the_job(
    found: Mapping[int, frozenset[int] | None], problems: Mapping[int, str]
) -> None:
    assert occupied(found, others=frozenset({OTHERS})) == problems


@pytest.mark.parametrize(
    ("end", "retries", "retry_on", "may"),
    [
        (JobEnd(reason=EndReason.EXIT, exit_code=1), 0, ("exit",), False),
        (JobEnd(reason=EndReason.EXIT, exit_code=1), 2, (), False),
        (JobEnd(reason=EndReason.EXIT, exit_code=1), 2, ("exit",), True),
        (JobEnd(reason=EndReason.EXIT, exit_code=0), 2, ("any",), False),
        (JobEnd(reason=EndReason.USER), 2, (), True),
        (JobEnd(reason=EndReason.USER), 0, (), False),
        (JobEnd(reason=EndReason.AGENT_LOST), 2, (), True),
        (JobEnd(reason=EndReason.LEASE_EXPIRED), 2, (), True),
        (JobEnd(reason=EndReason.AGENT_LOST), 0, (), False),
    ],
)
def test_which_ends_may_start_the_job_again(
    end: JobEnd, retries: int, retry_on: tuple[str, ...], may: bool
) -> None:
    spec = JobSpec(
        app_name="test",
        argv=("python",),
        gpu="A100-80GB:1",
        bundle=Digest("0" * 64),
        retries=retries,
        retry_on=retry_on,
    )
    assert may_repeat(end, spec) is may


def test_without_a_driver_there_is_nothing_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    import pynvml

    def init() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", init)
    probe = NvmlGpus()
    assert probe.find().indices == ()
    assert probe.processes((0,)) == {}


@pytest.mark.gpu
def test_the_driver_names_a_process_as_long_as_it_computes() -> None:
    probe = NvmlGpus()
    if not probe.find().indices:
        pytest.skip("this machine has no GPU that a driver knows")
    code = "import torch; torch.zeros(1, device='cuda'); print('ready', flush=True); input()"
    index = probe.find().indices[0]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": str(index), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert probe.processes((index,))[index], "it holds memory of the GPU"
        process.kill()
    left = probe.processes((index,))[index] or frozenset()
    assert process.pid not in left
