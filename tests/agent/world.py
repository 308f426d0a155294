"""What surrounds an agent, small: a scheduler that answers from memory, a gateway with a few files."""

import asyncio
import hashlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from chisel.local import jobs
from chisel_agent import journal
from chisel_agent.service import Agent, build
from chisel_agent.settings import AgentSettings
from chisel_shared.contract.errors import Stale
from chisel_shared.contract.ids import AgentId, Digest, JobId, ProjectId, new_id
from chisel_shared.contract.job import JobEnd, JobSpec, JobState
from chisel_shared.contract.messages import (
    AgentCredentials,
    Assignment,
    AttemptDone,
    AttemptRef,
    CancelAttempt,
    Claim,
    Claimed,
    Done,
    Hello,
    Progress,
    Progressed,
    Renew,
    Renewed,
    Wake,
    Welcome,
)
from chisel_shared.runtime.bus import NatsBus
from chisel_shared.runtime.output import Follower
from chisel_shared.runtime.streams import Streams
from tests.agent.facts import until
from tests.agent.storage import FakeStorage, FakeTraces
from tests.support.backends import AGENT_PASSWORD, Nats
from tests.support.packs import bundle
from tests.support.processes import Server

PROJECT = ProjectId("project1")
WAIT_SECONDS = 30.0


@dataclass
class FakeGateway:
    """Serves joining, manifests and packs alike by digest, takes traces and outputs. `refuse` answers
    everything with 503 while set, `refuse_after` from so many files on."""

    credentials: AgentCredentials
    bundles: dict[str, bytes] = field(default_factory=dict)
    outputs: dict[tuple[str, int], dict[str, tuple[str, bytes]]] = field(default_factory=dict)
    refuse_after: int | None = None
    secrets: dict[str, bytes] = field(default_factory=dict)
    """What any job finds that wants secrets at all."""
    sessions: list[str] = field(default_factory=list)
    """Which sessions asked for them."""
    no_secret: str = ""
    """Why there is none."""
    asked: list[str] = field(default_factory=list)
    refuse: bool = False
    stall: asyncio.Event | None = None
    url: str = ""

    def __post_init__(self) -> None:
        self.trace_door = FakeTraces(self._check)

    @property
    def traces(self) -> dict[tuple[str, int, str], bytes]:
        return self.trace_door.kept

    def add(self, files: Mapping[str, str | bytes]) -> Digest:
        made = bundle(files)
        self.bundles[made.digest] = made.manifest
        self.bundles.update(made.packs)
        return made.digest

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["FakeGateway"]:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/api/v1/agents/join", self._join)
        app.router.add_get("/api/v1/agent/bundles/{project}/{digest}", self._bundle)
        app.router.add_post("/api/v1/agent/secrets/{job}/{attempt}", self._secrets)
        app.router.add_get("/api/v1/agent/packs/{project}/{digest}", self._bundle)
        app.router.add_put("/api/v1/agent/files/{job}/{attempt}/{kind}", self._file)
        self.trace_door.add_to(app)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    def _check(self, request: web.Request) -> None:
        self.asked.append(request.path)
        if self.refuse:
            raise web.HTTPServiceUnavailable(text="away")

    async def _join(self, request: web.Request) -> web.Response:
        self._check(request)
        assert (await request.json())["token"] == "join-token"
        return web.Response(body=msgspec.json.encode(self.credentials), content_type="application/json")

    async def _secrets(self, request: web.Request) -> web.Response:
        self._check(request)
        assert request.headers["Authorization"] == f"Bearer {self.credentials.key}"
        self.sessions.append((await request.json())["session"])
        if self.no_secret:
            return web.json_response({"error": {"code": "not_found", "message": self.no_secret}}, status=404)
        return web.Response(body=msgspec.json.encode({"variables": self.secrets}))

    async def _bundle(self, request: web.Request) -> web.Response:
        self._check(request)
        assert request.headers["Authorization"] == f"Bearer {self.credentials.key}"
        if self.stall is not None:
            await self.stall.wait()
        data = self.bundles.get(request.match_info["digest"])
        if data is None:
            problem = {"error": {"code": "not_found", "message": "no such bundle"}}
            return web.json_response(problem, status=404)
        return web.Response(body=data)

    async def _file(self, request: web.Request) -> web.Response:
        self._check(request)
        if self.refuse_after is not None:
            self.refuse_after -= 1
            if self.refuse_after < 0:
                raise web.HTTPServiceUnavailable(text="away")
        data = await request.read()
        assert hashlib.sha256(data).hexdigest() == request.headers["X-Chisel-Sha256"]
        where, path = request.match_info, request.query["path"]
        files = self.outputs.setdefault((where["job"], int(where["attempt"])), {})
        files[path] = (request.query["mode"], data)
        return web.Response(status=201)


