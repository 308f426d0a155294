"""Settings every service has. A service's own class says its prefix: `CHISEL_<SERVICE>_*`."""

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from chisel_shared.runtime import failpoints


class ServiceSettings(BaseSettings):
    """Read from the environment once, by `serve`, and handed down; nothing else reads it."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    log_level: str = "info"
    failpoint: str = ""
    """For tests: where and how the service is to break, as `submit.committed:kill`."""
    drain_seconds: float = Field(default=5.0, gt=0)
    """How long a stop waits for what is in flight."""

    @field_validator("failpoint")
    @classmethod
    def _known_action(cls, text: str) -> str:
        failpoints.parse(text)
        return text

    @property
    def stop_seconds(self) -> float:
        """How long a stop may take in all."""
        return self.drain_seconds


class NatsSettings(ServiceSettings):
    """For a service on the bus. The password travels apart from the URL so that logs can show the URL."""

    nats_url: str
    nats_user: str = ""
    nats_password: str = Field(default="", repr=False)


class DatabaseSettings(NatsSettings):
    """For a service with tables."""

    database_url: str = Field(repr=False)
    database_connections: int = Field(default=4, ge=2)
