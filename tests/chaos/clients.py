"""The users of a campaign: they submit, repeat, follow, cancel and upload, through a link that breaks."""

import asyncio
import hashlib
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import msgspec

from tests.chaos.collect import PROBE
from tests.chaos.history import History
from tests.chaos.plan import CANARY, Client, Job, Upload
from tests.chaos.system import AWAY, System, gpu_of
from tests.support.commands import Command, Finished

SCRIPT = Path(__file__).with_name("job") / "witness.py"
_PATIENCE = aiohttp.ClientTimeout(total=15)
_PAUSE_SECONDS = 0.3
_EARLY_SECONDS = 0.5
"""A command that is killed so early is killed whether or not it has submitted its job."""
_AT_ONCE = 4
"""Commands that run at the same time: each is an interpreter."""
_AGAIN = (408, 429, 500, 502, 503, 504, 507)
_LONGER_THAN_ANY_SECONDS = 1e6
_REPEATS = 3
_JSON = {"Content-Type": "application/json"}


class Refused(Exception):
    """The backend said no, and meant it."""


class Clients:
    """All users. What they were told is in the history: `accepted`, `followed`, `stored`."""

    def __init__(self, system: System, history: History, *, witness: Path, canary: str) -> None:
        self._system, self._history, self._witness = system, history, witness
        self._canary = canary
        self._source = system.folder / "source"
        self._commands = asyncio.Semaphore(_AT_ONCE)
        self._headers = {"Authorization": f"Bearer {system.cluster.key}"}
        self._running: list[Command] = []
        self._closing = False
        self._bundle = ""
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Send the script once, by the real command, so that the others need only name it."""
        self._closing = False
        self._session = aiohttp.ClientSession(headers=self._headers, timeout=_PATIENCE)
        if self._bundle:
            return
        await self._insist("PUT", f"/api/v1/secrets/{CANARY}", self._canary.encode(), {})
        self._source.mkdir(exist_ok=True)
        shutil.copy(SCRIPT, self._source)
        probe = self._system.cluster.spawn(["python", "-a", PROBE, "witness.py", "{}"], cwd=self._source)
        await asyncio.to_thread(probe.finish)  # it fails, as it has nothing to do; its bundle is there then
        self._bundle = await self._scalar(
            "select spec->>'bundle' from scheduler.jobs where spec->>'app_name' = $1", PROBE
        )

    async def end_commands(self) -> None:
        """End the commands that still follow something, when there is nothing to follow."""
        self._closing = True
        for command in self._running:
            await asyncio.to_thread(command.kill)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    # Jobs

    async def run(self, job: Job) -> None:
        """Submit a job, and do to it what is planned, until nothing is left to do for its client."""
        if job.client in (Client.COMMAND, Client.REATTACHED):
            async with self._commands:
                await self._by_command(job)
            return
        repeats = _REPEATS if job.client is Client.TWICE else 1
        await asyncio.gather(*(self._submit(job) for _ in range(repeats)))
        if job.client is Client.TWICE:
            await asyncio.sleep(job.killed_after)
            await self._submit(job)
        await self._cancel_as_planned(job)

    async def _submit(self, job: Job) -> str:
        """Ask until it is answered, always with the same key."""
        body = msgspec.json.encode(
            {
                "app_name": job.name,
                "argv": ["python", "witness.py", msgspec.json.encode(job.script).decode()],
                "gpu": gpu_of(job.gpus).value,
                "bundle": self._bundle,
                "env": {"CHAOS_WITNESS": str(self._witness)},
                "retries": job.retries,
                "time_limit_seconds": job.time_limit,
                "secrets": {CANARY: CANARY} if job.script.secret else {},
            }
        )
        headers = {"Idempotency-Key": f"{job.script.key} key", **_JSON}
        answer = await self._insist("POST", "/api/v1/jobs", body, headers)
        found = answer.get("job", answer)
        self._history.note("accepted", job=job.name, id=found["id"])
        return str(found["id"])

    async def _cancel_as_planned(self, job: Job) -> None:
        if job.cancel_after is None:
            return
        await asyncio.sleep(job.cancel_after)
        found = await self._id_of(job)
        if found is not None:
            self._history.note("cancel", job=job.name)
            await self._insist(
                "POST", f"/api/v1/jobs/{found}/cancel", b"{}", {"Content-Type": "application/json"}
            )

    async def _by_command(self, job: Job) -> None:
        arguments = ["python", "--no-pull", "-a", job.name, "-g", str(job.gpus)]
        arguments += ["--env", f"CHAOS_WITNESS={self._witness}"]
        if job.retries:
            arguments += ["--retries", str(job.retries)]
        if job.time_limit is not None:
            arguments += ["--time-limit", f"{job.time_limit:.3f}"]
        if job.script.secret:
            arguments += ["--secret", CANARY]
        arguments += ["witness.py", msgspec.json.encode(job.script).decode()]
        command = self._spawn(arguments)
        if job.client is Client.REATTACHED:
            if job.killed_after > _EARLY_SECONDS:
                await self._submitted(job, command)
            await asyncio.sleep(job.killed_after)
            await asyncio.to_thread(command.kill)
            self._history.note("command killed", job=job.name)
            found = await self._id_of(job)
            if found is None:
                return  # it was killed before it had submitted
            self._history.note("accepted", job=job.name, id=found)
            command = self._spawn(["logs", "-f", found])
        cancelling = asyncio.create_task(self._cancel_as_planned(job))
        try:
            done = await asyncio.to_thread(self._finish, command)
        finally:
            cancelling.cancel()
            await asyncio.gather(cancelling, return_exceptions=True)
        found = await self._id_of(job)
        if found is not None and job.client is Client.COMMAND:
            self._history.note("accepted", job=job.name, id=found)
        self._history.note(
            "followed",
            job=job.name,
            status=done.returncode if done else None,
            size=len(done.stdout) if done else 0,
            sha256=hashlib.sha256(done.stdout).hexdigest() if done else "",
            said=done.stderr[-300:].decode(errors="replace") if done else "it did not end",
        )

    async def _submitted(self, job: Job, command: Command) -> None:
        """Return when the job is in the books, or the command has given up."""
        while command.running() and await self._id_of(job) is None:  # noqa: ASYNC110 - nobody says it
            await asyncio.sleep(_PAUSE_SECONDS)

    def _spawn(self, arguments: list[str]) -> Command:
        env = {"CHISEL_BACKEND_URL": self._system.url, "COLUMNS": "200"}
        command = self._system.cluster.spawn(arguments, cwd=self._source, env=env)
        self._running.append(command)
        return command

    def _finish(self, command: Command) -> Finished | None:
        """How it ended; None when we ended it, because everything else had come to rest."""
        done = command.finish(timeout=_LONGER_THAN_ANY_SECONDS)
        return None if self._closing else done

    # Uploads

    async def upload(self, upload: Upload) -> None:
        """Store a pack; first, where that is planned, by an upload that breaks off."""
        data = upload.data()
        digest = hashlib.sha256(data).hexdigest()
        headers = {"Content-Type": "application/gzip"}

        async def torn() -> AsyncIterator[bytes]:
            yield data[: upload.torn]
            raise ConnectionResetError

        if upload.torn:
            assert self._session is not None
            try:
                url = f"{self._system.url}/api/v1/packs/{digest}"
                async with self._session.put(url, data=torn(), headers=headers) as answer:
                    self._history.note("torn upload", status=answer.status)
            except (aiohttp.ClientError, OSError, TimeoutError):
                pass
        await self._insist("PUT", f"/api/v1/packs/{digest}", data, headers)
        self._history.note("stored", digest=digest, size=upload.size)

    # The API

    async def _insist(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Any:
        """The answer of a request that is repeated while nobody answers it; `Refused` when it is wrong."""
        assert self._session is not None
        while True:
            try:
                async with self._session.request(
                    method, f"{self._system.url}{path}", data=body, headers=headers
                ) as answer:
                    text = await answer.read()
                    if answer.status < 300:
                        return msgspec.json.decode(text) if text else {}
                    if answer.status not in _AGAIN:
                        self._history.note(
                            "refused", path=path, status=answer.status, said=text.decode()[:300]
                        )
                        raise Refused(f"{method} {path}: {answer.status} {text[:300]!r}")
            except (aiohttp.ClientError, OSError, TimeoutError):
                pass
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _id_of(self, job: Job) -> str | None:
        """The id of the job of this name, from the books; None when there is none."""
        sentence = "select id from scheduler.jobs where spec->>'app_name' = $1"
        found = await self._scalar(sentence, job.name)
        return str(found) if found else None

    async def _scalar(self, sentence: str, *arguments: str) -> Any:
        end = time.monotonic() + 60
        while True:
            try:
                connection = await asyncpg.connect(self._system.cluster.postgres.url(), timeout=3)
                try:
                    return await connection.fetchval(sentence, *arguments, timeout=3)
                finally:
                    connection.terminate()
            except AWAY:
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(_PAUSE_SECONDS)
