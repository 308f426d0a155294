"""The five services as separate processes on a NATS and a Postgres of their own, driven by the real CLI.

A cluster's processes die with the test process, and whatever they left (jobs, containers) is ended
by the reaper, a process that waits for ours to end. `assert_clean` is the cluster's verdict.
"""

import asyncio
import json
import os
import re
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from chisel.local import jobs
from tests.support.backends import (
    Nats,
    Postgres,
    running_nats,
    running_postgres,
    short_folder,
    wait_for_postgres,
)
from tests.support.cluster_settings import settings_of
from tests.support.commands import Command, Finished
from tests.support.full_disk import SmallDisk, small_disk
from tests.support.processes import Server, ServerLike, free_port
from tests.support.proxy import CuttingProxy
from tests.support.reaper import reaped

SERVICES = ("auth", "scheduler", "storage", "gateway")
_READY_SECONDS = 40.0
_ERRORS = re.compile(r'"level": "(error|critical)"')


class Cluster:
    """Running services. `url` and `key` are what a client needs.

    `settings` has more of a service's, by its name and without the prefix; `launcher` is the module, with
    its arguments, that is given a service's to run.
    """

    def __init__(
        self,
        folder: Path,
        nats: Nats,
        postgres: Postgres,
        *,
        settings: Mapping[str, Mapping[str, str]] | None = None,
        launcher: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self._launcher = launcher
        self.nats = nats
        self.postgres = postgres
        self.ports = {"gateway": free_port(), "storage": free_port()}
        self.url = f"http://127.0.0.1:{self.ports['gateway']}"
        self.bus_alarm = folder / "bus-alarm"
        """What asks for a restart of NATS."""
        self.home = folder / "home"
        self.home.mkdir()
        self._servers: dict[str, ServerLike] = {"nats": nats.server, "postgres": postgres.server}
        self._agents: list[str] = []
        self._more: list[str] = []
        self._down: set[str] = set()
        self._commands: list[Command] = []
        self._proxies: dict[str, CuttingProxy] = {}
        self.disks: dict[str, SmallDisk] = {}
        """The small file systems of this cluster, by the folder each is mounted at."""
        for name in SERVICES:
            more = {
                f"CHISEL_{name.upper()}_{key}": value for key, value in (settings or {}).get(name, {}).items()
            }
            self._add(name, f"chisel_{name}", settings_of(self, name) | more)

    @property
    def key(self) -> str:
        """The API key of the cluster's user."""
        return (self.folder / "key").read_text().strip()

    # Processes

    def kill(self, name: str) -> None:
        """kill -9 of a service, of an agent by its name, of `nats` or of `postgres`."""
        self._down.add(name)
        self._servers[name].kill()

    def stop(self, name: str, number: int = signal.SIGTERM) -> int:
        """Ask one to end; its exit status."""
        self._down.add(name)
        return self._servers[name].stop(number)

    def start(self, name: str) -> None:
        """Start one that is down; it may not be ready yet."""
        if name == "nats":
            self.nats.start()
        else:
            self._servers[name].start()
        self._down.discard(name)

    def arm(self, name: str, failpoint: str) -> None:
        """Start a service or an agent anew with a failpoint armed; none with ""."""
        self.start_with(name, FAILPOINT=failpoint)

    def start_with(self, name: str, **settings: str) -> None:
        """Start a service or an agent anew with these of its own settings changed, from now on."""
        server = self._servers[name]
        assert isinstance(server, Server)
        assert server.env is not None
        prefix = "AGENT" if name in self._agents else name.upper()
        server.env = {**server.env, **{f"CHISEL_{prefix}_{key}": value for key, value in settings.items()}}
        if name not in self._down:
            self.stop(name)
        self.start(name)

    def struck(self, name: str, action: str) -> set[str]:
        """The failpoints that ever struck in a service with this action."""
        lines = (self.folder / "logs" / f"{name}.log").read_text().splitlines()
        found = [json.loads(line) for line in lines if '"event": "failpoint"' in line]
        return {line["place"] for line in found if line["action"] == action}

    def wait_for_death(self, name: str) -> None:
        """Return when a process has ended, as a failpoint made it."""
        self._down.add(name)
        self.until(lambda: not self._running(name))

    def restart(self, name: str) -> None:
        """A clean stop and a start."""
        self.stop(name)
        self.start(name)

    def add_agent(
        self, *, gpus: int = 8, name: str = "agent", settings: Mapping[str, str] | None = None
    ) -> None:
        """Start another agent, with its own data, and return when it may be given work. `settings` are
        more of its own, without the prefix."""
        more = {f"CHISEL_AGENT_{key}": value for key, value in (settings or {}).items()}
        known = {
            "CHISEL_AGENT_URL": self.url,
            "CHISEL_AGENT_TOKEN_FILE": str(self.folder / "join-token"),
            "CHISEL_AGENT_NAME": name,
            "CHISEL_AGENT_GPUS": f"sim:{gpus}",
            "CHISEL_AGENT_DATA_DIR": str(self.folder / f"agent-{name}"),
            "CHISEL_AGENT_BASE_PYTHON": sys.executable,
        }
        self._add(name, "chisel_agent", known | more)
        self._agents.append(name)
        self.start(name)
        self.until(lambda: name in self.online_agents())

    def add_scheduler(self, name: str) -> None:
        """Start another scheduler, with the settings of the first."""
        self._add(name, "chisel_scheduler", settings_of(self, "scheduler"))
        self._more.append(name)
        self.start(name)

    def add_double(self, name: str, env: Mapping[str, str]) -> None:
        """Start another agent with just this environment; whether it ever gets work is the question."""
        self._add(name, "chisel_agent", env)
        self._more.append(name)
        self.start(name)

    def server(self, name: str) -> Server:
        """The process of a service or an agent."""
        server = self._servers[name]
        assert isinstance(server, Server)
        return server

    def wait_ready(self) -> None:
        """Return when every service answers and every agent may be given work."""
        self.until(lambda: (self.folder / "key").exists() and not self.ill())
        self.until(lambda: set(self._agents) - self._down <= self.online_agents())

    def ill(self) -> list[str]:
        """What is not well, as the gateway sees it."""
        try:
            with urllib.request.urlopen(f"{self.url}/ready", timeout=5):
                return []
        except urllib.error.HTTPError as error:
            with error:
                return list(json.load(error)["away"])

    def online_agents(self) -> set[str]:
        agents = self.get("/api/v1/agents")["agents"]
        return {agent["name"] for agent in agents if agent["state"] == "online"}

    def until(self, fact: Callable[[], object], *, seconds: float = _READY_SECONDS) -> None:
        """Poll until `fact()` is true; fail with the logs when a process died or time ran out."""
        end = time.monotonic() + seconds
        while not _quietly(fact):
            dead = [name for name in self._servers if name not in self._down and not self._running(name)]
            assert not dead, f"died: {dead}\n{self.tails(dead)}"
            assert time.monotonic() < end, f"not within {seconds:g} s\n{self.tails(list(self._servers))}"
            time.sleep(0.02)

    def tails(self, names: Sequence[str]) -> str:
        return "\n".join(f"--- {name}\n{self._servers[name].tail(15)}" for name in names)

    # The command

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        """A user's shell: nothing of this test's own settings, a home of its own."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CHISEL_")}
        return {
            **kept,
            "HOME": str(self.home),
            "CHISEL_BACKEND_URL": self.url,
            "CHISEL_API_KEY": self.key,
            **(env or {}),
        }

    def spawn(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> Command:
        """Start `chisel ARGUMENTS` and let it run; `prefix` is a command that executes it."""
        command = [*prefix, str(Path(sys.executable).with_name("chisel")), *arguments]
        started = Command(command, cwd=cwd or self.home, env=self.environment(env))
        self._commands.append(started)
        return started

    def run(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60.0,
    ) -> Finished:
        """`chisel ARGUMENTS` to its end."""
        return self.spawn(arguments, cwd=cwd, env=env).finish(timeout=timeout)

    # The API

    def get(self, path: str) -> Any:
        """The JSON of a GET with the user's key."""
        request = urllib.request.Request(f"{self.url}{path}", headers={"Authorization": f"Bearer {self.key}"})
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.load(answer)

    def job(self, app_name: str) -> Any:
        """The newest job of this name as the API shows it."""
        found = [job for job in self.get("/api/v1/jobs?limit=200")["jobs"] if job["app_name"] == app_name]
        assert found, f"no job is called {app_name}"
        return max(found, key=lambda job: job["submitted_at"])

    def wait_for_job(
        self, app_name: str, fact: Callable[[Any], object], *, seconds: float = _READY_SECONDS
    ) -> Any:
        """That job, once it exists and `fact(job)` is true."""
        self.until(lambda: fact(self.job(app_name)), seconds=seconds)
        return self.job(app_name)

    def bundle_of(self, app_name: str) -> str:
        """The digest of the bundle that this job was submitted with."""
        spec = self.fetch("select spec from scheduler.jobs where id = $1", self.job(app_name)["id"])
        return str(json.loads(spec)["bundle"])

    def registered_at(self, agent: str) -> float:
        """When this agent was first there for work, by the clock that stamps its jobs too."""
        query = """
            select extract(epoch from min(started_at))
            from scheduler.sessions join scheduler.agents on agents.id = agent_id where name = $1
        """
        return float(self.fetch(query, agent))

    def fetch(self, query: str, *arguments: object) -> Any:
        """The one value of a query: for what the API does not tell."""

        async def ask() -> Any:
            import asyncpg

            connection = await asyncpg.connect(self.postgres.url())
            try:
                return await connection.fetchval(query, *arguments)
            finally:
                await connection.close()

        return asyncio.run(ask())

    @contextmanager
    def cutting_proxy(self, *, after_bytes: int) -> Iterator[str]:
        """The URL of a proxy that cuts every connection after so many bytes from the gateway."""
        with CuttingProxy(self.ports["gateway"], after_bytes=after_bytes) as proxy:
            self._proxies[proxy.url] = proxy
            yield proxy.url

    def cuts(self, url: str) -> int:
        """How many connections the proxy at `url` has cut."""
        return self._proxies[url].cuts

    # The end

    def assert_clean(self) -> None:
        """Fail when a process died unasked, any of them logged an error, or a shim had anything to say."""
        dead = [name for name in self._servers if name not in self._down and not self._running(name)]
        assert not dead, f"died unasked: {dead}\n{self.tails(dead)}"
        errors = []
        for log in sorted((self.folder / "logs").glob("*.log")):
            errors += [f"{log.stem}: {line}" for line in complaints(log.read_text(errors="replace"))]
        for log in self.folder.glob("agent-*/shims.log"):
            errors += [f"{log.parent.name}'s shims: {line}" for line in log.read_text().splitlines()]
        assert not errors, "errors were logged:\n" + "\n".join(errors[:20])

    def close(self) -> None:
        """End everything: commands, agents, services, and the jobs that outlive an agent."""
        for command in self._commands:
            command.kill()
        for name in (*reversed(self._agents), *self._more, *reversed(SERVICES)):
            self._servers[name].stop(signal.SIGKILL if name in self._agents else signal.SIGTERM)
        jobs.kill_leftovers(self.folder)

    def _running(self, name: str) -> bool:
        return self._servers[name].running()

    def _add(self, name: str, module: str, settings: Mapping[str, str]) -> None:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("CHISEL_")}
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        self._servers[name] = Server(
            [sys.executable, "-m", *self._launcher, module],
            log=logs / f"{name}.log",
            env={**kept, **settings},
        )


