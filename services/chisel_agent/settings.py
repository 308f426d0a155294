"""Settings of an agent: `CHISEL_AGENT_*`. The only file of the agent that reads the environment."""

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chisel_shared.runtime.settings import ServiceSettings


class AgentSettings(ServiceSettings):
    model_config = SettingsConfigDict(
        env_prefix="CHISEL_AGENT_", frozen=True, extra="ignore", env_ignore_empty=True
    )

    url: str
    """The gateway: joining, bundles, traces and outputs go through it."""
    token: str = Field(default="", repr=False)
    """The join token; used until the agent has credentials of its own."""
    token_file: Path | None = None
    """Where the join token lies, or will soon."""
    name: str = Field(default_factory=lambda: socket.gethostname().lower())
    pool: str = ""
    """Overrides the pool that joining gave."""
    gpus: str = "auto"
    """`auto` asks the driver; `sim:8` offers eight simulated GPUs."""
    gpu_model: str = ""
    """What the GPUs are offered as, whatever the driver calls them."""
    data_dir: Path
    base_python: Path = Path(sys.executable)
    """The interpreter of jobs, and whose packages count as installed."""
    nats_url: str = ""
    """Overrides the address that joining gave."""
    bundle_cache_bytes: int = Field(default=10 << 30, ge=0)
    environment_cache_bytes: int = Field(default=50 << 30, ge=0)
    """What installed requirements may take before those that no job uses give way."""
    output_head_bytes: int = Field(default=1 << 30, gt=0)
    """How much of each of a job's two streams is kept from its beginning, and shown while it runs."""
    output_tail_bytes: int = Field(default=16 << 20, ge=0)
    """How much is kept of the end of a stream that goes on beyond that. What lies between is left out, and
    counted."""
    outputs_limit_bytes: int = Field(default=4 << 30, ge=0)
    """How much of what one attempt wrote into `./outputs` comes back; what is left out is said."""
    outputs_limit_files: int = Field(default=10_000, ge=0)
    """How many files of it."""
    files_wait_seconds: float = Field(default=600.0, ge=0)
    """How long the end of a job waits for its traces and outputs to be stored, as long as they get on;
    what takes longer follows it."""
    reserve_bytes: int = Field(default=1 << 30, ge=0)
    """With less than this free on the disk of `data_dir`, at most a twentieth of it, nothing new is taken."""
    backlog_bytes: int = Field(default=256 << 20, gt=0)
    """How far a job's output may be ahead of what was shipped before the job has to wait."""
    interrupt_grace_seconds: float = Field(default=5.0, ge=0)
    terminate_grace_seconds: float = Field(default=5.0, ge=0)
    cgroups: Literal["auto", "kill", "freeze", "off"] = "auto"
    """How jobs are kept together and ended: by `cgroup.kill`, by a freezer, or without control groups; `auto`
    takes the best that the machine allows."""
    stuck_seconds: float = Field(default=10.0, gt=0)
    """How long what was killed may take to go, and a GPU to be empty after a job, before the job's GPUs are
    withheld."""
    build_limit_seconds: float = Field(default=1800.0, gt=0)
    """How long installing requirements may take."""
    renew_seconds: float = Field(default=5.0, gt=0)
    poll_seconds: float = Field(default=5.0, gt=0)
    """How often a free agent asks for work without being told that there is some."""
    finish_seconds: float = Field(default=0.0, ge=0)
    """How long a stop waits for running jobs to end and be reported, taking no new ones. Jobs that run
    longer, all with 0, run on: the next agent on the same data goes on with them. Give the service
    manager more time than this before it kills."""

    @property
    def stop_seconds(self) -> float:
        return self.drain_seconds + self.finish_seconds


# fmt: off
_FOR_JOBS = frozenset(
    {
        "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR",
        "LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
        "http_proxy", "https_proxy", "no_proxy", "NVIDIA_VISIBLE_DEVICES",
        "NVIDIA_DRIVER_CAPABILITIES", "XDG_CACHE_HOME", "HF_HOME", "TORCH_HOME",
    }
)
# fmt: on


def environment_for_jobs(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What a job gets of the agent's environment: an allow-list, so that no secret slips through."""
    return {name: value for name, value in environ.items() if name in _FOR_JOBS or name.startswith("LC_")}


def environment_for_installer(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What the package installer gets: the same and its own settings. Jobs do not see those, but what
    builds a package of a job's requirements, such as its `setup.py`, runs with them."""
    own = {name: value for name, value in environ.items() if name.startswith("PIP_")}
    return environment_for_jobs(environ) | own
