"""Postgres or NATS goes away: jobs run on, what is submitted is kept, and all is well by itself afterwards.

How long it took is printed: `pytest -s`.
"""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.ordeal import Ordeal, outlast

pytestmark = pytest.mark.e2e


def _stop(cluster: Cluster, server: str) -> None:
    cluster.stop(server, signal.SIGINT)  # with this one Postgres ends its sessions instead of waiting


def _kill(cluster: Cluster, server: str) -> None:
    cluster.kill(server)


def _wipe(cluster: Cluster, server: str) -> None:
    cluster.kill(server)
    cluster.nats.wipe()


@dataclass(frozen=True)
class Outage:
    name: str
    server: str
    begin: Callable[[Cluster, str], None]
    seconds: float = 0.0


OUTAGES = (
    *(Outage(f"{server} restarted", server, _stop) for server in ("postgres", "nats")),
    *(Outage(f"{server} crashed", server, _kill) for server in ("postgres", "nats")),
    *(Outage(f"{server} away for 8 s", server, _kill, seconds=8) for server in ("postgres", "nats")),
    Outage("nats came back without its store", "nats", _wipe, seconds=1),
)


@pytest.mark.parametrize("outage", OUTAGES, ids=lambda outage: outage.name)
def test_everything_goes_on_after(outage: Outage, own_cluster: Cluster, tmp_path: Path) -> None:
    cluster = own_cluster
    ordeal = Ordeal(cluster, tmp_path, lines=60 + int(10 * outage.seconds))
    outlast(
        ordeal,
        outage.name,
        begin=lambda: outage.begin(cluster, outage.server),
        end=lambda: cluster.start(outage.server),
        seconds=outage.seconds,
    )
    ordeal.finish()
