"""What an operator sets: `CHISEL_STORAGE_*`."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chisel_shared.contract.bundles import MAX_ENTRIES, MAX_UNPACKED_BYTES
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
    max_bundle_bytes: int = Field(default=MAX_UNPACKED_BYTES, gt=0, le=MAX_UNPACKED_BYTES)
    """Of all files of one upload together. The client names it before anything is sent."""
    max_bundle_entries: int = Field(default=MAX_ENTRIES, gt=0, le=MAX_ENTRIES)
    """Files and folders of one upload."""
    reserve_bytes: int = Field(default=1 << 30, ge=0)
    """What uploads leave free of the disk, for the output of jobs that run; at most a twentieth of it."""
    settle_seconds: float = Field(default=15.0, gt=0)
    """How long the output of a lost attempt must have stopped growing before it is taken as all."""
    summary_memory_bytes: int = Field(default=2 << 30, ge=64 << 20)
    """What reading one trace may take of the memory; one that takes more has no summary."""
    summary_seconds: float = Field(default=120.0, gt=0)
    """How long it may take."""
