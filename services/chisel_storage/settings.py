"""What an operator sets: `CHISEL_STORAGE_*`."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chisel_shared.runtime.settings import DatabaseSettings


class Settings(DatabaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="CHISEL_STORAGE_", frozen=True, extra="ignore", env_ignore_empty=True
    )

    host: str = "127.0.0.1"
    port: int = Field(default=8001, ge=0, le=65535)
    """0 takes a free one; the log says which."""
    token: str = Field(min_length=16, repr=False)
    """What the gateway shows at the door."""
    data_dir: Path
    settle_seconds: float = Field(default=15.0, gt=0)
    """How long the output of a lost attempt must have stopped growing before it is taken as all."""
