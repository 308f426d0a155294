"""What attempts work with: made once, in `service.build`."""

from dataclasses import dataclass

from chisel_agent.gateway import Gateway
from chisel_agent.gpus import GpuProbe
from chisel_agent.job_secrets import JobSecrets
from chisel_agent.launch import Launcher
from chisel_agent.outputs import Cap
from chisel_agent.preparation import Preparation
from chisel_agent.scheduler import Scheduler
from chisel_agent.storage import Storage
from chisel_shared.contract.ids import AgentId
from chisel_shared.runtime.streams import Streams


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What attempts work with."""

    agent_id: AgentId
    scheduler: Scheduler
    streams: Streams
    gateway: Gateway
    storage: Storage
    preparation: Preparation
    secrets: JobSecrets
    launcher: Launcher
    cap: Cap
    files_wait_seconds: float
    reserve_bytes: int
    gpus: GpuProbe
    stuck_seconds: float
