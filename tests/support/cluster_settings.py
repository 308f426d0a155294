"""What each service of a test's cluster is told, as an operator would tell it."""

from pathlib import Path
from typing import Protocol

from tests.support.backends import AGENT_PASSWORD, Nats, Postgres

_STORAGE_TOKEN = "the storage token of these tests"


class Placed(Protocol):
    """Where the parts of a cluster are."""

    folder: Path
    nats: Nats
    postgres: Postgres
    ports: dict[str, int]
    bus_alarm: Path


def settings_of(cluster: Placed, name: str) -> dict[str, str]:
    """The environment of the service `name`."""
    settings = {
        "NATS_URL": cluster.nats.url,
        "NATS_USER": cluster.nats.user,
        "NATS_PASSWORD": cluster.nats.password,
    }
    if name != "gateway":
        settings["DATABASE_URL"] = cluster.postgres.url()
    if name == "auth":
        settings |= {
            "BOOTSTRAP_KEY_FILE": str(cluster.folder / "key"),
            "JOIN_TOKEN_FILE": str(cluster.folder / "join-token"),
            "ADMIN_TOKEN_FILE": str(cluster.folder / "admin-token"),
            "SECRETS_KEY_FILE": str(cluster.folder / "secrets-key"),
            "AGENT_NATS_URL": cluster.nats.url,
            "AGENT_NATS_USER": "agent",
            "AGENT_NATS_PASSWORD": AGENT_PASSWORD,
        }
    if name == "scheduler":
        settings["BUS_ALARM_FILE"] = str(cluster.bus_alarm)
    if name in ("storage", "gateway"):
        settings |= {"HOST": "127.0.0.1", "PORT": str(cluster.ports[name])}
    if name == "storage":
        settings |= {"TOKEN": _STORAGE_TOKEN, "DATA_DIR": str(cluster.folder / "storage")}
    if name == "gateway":
        settings |= {
            "STORAGE_URL": f"http://127.0.0.1:{cluster.ports['storage']}",
            "STORAGE_TOKEN": _STORAGE_TOKEN,
        }
    return {f"CHISEL_{name.upper()}_{key}": value for key, value in settings.items()}
