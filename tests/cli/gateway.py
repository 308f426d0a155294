"""A gateway of the tests' own: it speaks the frames and the HTTP of the contract, and misbehaves on request.

It runs one job at a time, whose output is given beforehand. What a real gateway decides by its services
is decided here by plain attributes, so a test says in one line what happens.
"""

import asyncio
import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from aiohttp import WSMsgType, web

from chisel_shared.contract import frames
from chisel_shared.contract.ids import LAST, Digest, JobId
from chisel_shared.contract.job import EndReason, JobState, JobView
from chisel_shared.contract.messages import (
    FileView,
    GpuKind,
    Gpus,
    Jobs,
    Outputs,
    Submitted,
    Why,
)
from tests.cli.fleet import FleetDesk
from tests.cli.script import Script
from tests.cli.stored import Stored, drop, refusal
from tests.cli.traced import TraceShelf

KEY = "chsl_usr_tests"
JOB_ID = JobId("0123456789")


class Gateway:
    def __init__(self) -> None:
        self.script = Script()
        self.stored = Stored(self.script)
        self.bundles, self.packs, self.unpacked = self.stored.bundles, self.stored.packs, self.stored.unpacked
        self.submissions: list[frames.Submit] = []
        self.follows: list[frames.Follow] = []
        self.cancels = 0
        self.cancel_heard = threading.Event()
        self.wishes: list[object] = []
        self.why = Why(job=None)  # type: ignore[arg-type]  # the view is put in when it is asked for
        self.gpus: tuple[GpuKind, ...] = ()
        self.fleet = FleetDesk(self._denied)
        self.traces = TraceShelf(lambda: self.script, self._refused, self._send_file, JOB_ID)
        self.connections = 0
        self.requests: list[str] = []
        self.view: JobView | None = None
        self.jobs_by_key: dict[str, str] = {}
        self.url = ""
        self.cancelled = asyncio.Event()
        self.events: list[str] = []
        self.ranges: list[int] = []

    def app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_get("/api/v1/session", self.session)
        app.router.add_put("/api/v1/bundles/{digest}", self.put)
        app.router.add_put("/api/v1/packs/{digest}", self.put)
        app.router.add_get("/api/v1/jobs", self.list_jobs)
        app.router.add_get("/api/v1/jobs/{id}", self.get_job)
        app.router.add_post("/api/v1/jobs/{id}/cancel", self.cancel_job)
        app.router.add_post("/api/v1/jobs/{id}/rerun", self.rerun_job)
        app.router.add_get("/api/v1/jobs/{id}/why", self.why_job)
        app.router.add_get("/api/v1/gpus", self.list_gpus)
        app.router.add_get("/api/v1/jobs/{id}/files", self.list_files)
        app.router.add_get("/api/v1/jobs/{id}/files/{digest}", self.get_file)
        self.fleet.add_to(app)
        self.traces.add_to(app)
        return app

    def change(self, **changes: object) -> JobView:
        assert self.view is not None
        self.view = msgspec.structs.replace(self.view, version=self.view.version + 1, **changes)
        return self.view

    def _denied(self, request: web.Request) -> web.Response | None:
        self.requests.append(f"{request.method} {request.path}")
        if request.headers.get("Authorization") == f"Bearer {KEY}":
            return None
        return refusal(401, "unauthenticated", "nobody knows this key")

    # WebSocket

    async def session(self, request: web.Request) -> web.StreamResponse:
        denied = self._denied(request)
        if denied is not None:
            return denied
        self.connections += 1
        if self.script.refuse:
            status = self.script.refuse.pop(0)
            return refusal(status, "unavailable", "a part of the service restarts")
        socket = web.WebSocketResponse(protocols=[frames.PROTOCOL])
        await socket.prepare(request)
        if self.script.silent:
            await asyncio.sleep(3600)
        follower: asyncio.Task[None] | None = None
        try:
            async for message in socket:
                if message.type is not WSMsgType.TEXT:
                    continue
                match frames.decode_client(message.data):
                    case frames.Submit() as submit:
                        if not await self._submit(socket, request, submit):
                            continue
                        follower = asyncio.create_task(self._follow(socket, request, frames.Follow(JOB_ID)))
                    case frames.Follow() as follow:
                        self.follows.append(follow)
                        if not self._names(follow.job_id):
                            await _say(socket, frames.Failure("not_found", "there is no such job"))
                            continue
                        assert self.view is not None
                        await _say(socket, frames.Update(self.view))
                        follower = asyncio.create_task(self._follow(socket, request, follow))
                    case frames.Cancel():
                        await _say(socket, frames.Update(self._cancel()))
                    case frames.List():
                        await _say(socket, frames.Listing((self.view,) if self.view else ()))
        finally:
            if follower is not None:
                follower.cancel()
                await asyncio.gather(follower, return_exceptions=True)
        return socket

    async def _submit(
        self, socket: web.WebSocketResponse, request: web.Request, submit: frames.Submit
    ) -> bool:
        self.submissions.append(submit)
        if self.script.failures:
            await _say(socket, self.script.failures.pop(0))
            return False
        bundle = submit.spec.bundle
        if bundle not in self.bundles or self.stored.missing(self.bundles[bundle]):
            limits = {"max_bytes": self.script.max_bytes, "max_entries": self.script.max_entries}
            await _say(socket, frames.BundleMissing(bundle, **limits))
            return False
        if submit.idempotency_key not in self.jobs_by_key:
            self.jobs_by_key[submit.idempotency_key] = JOB_ID
            self.view = JobView(
                id=JOB_ID,
                app_name=submit.spec.app_name,
                state=JobState.QUEUED,
                version=1,
                gpu=submit.spec.gpu,
                argv=submit.spec.argv,
                attempt=0,
                submitted_at=time.time(),
                waiting=self.script.waiting,
            )
        if self.script.forget_accepted:
            self.script.forget_accepted -= 1
            drop(request)
            return False
        assert self.view is not None
        await _say(socket, frames.Accepted(self.view))
        return True

    async def _follow(
        self, socket: web.WebSocketResponse, request: web.Request, follow: frames.Follow
    ) -> None:
        script = self.script
        assert self.view is not None
        if follow.tail is not None or follow.since is not None:
            await _say(socket, frames.Begin(frames.Position(script.attempt, **script.begins)))
        if self.view.state is JobState.QUEUED:
            for waiting in script.queue:
                await _say(socket, frames.Update(msgspec.structs.replace(self.view, waiting=waiting)))
        if self.view.state is JobState.QUEUED and script.starts:
            await _say(
                socket,
                frames.Update(
                    self.change(
                        state=JobState.RUNNING,
                        attempt=script.attempt,
                        agent_name="gpu-01",
                        started_at=time.time(),
                        waiting="",
                    )
                ),
            )
        same = follow.position.attempt == script.attempt
        skip = script.skip.pop(0) if script.skip else 0
        offsets = {"stdout": 0, "stderr": 0}
        have = {
            "stdout": follow.position.stdout if same else 0,
            "stderr": follow.position.stderr if same else 0,
        }
        if follow.tail is not None or follow.since is not None:
            have = dict(script.begins)
        budget = script.cut_after.pop(0) if script.cut_after else None
        for stream, data in script.pieces if follow.output else ():
            if follow.timestamps:
                await _say(socket, frames.Stamp(script.time))
            if not data:
                await self._send(socket, stream, offsets[stream], b"")  # its end comes when the job has ended
            for at in range(0, len(data), script.chunk):
                piece = data[at : at + script.chunk]
                start = max(0, have[stream] - offsets[stream])
                offsets[stream] += len(piece)
                if start >= len(piece):
                    continue
                if skip:
                    skip -= 1
                    continue
                if budget is not None and budget < len(piece) - start:
                    if budget:
                        await self._send(
                            socket, stream, offsets[stream] - len(piece) + start, piece[start:][:budget]
                        )
                    drop(request)
                    return
                if budget is not None:
                    budget -= len(piece) - start
                await self._send(socket, stream, offsets[stream] - len(piece) + start, piece[start:])
        if script.end is None and follow.live:
            await self.cancelled.wait()
            end = script.cancelled_end
            state = JobState.CANCELLED if end.reason is EndReason.USER else JobState.FAILED
            await _say(socket, frames.Update(self.change(state=state, ended_at=time.time(), end=end)))
        elif script.end is not None and self.view.end is None:
            state = JobState.SUCCEEDED if script.end.exit_code == 0 else JobState.FAILED
            self.change(state=state, ended_at=time.time(), end=script.end)
        assert self.view is not None
        await _say(socket, frames.End(self.view))

    async def _send(self, socket: web.WebSocketResponse, stream: str, offset: int, data: bytes) -> None:
        header = frames.OUTPUT_HEADER.pack(frames.STREAM_NUMBERS[stream], self.script.attempt, offset)
        await socket.send_bytes(header + data)

    def _cancel(self) -> JobView:
        self.cancels += 1
        self.cancel_heard.set()
        if not self.script.ignores_cancels:
            self.cancelled.set()
        return self.change(cancel_requested=True)

    def _names(self, name: str) -> bool:
        """Whether `name` stands for the job."""
        return self.view is not None and (name in LAST or self.view.id.startswith(name))

    # HTTP

    async def put(self, request: web.Request) -> web.StreamResponse:
        denied = self._denied(request)
        if denied is not None:
            return denied
        self.stored.script = self.script
        take = self.stored.put_pack if "/packs/" in request.path else self.stored.put_bundle
        return await take(request)

    async def list_jobs(self, request: web.Request) -> web.Response:
        denied = self._denied(request)
        jobs: tuple[JobView, ...] = (self.view,) if self.view else ()
        if request.query.get("unfinished") == "true":
            jobs = tuple(job for job in jobs if job.end is None)
        return denied or _json(Jobs(jobs))

    async def get_job(self, request: web.Request) -> web.Response:
        return self._denied(request) or self._missing(request) or _json(self.view)

    async def cancel_job(self, request: web.Request) -> web.Response:
        if refused := self._denied(request) or self._missing(request):
            return refused
        self.wishes.append(await request.json() if request.can_read_body else {})
        return _json(self._cancel())

    async def rerun_job(self, request: web.Request) -> web.Response:
        """The one job there is starts anew."""
        if refused := self._denied(request) or self._missing(request):
            return refused
        self.change(state=JobState.QUEUED, end=None, ended_at=None, started_at=None)
        return _json(Submitted(self.change(), created=True))

    async def why_job(self, request: web.Request) -> web.Response:
        refused = self._denied(request) or self._missing(request)
        return refused or _json(msgspec.structs.replace(self.why, job=self.view))

    async def list_gpus(self, request: web.Request) -> web.Response:
        return self._denied(request) or _json(Gpus(self.gpus))

    async def list_files(self, request: web.Request) -> web.Response:
        files = tuple(
            FileView(JOB_ID, 1, path, mode, len(data), Digest(hashlib.sha256(data).hexdigest()))
            for path, (mode, data) in self.script.outputs.items()
        )
        count = len(files) + self.script.missing_outputs
        outputs = Outputs(JOB_ID, 1, ended=True, count=count, left_out="", files=files)
        return self._denied(request) or self._missing(request) or _json(outputs)

    async def get_file(self, request: web.Request) -> web.StreamResponse:
        denied = self._denied(request)
        if denied is not None:
            return denied
        wanted, script = request.match_info["digest"], self.script
        (data, *_) = [
            data for _, data in script.outputs.values() if hashlib.sha256(data).hexdigest() == wanted
        ]
        return await self._send_file(request, data, {})

    async def _send_file(
        self, request: web.Request, data: bytes, headers: dict[str, str]
    ) -> web.StreamResponse:
        script = self.script
        start = int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        self.ranges.append(start)
        if script.damage_downloads:
            script.damage_downloads -= 1
            data = data[:-1] + bytes([data[-1] ^ 1])
        response = web.StreamResponse(status=206 if start else 200, headers=headers)
        response.content_length = len(data) - start
        await response.prepare(request)
        if script.cut_downloads:
            await response.write(data[start : script.cut_downloads.pop(0)])
            drop(request)
            return response
        await response.write(data[start:])
        await response.write_eof()
        return response

    def _refused(self, request: web.Request) -> web.Response | None:
        return self._denied(request) or self._missing(request)

    def _missing(self, request: web.Request) -> web.Response | None:
        if self._names(request.match_info["id"]):
            return None
        return refusal(404, "not_found", f"there is no job {request.match_info['id']}")


async def _say(socket: web.WebSocketResponse, frame: frames.ServerFrame) -> None:
    await socket.send_str(frames.encode(frame).decode())


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


async def _close(runner: web.AppRunner) -> None:
    """Close it with every connection: what came meanwhile too, and those whose client reads no more."""
    server = runner.server
    assert server is not None
    known = server.connections
    await runner.cleanup()
    await _end_tasks()
    for handler in (*known, *server.connections):
        if handler.transport is not None:
            handler.transport.abort()
    await asyncio.sleep(0)  # where transports let go of their sockets


async def _end_tasks() -> None:
    """Handlers that still wait for something that will not come."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


@contextmanager
def running(port: int = 0) -> Iterator[Gateway]:
    """A gateway on a thread and an event loop of its own."""
    gateway = Gateway()
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(gateway.app(), shutdown_timeout=0.1)

    async def start() -> None:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        gateway.url = f"http://127.0.0.1:{runner.addresses[0][1]}"

    loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever, name="gateway")
    thread.start()
    try:
        yield gateway
    finally:
        asyncio.run_coroutine_threadsafe(_close(runner), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
