"""Settings of the scheduler: `CHISEL_SCHEDULER_*`."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chisel_scheduler.rules import HALF_LIFE_SECONDS, RESERVE_AFTER_SECONDS
from chisel_shared.runtime.settings import DatabaseSettings


class SchedulerSettings(DatabaseSettings):
    """Read once at start. Every wait of the scheduler is here."""

    model_config = SettingsConfigDict(env_prefix="CHISEL_SCHEDULER_")

    database_connections: int = Field(default=6, ge=2)
    """One is the outbox relay's own; claims use one at a time."""
    pool: str = Field(default="default", pattern=r"^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$")
    """The pool of agents that submitted jobs go to."""
    renew_seconds: float = Field(default=5.0, gt=0)
    """How often agents renew. One that is two seconds late no longer counts as a better place."""
    lease_seconds: float = Field(default=600.0, gt=0)
    """How long an attempt may go unrenewed before a job with retries is given to another agent."""
    lease_grace_seconds: float = Field(default=30.0, ge=0)
    """Added to the lease here, so that the agent, which counts without it, always ends first."""
    unreachable_seconds: float = Field(default=20.0, gt=0)
    """Silence after which users are told that an agent is unreachable; nothing else happens."""
    gone_seconds: float = Field(default=86_400.0, gt=0)
    """Silence after which an agent is declared gone, and what it ran is lost."""
    forget_seconds: float = Field(default=30 * 86_400.0, gt=0)
    """Silence after which an agent that runs nothing is no longer listed."""
    patience_seconds: float = Field(default=1.0, ge=0)
    """How long a job waits for the agent it would fit best before any agent may take it."""
    half_life_seconds: float = Field(default=HALF_LIFE_SECONDS, ge=60)
    """GPU-seconds that a user has had count for half as much after this long in fair share."""
    reserve_after_seconds: float = Field(default=RESERVE_AFTER_SECONDS, ge=0)
    """How long a job of two GPUs or more waits before an agent may be kept for it."""
    reap_seconds: float = Field(default=5.0, gt=0)
    """Pause between two rounds of the reaper; also the longest a lost wake delays a job."""
    stream_max_bytes: int = Field(default=8 << 30, ge=1 << 20)
    """Size of the output stream on the bus; the event stream takes an eighth more."""
    bus_alarm_file: Path | None = None
    """Gets the line `nats` every few seconds while NATS has stopped writing a stream, as after its disk was
    full: then only a restart of NATS helps. A file to watch, or a named pipe."""