@contextmanager
def running_cluster(
    *, agents: Mapping[str, int], disks: Mapping[str, int] = MappingProxyType({})
) -> Iterator[Cluster]:
    """A cluster that is ready, with agents of so many simulated GPUs by name; clean at the end, or
    the test fails. `disks` are folders of it (`nats/jetstream`, `db`, `storage`, `agent-NAME`) that get
    file systems of so many bytes of their own."""
    with ExitStack() as stack:
        folder = stack.enter_context(short_folder())
        stack.enter_context(reaped(folder))
        small = {
            name: stack.enter_context(small_disk(folder / name, size_bytes=size))
            for name, size in disks.items()
        }
        nats_folder, postgres_folder = folder / "nats", folder / "db"
        nats_folder.mkdir(exist_ok=True)
        postgres_folder.mkdir(exist_ok=True)
        nats = stack.enter_context(running_nats(nats_folder))
        postgres = stack.enter_context(running_postgres(postgres_folder))
        asyncio.run(wait_for_postgres(postgres.url()))
        cluster = Cluster(folder, nats, postgres)
        cluster.disks = small
        stack.callback(cluster.close)
        for name in SERVICES:
            cluster.start(name)
        cluster.wait_ready()
        for name, gpus in agents.items():
            cluster.add_agent(gpus=gpus, name=name)
        yield cluster
        cluster.assert_clean()


def complaints(log: str) -> list[str]:
    """The lines of a service's log that it must not have: errors, and what is no line of the log at all,
    such as a traceback of the interpreter's own."""
    return [line for line in log.splitlines() if line[:1] != "{" or _ERRORS.search(line)]


def wait_until(fact: Callable[[], object], *, seconds: float = 10.0) -> None:
    """Poll until `fact()` is true; fail when it does not become so in time."""
    end = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < end, f"not within {seconds:g} s"
        time.sleep(0.02)


def _quietly(fact: Callable[[], object]) -> object:
    """`fact()`; false while the service it asks is away, as it is while something was just killed."""
    try:
        return fact()
    except (OSError, AssertionError, urllib.error.URLError, ValueError):
        return False
