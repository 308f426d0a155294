"""The agent put together: what runs, how it starts and how it stops."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from chisel_agent import places, sandbox
from chisel_agent.attempts import Attempts
from chisel_agent.bundles import Bundles
from chisel_agent.claims import Claims
from chisel_agent.doorbell import Doorbell
from chisel_agent.environment import Environments
from chisel_agent.gateway import Gateway
from chisel_agent.gpus import probe_of
from chisel_agent.identity import credentials, lock_data_dir
from chisel_agent.installer import Installer
from chisel_agent.job_secrets import JobSecrets
from chisel_agent.launch import ColdLauncher
from chisel_agent.outputs import Cap
from chisel_agent.ports import Ports
from chisel_agent.preparation import Limits, Preparation, failure
from chisel_agent.renewal import Renewal
from chisel_agent.reserve import Reserve
from chisel_agent.scheduler import Scheduler
from chisel_agent.sdk import expose
from chisel_agent.services import Services
from chisel_agent.settings import AgentSettings, environment_for_installer, environment_for_jobs
from chisel_agent.slots import NotFree, Slots
from chisel_agent.storage import Storage
from chisel_shared.contract.errors import Stale
from chisel_shared.contract.ids import AgentId
from chisel_shared.contract.job import EndReason, JobEnd
from chisel_shared.contract.messages import Assignment, AttemptRef, CancelAttempt, Done, Wake
from chisel_shared.runtime.bus import Bus, NatsBus, nats_connection
from chisel_shared.runtime.logs import Log
from chisel_shared.runtime.service import Service, every, serve
from chisel_shared.runtime.streams import Streams

log = Log("chisel.agent")

_INBOX = "_INBOX_agent"
_SHIP_AGAIN_SECONDS = 10.0
_LAST_WORD_SECONDS = 2.0
"""What a stop spends on telling the scheduler; it will notice by itself later."""


class Agent(Service):
    def __init__(
        self,
        *,
        agent_id: AgentId,
        pool: str,
        bus: Bus,
        scheduler: Scheduler,
        attempts: Attempts,
        slots: Slots,
        launcher: ColdLauncher,
        doorbell: Doorbell,
        places: tuple[str, ...],
        reserve: Reserve,
        poll_seconds: float,
        renew_seconds: float,
        finish_seconds: float,
    ) -> None:
        self._agent_id = agent_id
        self._pool = pool
        self._bus = bus
        self._scheduler = scheduler
        self._attempts = attempts
        self._launcher = launcher
        self._doorbell = doorbell
        self._places = places
        self._renew_seconds = renew_seconds
        self._finish_seconds = finish_seconds
        self._tasks: asyncio.TaskGroup | None = None
        self._claims = Claims(
            scheduler=scheduler,
            slots=slots,
            start=self._start,
            rejoin=self._hello,
            has_room=reserve.is_there,
            poll_seconds=poll_seconds,
        )
        self._renewal = Renewal(scheduler=scheduler, attempts=attempts)
        attempts.on_freed = self._claims.wake

    async def run(self, ready: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._doorbell.fileno(), self._doorbell.answer, self._attempts.ring)
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                # Jobs that run are followed before anybody knows that we are back.
                forgotten = self._attempts.recover(tasks)
                await asyncio.to_thread(sandbox.sweep, self._places)
                await self._attempts.forget(forgotten, tasks)
                self._launcher.open()
                await self._bus.serve(CancelAttempt, self._on_cancel, agent_id=self._agent_id)
                await self._bus.subscribe(Wake, self._on_wake, pool=self._pool)
                await self._hello()
                ready.set()
                tasks.create_task(self._claims.run(), name="claims")
                renewing = every(self._renew_seconds, self._renewal.run_once, log=log, name="renewal")
                tasks.create_task(renewing, name="renewal")
                shipping = every(_SHIP_AGAIN_SECONDS, self._attempts.ship_again, log=log, name="ship again")
                tasks.create_task(shipping, name="ship again")
        finally:
            loop.remove_reader(self._doorbell.fileno())
            self._launcher.close()

    async def drain(self) -> None:
        """Take nothing new, hand back what has not begun, give what runs the time to end that was set,
        report what has ended. What still runs then is left to its shims: the next agent on this data
        directory goes on with it."""
        self._renewal.draining = True
        await self._within_last_word(self._take_leave())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._finish_seconds):
                await self._attempts.over()
        await self._within_last_word(self._attempts.reported())

    async def _take_leave(self) -> None:
        await self._claims.close()
        if await self._attempts.hand_back() or self._claims.unaccepted:
            await self._hello()
        await self._renewal.run_once()

    async def _within_last_word(self, telling: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(_LAST_WORD_SECONDS):
                await telling
        except TimeoutError:
            log.warning("stopped_unheard")

    async def _hello(self) -> None:
        """Begin a session, and end what the scheduler does not count as ours."""
        held = self._attempts.held
        welcome = await self._scheduler.hello(adopt=held, finished=self._attempts.finished_in_turn())
        log.info("welcomed", agent_id=self._agent_id, held=len(held), kept=len(welcome.keep))
        for ref in set(held) - set(welcome.keep):
            if attempt := self._attempts.get(ref):
                attempt.drop()
        for ref in welcome.archived:
            self._attempts.archived(ref)

    def _start(self, assignment: Assignment, sent_at: float) -> None:
        assert self._tasks is not None
        try:
            self._attempts.start(assignment, claimed_at=sent_at, tasks=self._tasks)
        except (OSError, ValueError, NotFree) as error:
            self._tasks.create_task(self._refuse(assignment, error), name="refuse")

    async def _refuse(self, assignment: Assignment, error: Exception) -> None:
        """End a job that cannot even be taken on: a full disk, most likely."""
        log.warning("assignment_refused", job_id=assignment.job_id, error=repr(error))
        exit_ = failure(error)
        end = JobEnd(reason=EndReason(exit_.reason), detail=exit_.detail)
        ref = AttemptRef(job_id=assignment.job_id, attempt=assignment.attempt)
        with contextlib.suppress(Stale):
            await self._scheduler.done(ref, end)

    async def _on_cancel(self, ask: CancelAttempt) -> Done:
        attempt = self._attempts.get(AttemptRef(job_id=ask.job_id, attempt=ask.attempt))
        if attempt is not None:
            attempt.stop(ask.stop)
        return Done()

    async def _on_wake(self, _: Wake) -> None:
        self._claims.wake()


async def build(settings: AgentSettings, stack: AsyncExitStack) -> Agent:
    """The composition root: everything an agent consists of, made once, in order."""
    data = settings.data_dir.absolute()
    stack.callback(os.close, await lock_data_dir(data))
    folders = {name: _folder(data / name) for name in ("attempts", "bundles", "envs")}
    probe = probe_of(settings.gpus, model=settings.gpu_model)
    gpus = await asyncio.to_thread(probe.find)
    if not gpus.indices:
        log.warning("no_gpus", hint="set CHISEL_AGENT_GPUS=sim:N to offer simulated ones")

    session = await stack.enter_async_context(aiohttp.ClientSession())
    gateway = Gateway(url=settings.url, session=session)
    known = await credentials(settings, gateway)
    gateway.authenticate(known.key)

    nats = settings.nats_url or known.nats_url
    login = {"user": known.nats_user, "password": known.nats_password, "inbox": _INBOX}
    name = f"agent-{settings.name}"
    bus = await stack.enter_async_context(NatsBus.connect(nats, name=name, **login))
    # Output has a connection of its own: a loud job must not delay a heartbeat.
    output = await stack.enter_async_context(nats_connection(nats, name=f"{name}-output", **login))

    installer_env = environment_for_installer()
    environments = Environments(
        folder=folders["envs"],
        used_in=folders["attempts"],
        max_bytes=settings.environment_cache_bytes,
        base_python=settings.base_python,
        installer=Installer(
            base_python=settings.base_python, env=installer_env, limit_seconds=settings.build_limit_seconds
        ),
    )
    bundles = Bundles(folder=folders["bundles"], source=gateway, max_bytes=settings.bundle_cache_bytes)
    await asyncio.to_thread(environments.sweep)
    bundles.sweep()

    pool = settings.pool or known.pool
    scheduler = Scheduler(
        bus=bus,
        agent_id=known.agent_id,
        name=settings.name,
        pool=pool,
        gpu_model=gpus.model,
        gpus_total=len(gpus.indices),
    )
    found = await asyncio.to_thread(places.find, data, wanted=settings.cgroups)
    stack.callback(sandbox.release, found)
    launcher = ColdLauncher(
        python=Path(sys.executable),
        env=environment_for_jobs(),
        places=found,
        log_file=data / "shims.log",
    )
    preparation = Preparation(
        bundles=bundles,
        environments=environments,
        inherited=environment_for_jobs(),
        sdk=expose(data / "sdk"),
        limits=Limits(
            interrupt_grace_seconds=settings.interrupt_grace_seconds,
            terminate_grace_seconds=settings.terminate_grace_seconds,
            backlog_bytes=settings.backlog_bytes,
            head_bytes=settings.output_head_bytes,
            tail_bytes=settings.output_tail_bytes,
            stuck_seconds=settings.stuck_seconds,
        ),
    )
    slots = Slots(gpus.indices)
    services = Services(
        agent_id=known.agent_id,
        scheduler=scheduler,
        streams=Streams(output),
        gateway=gateway,
        storage=Storage(bus=bus, agent_id=known.agent_id),
        preparation=preparation,
        secrets=JobSecrets(gateway=gateway, scheduler=scheduler),
        launcher=launcher,
        cap=Cap(files=settings.outputs_limit_files, bytes=settings.outputs_limit_bytes),
        files_wait_seconds=settings.files_wait_seconds,
        reserve_bytes=settings.reserve_bytes,
        gpus=probe,
        stuck_seconds=settings.stuck_seconds,
    )
    doorbell = Doorbell(data)
    stack.callback(doorbell.close)
    return Agent(
        agent_id=known.agent_id,
        pool=pool,
        bus=bus,
        scheduler=scheduler,
        attempts=Attempts(folder=folders["attempts"], slots=slots, ports=Ports(), services=services),
        slots=slots,
        launcher=launcher,
        doorbell=doorbell,
        places=found,
        reserve=Reserve(data, reserve_bytes=settings.reserve_bytes),
        poll_seconds=settings.poll_seconds,
        renew_seconds=settings.renew_seconds,
        finish_seconds=settings.finish_seconds,
    )


def _folder(path: Path) -> Path:
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def main() -> None:
    serve("agent", AgentSettings, build)
