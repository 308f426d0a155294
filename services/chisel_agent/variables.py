"""The environment variables of a job. Pure: from what is known about the job to a dict."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from chisel_shared.contract.messages import Assignment


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a job's variables depend on beside its assignment."""

    inherited: Mapping[str, str]
    """Of the agent's own environment, only what any job may see."""
    python: Path
    virtual_env: Path | None
    sdk: Path
    traces: Path
    gpus: tuple[int, ...]
    master_port: int


def job_variables(assignment: Assignment, around: Surroundings) -> dict[str, str]:
    """Inherited ones, over them the user's own, over them those that say where the job is."""
    spec = assignment.spec
    env = {"PYTHONUNBUFFERED": "1", **around.inherited, **spec.env}
    env["PATH"] = f"{around.python.parent}:{env.get('PATH') or '/usr/local/bin:/usr/bin:/bin'}"
    own_path = spec.env.get("PYTHONPATH")
    env["PYTHONPATH"] = f"{around.sdk}:{own_path}" if own_path else str(around.sdk)
    if around.virtual_env is not None:
        env["VIRTUAL_ENV"] = str(around.virtual_env)
    return env | {
        "CHISEL_BACKEND_RUN": "1",
        "CHISEL_JOB_ID": assignment.job_id,
        "CHISEL_ATTEMPT": str(assignment.attempt),
        "CHISEL_BACKEND_APP_NAME": spec.app_name,
        "CHISEL_TRACE_DIR": str(around.traces),
        "CHISEL_GPU_COUNT": str(assignment.gpu_count),
        "CUDA_VISIBLE_DEVICES": ",".join(map(str, around.gpus)),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # the order in which the driver, and so the agent, counts
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(around.master_port),
    }


def command(assignment: Assignment, python: Path) -> tuple[str, ...]:
    """The job's command line, with the environment's interpreter in the place of `python`."""
    spec = assignment.spec
    argv = tuple(os.fsdecode(part) for part in spec.exact_argv) or spec.argv
    return (str(python), *argv[1:]) if argv and argv[0] == "python" else argv
