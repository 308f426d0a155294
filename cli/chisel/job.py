"""One job in the hands of a program: what it prints, how it ends, what it leaves.

job = chisel.Client().submit("train.py", gpu=4)
for line in job.logs(): ...
"""

import os
import socket
from collections.abc import Iterator
from typing import NamedTuple

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is; a verb loads what it needs
if TYPE_CHECKING:
    from chisel.client import Client
    from chisel.following import Output, Wanted
    from chisel.pulling import Pulled
    from chisel_shared.contract.job import JobState, JobView
    from chisel_shared.contract.messages import TraceView, Why
    from chisel_shared.traces.report import Summary


class Saved(NamedTuple):
    """A trace that is on this machine now."""

    trace: "TraceView"
    path: str


class Stop:
    """Ends what waits for a job, from another thread or after `seconds`. Close it, or use `with`."""

    def __init__(self, seconds: float | None = None) -> None:
        self.wake, self._waker = socket.socketpair()
        self.is_set = False
        self._timer = None
        if seconds is not None:
            import threading

            self._timer = threading.Timer(seconds, self.set)
            self._timer.daemon = True
            self._timer.start()

    def set(self) -> None:
        self.is_set = True
        try:
            self._waker.send(b"!")
        except OSError:
            return  # nobody waits any more

    def __enter__(self) -> "Stop":
        return self

    def __exit__(self, *raised: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        self.wake.close()
        self._waker.close()


class Job:
    """A job of a backend. Verbs raise the errors of `chisel_shared.contract.errors`.

    One job may be used by one thread at a time.
    """

    def __init__(self, client: "Client", view: "JobView") -> None:
        self._client = client
        self.view = view
        """The newest that is known of it; `status` asks anew."""

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.view.app_name!r} {self.view.state.value}>"

    @property
    def id(self) -> str:
        return self.view.id

    @property
    def state(self) -> "JobState":
        """The state when the backend was last asked."""
        return self.view.state

    @property
    def exit_status(self) -> int | None:
        """What `chisel python` would exit with; None while the job has not ended, as far as is known."""
        from chisel_shared.contract.job import exit_status

        return None if self.view.end is None else exit_status(self.view.end)

    def status(self) -> "JobView":
        """Everything about the job now. Its times are seconds since the epoch."""
        self.view = self._client.view(self.id)
        return self.view

    def logs(
        self, *, follow: bool = True, stream: str | None = None, tail: int | None = None,
        since: float | None = None, stop: Stop | None = None,
    ) -> "Iterator[str]":  # fmt: skip
        """The lines that it prints, without their ends, until it has ended; without `follow` what there is
        by now.

        `stream`: `"stdout"` or `"stderr"` alone. `tail`: begin with the last so many lines. `since`: begin
        with what came at this time, in seconds since the epoch, or with a negative number so many seconds
        ago. A lost connection is made again, and no line is lost or doubled. Bytes that are no UTF-8 are
        replaced: `output` has them as they are.
        """
        half = {"stdout": b"", "stderr": b""}
        for piece in self.output(follow=follow, stream=stream, tail=tail, since=since, stop=stop):
            *lines, half[piece.stream] = (half[piece.stream] + piece.data).split(b"\n")
            for line in lines:
                yield line.decode("utf-8", "replace")
        for rest in half.values():
            if rest:
                yield rest.decode("utf-8", "replace")

    def output(
        self, *, follow: bool = True, stream: str | None = None, tail: int | None = None,
        since: float | None = None, timestamps: bool = False, stop: Stop | None = None,
    ) -> "Iterator[Output]":  # fmt: skip
        """What it prints, in pieces of bytes as they come; `stop` ends it. `timestamps`: with the time they
        came. A job that is run again after its machine was lost begins anew. See `logs` for the rest."""
        from chisel.following import Wanted
        from chisel_shared.contract.errors import BadRequest

        if stream not in (None, "stdout", "stderr"):
            raise BadRequest(f"a stream is 'stdout' or 'stderr', not {stream!r}")
        wanted = Wanted(
            tail=tail, since=since, streams=() if stream is None else (stream,), timestamps=timestamps
        )
        return self._output(wanted, follow, stop)

    def _output(self, wanted: "Wanted", follow: bool, stop: Stop | None) -> "Iterator[Output]":
        from chisel.following import Output

        following = self._client.follow(
            self.id, live=follow, wanted=wanted, wake=stop.wake if stop is not None else None
        )
        try:
            for event in following:
                if stop is not None and stop.is_set:
                    return
                if isinstance(event, Output):
                    yield event
        finally:
            following.close()
            if following.job is not None:
                self.view = following.job

    def wait(self, timeout: float | None = None, *, stop: Stop | None = None) -> "JobView":
        """The job once it has ended. `TimeoutError` when it has not after `timeout` seconds, or when `stop`
        is set; it goes on then."""
        if stop is None:
            with Stop(timeout) as own:
                return self.wait(stop=own)
        from chisel.following import Wanted

        for _ in self._output(Wanted(output=False), follow=True, stop=stop):
            continue
        if self.view.end is None:
            raise TimeoutError(f"job {self.id} has not ended yet")
        return self.view

    def cancel(
        self, *, signal: str = "INT", grace_seconds: float | None = None, reason: str = ""
    ) -> "JobView":
        """Ask for its end, and return at once; `wait` tells when it came. See `Client.cancel`."""
        self.view = self._client.cancel(self.id, signal=signal, grace_seconds=grace_seconds, reason=reason)
        return self.view

    def rerun(self) -> "Job":
        """A new job with the same files and arguments."""
        return Job(self._client, self._client.rerun(self.id))

    def why(self) -> "Why":
        """Where it stands in the queue, and what it waits for."""
        return self._client.why(self.id)

    def pull(
        self, path: str = "", *, folder: "str | os.PathLike[str]" = "outputs", force: bool = False
    ) -> "tuple[Pulled, ...]":
        """Save what it wrote into `./outputs` below `folder`, or of that one file or folder; what became of
        each. It has to have ended: `NotFound` otherwise, and where nothing is called `path`."""
        from chisel.pulling import chosen, wait_until_stored
        from chisel_shared.contract.errors import NotFound

        outputs = wait_until_stored(lambda: self._client.outputs(self.id))
        if not outputs.ended and not outputs.files:
            raise NotFound(f"job {self.id} has not ended; its outputs are collected when it has")
        files = chosen(outputs.files, path)
        if path and not files:
            raise NotFound(f"job {self.id} wrote no {path} into ./outputs")
        return tuple(self._client.pull(outputs, files, os.fspath(folder), force=force))

    def traces(self) -> "tuple[TraceView, ...]":
        """Its traces by attempt and name: saved, on their way, being recorded or lost."""
        return self._client.traces(self.id)

    def trace_summary(self, trace: "TraceView") -> "Summary":
        """What was read off one of them when it was stored: see `Client.trace_summary`."""
        return self._client.trace_summary(trace)

    def download_traces(
        self, folder: "str | os.PathLike[str]" = ".", *, gz: bool = False
    ) -> tuple[Saved, ...]:
        """Save the traces of its last attempt that has any in `folder`, whole and verified; with `gz` as
        gzip files. See `Client.download_trace`."""
        from chisel_shared.contract.traces import STORED

        traces = [trace for trace in self.traces() if trace.state in STORED]
        last = max((trace.attempt for trace in traces), default=0)
        return tuple(
            Saved(trace, self._client.download_trace(trace, os.fspath(folder), gz=gz))
            for trace in traces
            if trace.attempt == last
        )