class FakeScheduler:
    """Gives out what `submit` queued, and remembers everything it was told."""

    def __init__(self, agent_id: AgentId) -> None:
        self.agent_id = agent_id
        self.hellos: list[Hello] = []
        self.progress: list[tuple[AttemptRef, JobState]] = []
        self.ends: dict[AttemptRef, JobEnd] = {}
        self.renewals: list[Renew] = []
        self.claims: list[Claim] = []
        self.cancel: set[AttemptRef] = set()
        self.gone: set[AttemptRef] = set()
        self.unnamed: set[AttemptRef] = set()
        """What no list of a renewal's answer has."""
        self.requeues = False
        """Whether a job that its agent came back without is given out again."""
        self.archived: set[AttemptRef] = set()
        self.held: set[AttemptRef] = set()
        self.hears_progress = asyncio.Event()
        self.hears_progress.set()
        """Until this is set the first attempt whose progress is told gets no answer."""
        self._first_told: AttemptRef | None = None
        self.session = ""
        self._queue: list[Assignment] = []
        self._given: dict[AttemptRef, Assignment] = {}
        self._answers: dict[str, Claimed] = {}
        self._changed = asyncio.Condition()

    async def serve(self, bus: NatsBus) -> None:
        self._bus = bus
        await bus.serve(Hello, self._on_hello, agent_id=self.agent_id)
        await bus.serve(Claim, self._on_claim, agent_id=self.agent_id)
        await bus.serve(Progress, self._on_progress, agent_id=self.agent_id)
        await bus.serve(Renew, self._on_renew, agent_id=self.agent_id)
        await bus.serve(AttemptDone, self._on_done, agent_id=self.agent_id)
        await bus.flush()

    async def submit(self, spec: JobSpec, *, gpus: int = 1, lease_seconds: float = 600) -> AttemptRef:
        assignment = Assignment(
            job_id=JobId(new_id()),
            attempt=1,
            project_id=PROJECT,
            spec=spec,
            gpu_count=gpus,
            lease_seconds=lease_seconds,
        )
        self._queue.append(assignment)
        await self._bus.publish(Wake(pool="default"))
        return AttemptRef(job_id=assignment.job_id, attempt=1)

    async def ask_to_cancel(self, ref: AttemptRef) -> None:
        await self._bus.request(CancelAttempt(agent_id=self.agent_id, job_id=ref.job_id, attempt=ref.attempt))

    async def until(self, true: Callable[[], bool]) -> None:
        """Return when the callable `true` is; fail when it does not become so."""
        async with asyncio.timeout(WAIT_SECONDS), self._changed:
            await self._changed.wait_for(true)

    async def end_of(self, ref: AttemptRef) -> JobEnd:
        await self.until(lambda: ref in self.ends)
        return self.ends[ref]

    async def state(self, ref: AttemptRef, state: JobState) -> None:
        await self.until(lambda: (ref, state) in self.progress)

    async def _note(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _check(self, session: str, ref: AttemptRef | None = None) -> None:
        if session != self.session:
            raise Stale("an older session")
        if ref is not None and ref not in self.held:
            raise Stale("not held")

    async def _on_hello(self, hello: Hello) -> Welcome:
        self.hellos.append(hello)
        self.session = hello.session
        keep = tuple(ref for ref in hello.adopt if ref in self.held)
        for ref in self.held - set(keep) if self.requeues else ():
            assert (ref, JobState.RUNNING) not in self.progress, "a running job was not adopted"
            lost = self._given[ref]
            self._queue.append(msgspec.structs.replace(lost, attempt=lost.attempt + 1))
        self.held = set(keep)
        await self._note()
        return Welcome(keep=keep, archived=tuple(self.archived & set(hello.finished)))

    async def _on_claim(self, claim: Claim) -> Claimed:
        self._check(claim.session)
        self.claims.append(claim)
        if claim.key not in self._answers:
            fits = [a for a in self._queue if a.gpu_count <= claim.gpus_free]
            answer = Claimed(assignment=fits[0] if fits else None)
            if answer.assignment is not None:
                self._queue.remove(answer.assignment)
                ref = AttemptRef(job_id=answer.assignment.job_id, attempt=answer.assignment.attempt)
                self.held.add(ref)
                self._given[ref] = answer.assignment
            self._answers[claim.key] = answer
        await self._note()
        return self._answers[claim.key]

    async def _on_progress(self, progress: Progress) -> Progressed:
        ref = AttemptRef(job_id=progress.job_id, attempt=progress.attempt)
        self._first_told = self._first_told or ref
        if ref == self._first_told:
            await self.hears_progress.wait()
        self._check(progress.session, ref)
        self.progress.append((ref, progress.state))
        await self._note()
        return Progressed(cancel_requested=ref in self.cancel)

    async def _on_renew(self, renew: Renew) -> Renewed:
        self._check(renew.session)
        self.renewals.append(renew)
        await self._note()
        asked = set(renew.attempts)
        gone = asked & self.gone | asked - self.held
        return Renewed(
            renewed=tuple(asked - gone - self.cancel - self.unnamed),
            cancel=tuple((asked - gone - self.unnamed) & self.cancel),
            gone=tuple(gone - self.unnamed),
            archived=tuple(set(renew.finished) & self.archived),
        )

    async def _on_done(self, done: AttemptDone) -> Done:
        ref = AttemptRef(job_id=done.job_id, attempt=done.attempt)
        if ref in self.ends:
            assert self.ends[ref] == done.end, "an end was reported twice, differently"
            return Done()
        self._check(done.session, ref)
        self.ends[ref] = done.end
        self.held.discard(ref)
        await self._note()
        return Done()


@dataclass
class World:
    streams: Streams
    scheduler: FakeScheduler
    gateway: FakeGateway
    storage: FakeStorage
    data_dir: Path

    def settings(self, **changes: Any) -> AgentSettings:
        values: dict[str, Any] = {
            "url": self.gateway.url,
            "token": "join-token",
            "name": "test-agent",
            "gpus": "sim:8",
            "data_dir": self.data_dir,
            "renew_seconds": 0.5,
            "interrupt_grace_seconds": 0.3,
            "terminate_grace_seconds": 0.3,
        }
        return AgentSettings(**(values | changes))

    @asynccontextmanager
    async def agent(self, **changes: Any) -> AsyncIterator[Agent]:
        """An agent inside this process; leaving it behind leaves its jobs to their shims."""
        async with AsyncExitStack() as stack:
            agent = await build(self.settings(**changes), stack)
            ready = asyncio.Event()
            running = asyncio.create_task(agent.run(ready))
            waiting = asyncio.create_task(ready.wait())
            try:
                await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
                if running.done():
                    running.result()
                yield agent
            finally:
                running.cancel()
                waiting.cancel()
                await asyncio.gather(running, waiting, return_exceptions=True)

    def process(self, **changes: Any) -> Server:
        """An agent as a process of its own, that may be killed."""
        given = self.settings(**changes).model_dump(exclude_defaults=True)
        env = {f"CHISEL_AGENT_{name.upper()}": str(value) for name, value in given.items()}
        return Server(
            [sys.executable, "-m", "chisel_agent"],
            log=self.data_dir.with_suffix(".log"),
            env=os.environ | env,
        )

    def python(self, code: str, *, files: Mapping[str, str | bytes] | None = None, **fields: Any) -> JobSpec:
        """A job that runs `code`."""
        bundle = self.gateway.add({"main.py": code, **(files or {})})
        values = {"app_name": "test", "argv": ("python", "main.py"), "gpu": "A100-80GB:1", "bundle": bundle}
        return JobSpec(**(values | fields))

    async def output(self, ref: AttemptRef) -> tuple[bytes, bytes]:
        """What is stored of an attempt's stdout and stderr."""
        follower = Follower(
            streams=self.streams,
            subject_prefix=f"out.{self.scheduler.agent_id}.{ref.job_id}.{ref.attempt}",
            offsets={},
        )
        found = {"stdout": b"", "stderr": b""}
        async for chunk in follower.chunks():
            found[chunk.stream] += chunk.data
        return found["stdout"], found["stderr"]


@asynccontextmanager
async def make_world(nats: Nats, folder: Path) -> AsyncIterator[World]:
    agent_id = AgentId(new_id())
    credentials = AgentCredentials(
        agent_id=agent_id,
        key="agent-key",
        nats_url=nats.url,
        nats_user="agent",
        nats_password=AGENT_PASSWORD,
        pool="default",
    )
    async with NatsBus.connect(nats.url, name="world", user=nats.user, password=nats.password) as bus:
        streams = Streams(bus.client)
        await streams.ensure(max_bytes=2 << 30)
        scheduler = FakeScheduler(agent_id)
        await scheduler.serve(bus)
        storage = FakeStorage()
        await storage.serve(bus)
        await bus.flush()
        async with FakeGateway(credentials).serving() as gateway:
            try:
                yield World(streams, scheduler, gateway, storage, folder / "agent")
            finally:
                jobs.kill_leftovers(folder / "agent")  # of a test that failed before it ended them


SLEEP = "import time; print('ready', flush=True); time.sleep(600)"


async def ready(world: World, ref: AttemptRef) -> None:
    """Return when the job has printed `ready`."""

    async def printed() -> bool:
        return b"ready\n" in (await world.output(ref))[0]

    await until(printed)


def folder_of(world: World, ref: AttemptRef) -> Path:
    return world.data_dir / "attempts" / journal.folder_name(ref)
