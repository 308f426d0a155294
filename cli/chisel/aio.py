"""The client for asyncio: the same verbs, each on a thread beside the loop.

Threads and not a second implementation, because what is hard in following a job (resuming at an offset
after any loss) is then written once. A verb that is cancelled leaves nothing running: what waits is woken
and its connection closed; a short question is left to end by itself and its answer dropped.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from chisel.client import Client
from chisel.following import Output
from chisel.job import Job, Saved, Stop
from chisel.pulling import Pulled
from chisel_shared.contract.gpus import GPUType
from chisel_shared.contract.job import JobState, JobView, exit_status
from chisel_shared.contract.messages import TraceView, Why

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is
if TYPE_CHECKING:
    from chisel_shared.traces.report import Summary

MOST_AT_ONCE = 256
"""Verbs that run at the same time, followed jobs among them; further ones wait for one to end."""

T = TypeVar("T")


class AsyncClient:
    """`Client` for asyncio; close it, or use `async with`. Its verbs may run at the same time."""

    def __init__(self, *, url: str = "", api_key: str = "") -> None:
        self._url, self._api_key = url, api_key
        self._threads = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="chisel")
        self._idle: list[Client] = []

    async def submit(
        self, command: "str | os.PathLike[str] | Sequence[str]", *, gpu: int | GPUType = 1, name: str = "",
        upload_dir: "str | os.PathLike[str]" = ".", requirements: str | None = None,
        env: Mapping[str, str] | None = None, secrets: Iterable[str] | Mapping[str, str] = (),
        time_limit_seconds: float | None = None, retries: int = 0, retry_on: Iterable[str] = (),
        lease_seconds: float | None = None, priority: int = 0, idempotency_key: str = "",
    ) -> "AsyncJob":  # fmt: skip
        """See `Client.submit`. Cancelled before the job is accepted, the backend may know of it or not."""

        def submit(client: Client, stop: Stop) -> JobView:
            return client.submit(
                command, gpu=gpu, name=name, upload_dir=upload_dir, requirements=requirements, env=env,
                secrets=secrets, time_limit_seconds=time_limit_seconds, retries=retries, retry_on=retry_on,
                lease_seconds=lease_seconds, priority=priority, idempotency_key=idempotency_key, stop=stop,
            ).view  # fmt: skip

        with Stop() as stop:
            return AsyncJob(self, await self._until(stop, self._ask(lambda client: submit(client, stop))))

    async def job(self, job_id: str) -> "AsyncJob":
        """One job. Any unambiguous beginning of an id will do, and `@last`."""
        return AsyncJob(self, await self._ask(lambda client: client.view(job_id)))

    async def jobs(self, *, unfinished: bool = False, limit: int = 50) -> "tuple[AsyncJob, ...]":
        """The newest `limit` jobs, newest first; with `unfinished`, of those that have not ended."""
        views = await self._ask(lambda client: client.views(unfinished=unfinished, limit=limit))
        return tuple(AsyncJob(self, view) for view in views)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)
        while self._idle:
            self._idle.pop().close()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    async def _ask(self, verb: Callable[[Client], T]) -> T:
        """Run `verb` on a thread with a client of its own for so long: one has one connection."""

        def run() -> T:
            client = self._idle.pop() if self._idle else Client(url=self._url, api_key=self._api_key)
            try:
                return verb(client)
            finally:
                self._idle.append(client)

        return await asyncio.get_running_loop().run_in_executor(self._threads, run)

    @staticmethod
    async def _until(stop: Stop, asked: "Coroutine[None, None, T]") -> T:
        """What is `asked`; cancelled, it sets `stop` and waits until the thread has heard it."""
        task = asyncio.create_task(asked, name="chisel verb")
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()  # heard: what it was no longer matters
            raise


class AsyncJob:
    """`Job` for asyncio."""

    def __init__(self, client: AsyncClient, view: JobView) -> None:
        self._client = client
        self.view = view
        """The newest that is known of it; `status` asks anew."""

    def __repr__(self) -> str:
        return f"<AsyncJob {self.id} {self.view.app_name!r} {self.view.state.value}>"

    @property
    def id(self) -> str:
        return self.view.id

    @property
    def state(self) -> JobState:
        """The state when the backend was last asked."""
        return self.view.state

    @property
    def exit_status(self) -> int | None:
        """What `chisel python` would exit with; None while the job has not ended, as far as is known."""
        return None if self.view.end is None else exit_status(self.view.end)

    async def status(self) -> JobView:
        """Everything about the job now."""
        return await self._ask(Job.status)

    async def logs(
        self, *, follow: bool = True, stream: str | None = None, tail: int | None = None,
        since: float | None = None,
    ) -> AsyncIterator[str]:  # fmt: skip
        """See `Job.logs`."""
        with Stop() as stop:
            lines = self._job_of(
                lambda job: job.logs(follow=follow, stream=stream, tail=tail, since=since, stop=stop)
            )
            async for line in self._iterate(stop, lines):
                yield line

    async def output(
        self, *, follow: bool = True, stream: str | None = None, tail: int | None = None,
        since: float | None = None, timestamps: bool = False,
    ) -> AsyncIterator[Output]:  # fmt: skip
        """See `Job.output`."""
        with Stop() as stop:
            pieces = self._job_of(
                lambda job: job.output(
                    follow=follow, stream=stream, tail=tail, since=since, timestamps=timestamps, stop=stop
                )
            )
            async for piece in self._iterate(stop, pieces):
                yield piece

    async def wait(self, timeout: float | None = None) -> JobView:
        """The job once it has ended; `TimeoutError` when it has not after `timeout` seconds."""
        with Stop(timeout) as stop:
            return await self._client._until(stop, self._ask(lambda job: job.wait(stop=stop)))

    async def cancel(
        self, *, signal: str = "INT", grace_seconds: float | None = None, reason: str = ""
    ) -> JobView:
        """Ask for its end, and return at once; `wait` tells when it came."""
        return await self._ask(
            lambda job: job.cancel(signal=signal, grace_seconds=grace_seconds, reason=reason)
        )

    async def rerun(self) -> "AsyncJob":
        """A new job with the same files and arguments."""
        return AsyncJob(self._client, await self._ask(lambda job: job.rerun().view))

    async def why(self) -> Why:
        """Where it stands in the queue, and what it waits for."""
        return await self._ask(Job.why)

    async def pull(
        self, path: str = "", *, folder: "str | os.PathLike[str]" = "outputs", force: bool = False
    ) -> tuple[Pulled, ...]:
        """See `Job.pull`."""
        return await self._ask(lambda job: job.pull(path, folder=folder, force=force))

    async def traces(self) -> tuple[TraceView, ...]:
        """Its traces by attempt and name: saved, on their way, being recorded or lost."""
        return await self._ask(Job.traces)

    async def trace_summary(self, trace: TraceView) -> "Summary":
        """See `Job.trace_summary`."""
        return await self._ask(lambda job: job.trace_summary(trace))

    async def download_traces(
        self, folder: "str | os.PathLike[str]" = ".", *, gz: bool = False
    ) -> tuple[Saved, ...]:
        """See `Job.download_traces`."""
        return await self._ask(lambda job: job.download_traces(folder, gz=gz))

    async def _ask(self, verb: Callable[[Job], T]) -> T:
        def asked(client: Client) -> T:
            job = Job(client, self.view)
            try:
                return verb(job)
            finally:
                self.view = job.view

        return await self._client._ask(asked)

    def _job_of(self, begin: Callable[[Job], Iterator[T]]) -> Callable[[Client], Iterator[T]]:
        def begun(client: Client) -> Iterator[T]:
            job = Job(client, self.view)
            try:
                yield from begin(job)
            finally:
                self.view = job.view

        return begun

    async def _iterate(self, stop: Stop, begin: Callable[[Client], Iterator[T]]) -> AsyncIterator[T]:
        """What an iterator on a thread yields, one at a time: nothing is read that nobody takes."""
        iterator = await self._client._ask(begin)
        try:
            while True:
                asked = self._client._ask(lambda client: tuple(islice(iterator, 1)))
                found = await self._client._until(stop, asked)
                if not found:
                    return
                yield found[0]
        finally:
            stop.set()
            close = getattr(iterator, "close", None)
            if close is not None:
                close()
