"""The system under test: real services, each agent and all clients behind links that can break, and disks
that can be full where this machine lets us make any."""

import asyncio
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import asyncpg

from chisel_shared.contract.gpus import DEFAULT_MODEL, GPUType
from tests.chaos.disks import Disk
from tests.chaos.network import Link, Network
from tests.chaos.plan import Times
from tests.support.backends import running_nats, running_postgres, wait_for_postgres
from tests.support.cluster import SERVICES, Cluster
from tests.support.processes import Server
from tests.support.reaper import reaped

_DISKS = {"storage": "storage", "nats": "nats", "postgres": "db"}
"""Whose disk is which folder; an agent's is `agent-NAME`."""
_MEBIBYTES = {"storage": 2048, "nats": 1024, "postgres": 1024}
_AGENT_MEBIBYTES = 512


AWAY = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    TimeoutError,
)
"""What asking a Postgres raises that was killed, or stopped, a moment ago."""


class System:
    """Everything that faults are done to."""

    def __init__(self, cluster: Cluster, network: Network, disks: Mapping[str, Disk]) -> None:
        self.cluster = cluster
        self.folder = cluster.folder
        self.disks = disks
        """By target; empty where none could be mounted."""
        self.clients = network.link(cluster.ports["gateway"])
        """What clients connect to."""
        self._network = network
        self._links: dict[str, dict[str, Link]] = {}
        self.agents: dict[str, int] = {}

    @property
    def url(self) -> str:
        """Where clients find the gateway."""
        return f"http://127.0.0.1:{self.clients.port}"

    def add_agent(self, name: str, gpus: int, times: Times) -> None:
        """An agent of so many simulated GPUs, behind links of its own."""
        links = {
            "nats": self._network.link(self.cluster.nats.port),
            "gateway": self._network.link(self.cluster.ports["gateway"]),
        }
        self._links[f"agent:{name}"] = links
        settings = {
            "URL": f"http://127.0.0.1:{links['gateway'].port}",
            "NATS_URL": f"nats://127.0.0.1:{links['nats'].port}",
            "RENEW_SECONDS": str(times.renew),
            "POLL_SECONDS": str(times.renew),
            "INTERRUPT_GRACE_SECONDS": "0.5",
            "TERMINATE_GRACE_SECONDS": "0.5",
        }
        self.cluster.add_agent(gpus=gpus, name=name, settings=settings)
        self.agents[name] = gpus

    def links(self, target: str, which: str) -> Sequence[Link]:
        """The links of a target; `which` of an agent's is `nats`, `gateway` or `all`."""
        if target == "clients":
            return (self.clients,)
        found = self._links[target]
        return tuple(found.values()) if which == "all" else (found[which],)

    def server(self, target: str) -> Server:
        """A process of ours: a campaign kills no containers."""
        return self.cluster.server(target.removeprefix("agent:"))

    def processes(self, target: str) -> list[int]:
        """The process of a target; of Postgres also its sessions, which do not stop with it."""
        first = self.server(target).pid
        return [first, *(_children(first) if target == "postgres" else ())]

    def data_of(self, agent: str) -> Path:
        """An agent's data directory."""
        return self.folder / f"agent-{agent}"

    def kill_all(self) -> None:
        """kill -9 of every service and agent."""
        for name in (*self.agents, *SERVICES):
            if self.server(name).running():
                self.server(name).kill()

    @property
    def servers(self) -> list[str]:
        """Every target that is a process of its own."""
        return ["nats", "postgres", *SERVICES, *(f"agent:{name}" for name in self.agents)]


def gpu_of(count: int) -> GPUType:
    """So many of the GPUs that a simulating agent offers."""
    return next(gpu for gpu in GPUType if gpu.count == count and gpu.model == DEFAULT_MODEL)


def signal_all(pids: Sequence[int], number: signal.Signals) -> None:
    """Send a signal to those that are still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _children(parent: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = Path(f"/proc/{name}/stat").read_bytes()
            except OSError:
                continue
            if int(stat.rpartition(b")")[2].split()[1]) == parent:
                found.append(int(name))
    return found


def settings_of(times: Times) -> dict[str, dict[str, str]]:
    """The services' settings that a campaign needs to be short."""
    return {
        "scheduler": {
            "LEASE_SECONDS": str(times.lease),
            "LEASE_GRACE_SECONDS": str(times.grace),
            "RENEW_SECONDS": str(times.renew),
            "UNREACHABLE_SECONDS": str(times.lease / 2),
            "REAP_SECONDS": str(times.reap),
        },
        "storage": {"SETTLE_SECONDS": "2"},
    }


@contextmanager
def running_system(
    folder: Path,
    *,
    agents: Mapping[str, int],
    times: Times,
    small_disks: bool = False,
    launcher: Sequence[str] = (),
) -> Iterator[System]:
    """A system that is ready, in `folder`, whose path must be short. Everything is ended afterwards."""
    with ExitStack() as stack:
        stack.enter_context(reaped(folder, keep=True))
        disks = _mounted(folder, agents, stack) if small_disks else {}
        for name in ("nats", "db"):
            (folder / name).mkdir(exist_ok=True)
        nats = stack.enter_context(running_nats(folder / "nats"))
        postgres = stack.enter_context(running_postgres(folder / "db"))
        asyncio.run(_remember_commits(postgres.url()))
        postgres.server.stop(signal.SIGINT)
        postgres.server.start()
        asyncio.run(wait_for_postgres(postgres.url()))
        cluster = Cluster(folder, nats, postgres, settings=settings_of(times), launcher=launcher)
        stack.callback(cluster.close)
        network = Network()
        stack.callback(network.close)
        system = System(cluster, network, disks)
        # Nobody needs their last words: asked to, they would take their time to end.
        stack.callback(system.kill_all)
        for name in SERVICES:
            cluster.start(name)
        cluster.wait_ready()
        for name, gpus in agents.items():
            system.add_agent(name, gpus, times)
        yield system


async def _remember_commits(url: str) -> None:
    """Let Postgres note when each transaction committed: the order of what happened to jobs of different
    transactions is told by nothing else. It takes effect with the next start."""
    await wait_for_postgres(url)
    connection = await asyncpg.connect(url)
    await connection.execute("alter system set track_commit_timestamp = on")
    await connection.close()


def _mounted(folder: Path, agents: Mapping[str, int], stack: ExitStack) -> dict[str, Disk]:
    disks = {target: Disk(folder / name, mebibytes=_MEBIBYTES[target]) for target, name in _DISKS.items()} | {
        f"agent:{name}": Disk(folder / f"agent-{name}", mebibytes=_AGENT_MEBIBYTES) for name in agents
    }
    for disk in disks.values():
        problem = disk.mount()
        if problem:
            raise OSError(problem)
        stack.callback(disk.unmount)
    return disks
