"""Settings of auth: `CHISEL_AUTH_*`."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chisel_shared.runtime.settings import DatabaseSettings


class AuthSettings(DatabaseSettings):
    """Read once at start."""

    model_config = SettingsConfigDict(env_prefix="CHISEL_AUTH_")

    bootstrap_key_file: Path | None = None
    """An API key of the local user is kept here: made if the file is absent, adopted if it is there."""
    join_token_file: Path | None = None
    """The same for a token with which agents join."""
    admin_token_file: Path | None = None
    """While there is no admin, the one-time token with which the first one gets an account is kept here:
    `chisel admin init --token-file` makes the address of it. It is gone when there is one."""
    login_key_days: int = Field(default=90, ge=1)
    """How long a key from `chisel login` holds."""
    secrets_key_file: Path | None = None
    """The key that secrets are sealed with is kept here, made if the file is absent; without it this
    backend keeps no secrets. Back it up apart from the database: secrets are lost with it."""
    agent_nats_url: str = ""
    """Where agents reach the bus; empty means where this service does."""
    agent_nats_user: str = "agent"
    agent_nats_password: str = Field(default="", repr=False)
    agent_pool: str = Field(default="default", pattern=r"^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$")
    """The pool an agent is told to join unless it has one of its own."""
