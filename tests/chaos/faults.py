"""Doing the faults of a plan, and the supervisor who starts again what they killed."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Literal, cast

from chisel.local import jobs, servers
from chisel_agent.launch import is_running
from tests.chaos.history import History
from tests.chaos.plan import Fault, Kind
from tests.chaos.profiles import LEASES_STAND_ON
from tests.chaos.schedule import disturbs
from tests.chaos.system import System, signal_all

_SHIM = b"chisel_agent.shim_factory"
_LOOK_SECONDS = 0.05
_VICTIM_SECONDS = 2.0
"""How long a fault waits for a shim to strike."""
_SUPERVISOR_SECONDS = 0.5


class Faults:
    """Strikes what it is told to; every fault is in the history when it begins and when it ends."""

    def __init__(self, system: System, history: History) -> None:
        self._system, self._history = system, history
        self._away: set[str] = set()
        """Processes that are down because we want it."""
        self.calm_since = history.now
        """Since when nothing that leases stand on is being struck."""
        self._under_way = 0
        self._lasting: list[Fault] = []

    async def strike(self, fault: Fault) -> None:
        """Begin the fault, and return when its cause has ended."""
        facts = {"kind": fault.kind.value, "target": fault.target, "planned": round(fault.at, 3)}
        if fault.kind is Kind.FULL and fault.target not in self._system.disks:
            self._history.note("left out", **facts, why="no small disks could be mounted")
            return
        # On a busy machine a fault lasts longer than was planned.
        while any(disturbs(fault, other) for other in self._lasting):  # noqa: ASYNC110 - a few times a minute
            await asyncio.sleep(_LOOK_SECONDS)
        self._lasting.append(fault)
        self._struck(fault.target, 1)
        began = self._history.note("fault", **facts, seconds=round(fault.seconds, 3))
        try:
            hit = await self._do(fault)
        finally:
            self._struck(fault.target, -1)
            self._lasting.remove(fault)
        self._history.note("healed", **facts, began=began["at"], hit=hit)

    def _struck(self, target: str, more: int) -> None:
        if target in LEASES_STAND_ON:
            self._under_way += more
        if self._under_way or target in LEASES_STAND_ON:
            self.calm_since = self._history.now

    @property
    def calm_for(self) -> float:
        """Seconds since anything that leases stand on was last struck; 0 while it is."""
        return 0.0 if self._under_way else self._history.now - self.calm_since

    async def _do(self, fault: Fault) -> list[str]:
        """Do it and undo it; returns the attempts that lost their shim."""
        target = fault.target
        match fault.kind:
            case Kind.KILL | Kind.QUIT | Kind.WIPE:
                await self._kill(fault)
            case Kind.STOP:
                pids = self._system.processes(target)
                signal_all(pids, signal.SIGSTOP)
                await asyncio.sleep(fault.seconds)
                signal_all(pids, signal.SIGCONT)
            case Kind.SHIM_KILL | Kind.SHIM_STOP:
                return await self._shim(fault)
            case Kind.HOST:
                return await self._host(fault)
            case Kind.CUT | Kind.HOLE | Kind.SLOW:
                await self._network(fault)
            case Kind.FULL:
                disk = self._system.disks[target]
                disk.fill()
                try:
                    await asyncio.sleep(fault.seconds)
                finally:
                    disk.empty()
                if target == "nats":
                    # It writes nothing more after a full disk until it is started again, which is for
                    # whoever runs it: see docs/reliability.md.
                    await self._kill(fault)
        return []

    async def _kill(self, fault: Fault) -> None:
        server = self._system.server(fault.target)
        self._away.add(fault.target)
        if fault.kind is Kind.QUIT:
            server.stop(signal.SIGQUIT)
        else:
            server.kill()
        if fault.kind is Kind.WIPE:
            self._system.cluster.nats.wipe()
        await asyncio.sleep(fault.pause)
        await self._start(fault.target)

    async def _shim(self, fault: Fault) -> list[str]:
        agent = fault.target.removeprefix("agent:")
        end = self._history.now + _VICTIM_SECONDS
        found = shims_of(self._system.data_of(agent))
        while not found and self._history.now < end:
            await asyncio.sleep(_LOOK_SECONDS)
            found = shims_of(self._system.data_of(agent))
        if not found:
            return ["nobody"]
        folder, pid = found[int(fault.pick * len(found))]
        if fault.kind is Kind.SHIM_KILL:
            signal_all([pid], signal.SIGKILL)
            return [folder.name]
        signal_all([pid], signal.SIGSTOP)
        await asyncio.sleep(fault.seconds)
        signal_all([pid], signal.SIGCONT)
        return []

    async def _host(self, fault: Fault) -> list[str]:
        """The agent and all that runs for it are gone at once; a while later the machine is back."""
        data = self._system.data_of(fault.target.removeprefix("agent:"))
        self._away.add(fault.target)
        self._system.server(fault.target).kill()
        dead = []
        for folder, pid in shims_of(data):
            signal_all([pid], signal.SIGKILL)
            dead.append(folder.name)
        await asyncio.to_thread(jobs.kill_leftovers, data)
        self._history.note("host died", target=fault.target, hit=dead)
        await asyncio.sleep(fault.seconds)
        await self._start(fault.target)
        return dead

    async def _network(self, fault: Fault) -> None:
        links = self._system.links(fault.target, fault.link)
        for link in links:
            match fault.kind:
                case Kind.CUT:
                    link.cut()
                case Kind.HOLE:
                    link.swallow(cast("Literal['both', 'up', 'down']", fault.mode))
                case Kind.SLOW:
                    link.slow(fault.delay)
        await asyncio.sleep(fault.seconds)
        for link in links:
            link.heal()

    async def _start(self, target: str) -> None:
        """From this thread: what it starts dies with it."""
        server = self._system.server(target)
        if target == "postgres":
            data = self._system.folder / "db" / "pg"
            await asyncio.to_thread(servers.clear_remains, data, data.parent)
        if not server.running():
            server.start()
        self._away.discard(target)

    async def supervise(self) -> None:
        """Start again what ended by itself, and note it: nothing is to do that, but Postgres and NATS on a
        full disk."""
        while True:
            await asyncio.sleep(_SUPERVISOR_SECONDS)
            for target in self._system.servers:
                server = self._system.server(target)
                if target not in self._away and not server.running():
                    self._history.note("died", target=target, tail=server.tail(3))
                    self._struck(target, 1)
                    try:
                        await self._start(target)
                    finally:
                        self._struck(target, -1)


def shims_of(data: Path) -> list[tuple[Path, int]]:
    """The attempts of an agent that a shim holds, each with the shim's process."""
    found = []
    for folder in sorted((data / "attempts").glob("*")):
        try:
            pid = int((folder / "running").read_bytes())
            if not (folder / "exit").exists() and is_running(folder) and _is_shim(pid):
                found.append((folder, pid))
        except (OSError, ValueError):
            continue
    return found


def _is_shim(pid: int) -> bool:
    try:
        return _SHIM in Path(f"/proc/{pid}/cmdline").read_bytes() and os.getpid() != pid
    except OSError:
        return False
