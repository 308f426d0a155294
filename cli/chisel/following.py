"""Watching one job from submission to its end, through any loss of the connection.

A `Following` is iterated: it yields what happens, in order, and returns when there is nothing more.
Every byte of the job's output is yielded once, whatever happens to the connection in between.
"""

import os
import socket
import time
from collections.abc import Generator, Iterator
from typing import NamedTuple

import msgspec

from chisel.address import Address, Unreachable
from chisel.bundle import Bundle
from chisel.connection import Binary, Connection, ConnectionLost, Rejected, Text, wait
from chisel_shared.contract import frames
from chisel_shared.contract.errors import ChiselError, InternalError, TooLarge, Unavailable, from_code
from chisel_shared.contract.frames import Position
from chisel_shared.contract.job import JobSpec, JobView

SESSION_PATH = "/api/v1/session"

SUBMIT_SECONDS = 60.0
"""How long a submission is repeated while the backend does not answer. An accepted job is followed
without a limit: it runs whether we watch or not."""

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
_TICK_SECONDS = 2.0
"""How long nothing may happen before the caller is woken, who then says what takes so long."""

_BACK_SECONDS = 1.0
"""A new connection that has held for so long counts as one, although nothing was said on it."""

_STALE_SECONDS = 5.0
"""After packing or an upload longer than this a new connection is made: the gateway may have given up the
old one, on which we heard nothing meanwhile."""

_MAX_UPLOADS = 3


class Wanted(NamedTuple):
    """What of a job is followed: all of it, if nothing is said. See `frames.Follow`."""

    output: bool = True
    tail: int | None = None
    since: float | None = None
    streams: tuple[str, ...] = ()
    timestamps: bool = False


EVERYTHING = Wanted()


class Output(NamedTuple):
    """Bytes the script wrote: `stream` is `"stdout"` or `"stderr"`. `time` is when they came to the
    backend, where that is `Wanted` and known; 0 otherwise."""

    stream: str
    data: bytes | bytearray
    time: float = 0.0


class Capped(NamedTuple):
    """The script has printed more to `stream` than is kept of its beginning, `shown` bytes: what is kept of
    its end follows when it has ended. Said once an attempt."""

    stream: str
    shown: int


class Changed(NamedTuple):
    """The job is in another state, or something about it is new."""

    job: JobView


class Attempt(NamedTuple):
    """The job runs again from its beginning; output that follows is this attempt's."""

    number: int


class Uploading(NamedTuple):
    """So many bytes of what the backend lacks are sent."""

    sent: int
    total: int


class Lost(NamedTuple):
    """The connection is gone and is being made again; said once until `Back`."""

    error: ChiselError


class Back(NamedTuple):
    """The connection is there again; what was missed follows."""


class Woken(NamedTuple):
    """Nothing happened for a while, or the caller's own `wake` socket has something."""


Event = Output | Capped | Changed | Attempt | Uploading | Lost | Back | Woken


class Submission(NamedTuple):
    """A job to submit: the same key always stands for the same job."""

    spec: JobSpec
    bundle: Bundle
    idempotency_key: str


class Following:
    """See the module. `job` is the newest view of the job; None until it is accepted."""

    def __init__(
        self,
        *,
        address: Address,
        key: str,
        job_id: str = "",
        position: Position | None = None,
        live: bool = True,
        wanted: Wanted = EVERYTHING,
        wake: socket.socket | None = None,
    ) -> None:
        self.job: JobView | None = None
        self.submitted = False
        """Whether the backend may know of a job that is being submitted."""
        self._address = address
        self._key = key
        self._submission: Submission | None = None
        self._job_id = job_id
        position = position or Position()
        self._attempt = position.attempt
        self._offsets = {"stdout": position.stdout, "stderr": position.stderr}
        self._live = live
        self._wanted = wanted
        self._began = time.monotonic()
        self._time = 0.0
        self._wake = wake
        self._connection: Connection | None = None
        self._dialled = 0.0
        self._known = False
        self._lost_since: float | None = None
        self._pause = _FIRST_PAUSE_SECONDS
        self._cancel_wanted = False
        self._uploads = 0
        self._head = b""
        self._stream = ""
        self._at = self._payload_at = 0
        self._capped: set[str] = set()

    @property
    def position(self) -> Position:
        """How far the output was yielded."""
        return Position(self._attempt, self._offsets["stdout"], self._offsets["stderr"])

    def dial(self) -> None:
        """Begin to connect; the gateway checks the key while the caller gets on with other things."""
        self._dialled = time.monotonic()
        self._connection = Connection(
            address=self._address, key=self._key, path=SESSION_PATH, protocol=frames.PROTOCOL
        )

    def submit(self, submission: Submission) -> None:
        """What iterating submits, where it was not yet known when the connection was dialled. `TooLarge`
        when the gateway would not even read it."""
        frame = frames.Submit(spec=submission.spec, idempotency_key=submission.idempotency_key)
        size = len(frames.encode(frame))
        if size > frames.MAX_TEXT_BYTES:
            raise TooLarge(
                f"the job's arguments and variables take {size // 1024} KiB, a job's may take"
                f" {frames.MAX_TEXT_BYTES // 1024}: put what is large into a file of the directory"
            )
        self._submission = submission

    def cancel(self) -> None:
        """Ask for the job's end, now or as soon as the backend can be told; iterate on to see it."""
        self._cancel_wanted = True
        if self._connection is not None and self.job is not None:
            try:
                self._tell(frames.Cancel(self.job.id))
            except ConnectionLost:
                return  # iterating finds it lost as well, connects again and tells it then

    def close(self) -> None:
        """Stop watching. The job goes on."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __iter__(self) -> Iterator[Event]:
        try:
            while True:
                try:
                    if (yield from self._session()):
                        return
                    continue
                except (ConnectionLost, Unreachable, Unavailable) as error:
                    self.close()
                    now = time.monotonic()
                    if self._lost_since is None:
                        if not self._patience(error):
                            raise
                        self._lost_since, self._pause = now, _FIRST_PAUSE_SECONDS
                        yield Lost(error)
                    elif now - self._lost_since > self._patience(error):
                        raise
                yield from self._rest()
        finally:
            self.close()

    def _patience(self, error: ChiselError) -> float:
        """For how many seconds to go on without a connection."""
        if self._known:
            return float("inf")
        nothing_there = isinstance(error, Unreachable) and not self.submitted
        return 0.0 if nothing_there else SUBMIT_SECONDS

    def _session(self) -> Generator[Event, None, bool]:
        """One connection: ends True when there is nothing more to follow, False to connect again."""
        connection = self._open()
        self._ask_for_job()
        while True:
            lost = self._lost_since is not None
            message = connection.receive(_BACK_SECONDS if lost else _TICK_SECONDS, self._wake)
            if lost:
                self._lost_since = None
                yield Back()
            if message is None:
                yield Woken()
                continue
            if isinstance(message, Binary):
                yield from self._output(message)
                continue
            match _decode(message):
                case frames.Accepted(job) | frames.Update(job):
                    if self._submission is not None:
                        self._submission.bundle.stored()
                    first, self._known = not self._known, True
                    # Why it waits changes without a new version: the job is the same, the queue is not.
                    if self.job is None or (job.version >= self.job.version and job != self.job):
                        self.job = job
                        yield Changed(job)
                    if first and self._cancel_wanted:
                        self._tell(frames.Cancel(job.id))
                case frames.BundleMissing() as missing:
                    self.submitted = False
                    began = time.monotonic()
                    yield from self._upload(missing)
                    if time.monotonic() - began > _STALE_SECONDS:
                        self.close()
                        return False
                    self._ask_for_job()
                case frames.Begin(position):
                    yield from self._begin(position)
                case frames.Stamp(moment):
                    self._time = moment
                case frames.End(job):
                    self.job = job
                    return True
                case frames.Failure(code, text):
                    raise from_code(code, text)
                case other:
                    raise InternalError(f"the backend sent a {type(other).__name__} that was not asked for")

    def _open(self) -> Connection:
        if self._connection is not None and time.monotonic() - self._dialled > _STALE_SECONDS:
            self.close()
        if self._connection is None:
            self.dial()
        assert self._connection is not None
        try:
            self._connection.open(self._wake)
        except Rejected as error:
            from chisel.api import error_of

            raise error_of(error.status, error.body) from error
        return self._connection

    def _ask_for_job(self) -> None:
        if self.job is None and self._submission is not None:
            spec, _, key = self._submission
            self.submitted = True
            self._tell(frames.Submit(spec=spec, idempotency_key=key))
            return
        job_id = self.job.id if self.job else self._job_id
        wanted = self._wanted
        if wanted.since is not None and wanted.since < 0:
            # So long before it was asked for, not before it is asked for again.
            wanted = wanted._replace(since=wanted.since - (time.monotonic() - self._began))
        self._tell(frames.Follow(job_id=job_id, position=self.position, live=self._live, **wanted._asdict()))
        if self._cancel_wanted:
            self._tell(frames.Cancel(job_id))

    def _tell(self, frame: frames.ClientFrame) -> None:
        assert self._connection is not None
        payload = frames.encode(frame)
        if len(payload) > frames.MAX_TEXT_BYTES:
            # The gateway would hang up without an answer, each time we asked again.
            raise TooLarge(
                f"what is asked takes {len(payload) // 1024} KiB, a question may take"
                f" {frames.MAX_TEXT_BYTES // 1024}"
            )
        self._connection.send(payload)

    def _upload(self, missing: frames.BundleMissing) -> Iterator[Event]:
        from chisel.api import Api
        from chisel.sending import send

        assert self._submission is not None
        self._uploads += 1
        if self._uploads > _MAX_UPLOADS:
            raise InternalError("the backend asks again and again for a bundle that it was given")
        spec, bundle, key = self._submission
        bundle.tree.check(max_bytes=missing.max_bytes, max_entries=missing.max_entries)
        with Api(url=str(self._address), key=self._key) as api:
            for sent, total in send(bundle, api):
                yield Uploading(sent, total)
        self._submission = Submission(msgspec.structs.replace(spec, bundle=bundle.digest), bundle, key)

    def _begin(self, position: Position) -> Iterator[Event]:
        """Output is wanted from here on. A lost connection goes on where it broke; only later attempts
        still begin by a `since`."""
        if 0 < self._attempt < position.attempt:
            yield Attempt(position.attempt)
        self._attempt = position.attempt
        self._offsets = {"stdout": position.stdout, "stderr": position.stderr}
        self._wanted = self._wanted._replace(tail=None)

    def _output(self, part: Binary) -> Iterator[Event]:
        """What of a binary message is new. Messages arrive in parts, their header perhaps too."""
        data = part.data
        if part.first:
            self._head, self._stream = b"", ""
        if not self._stream:
            self._head += data
            if len(self._head) < frames.OUTPUT_HEADER.size:
                return
            number, attempt, self._at = frames.OUTPUT_HEADER.unpack_from(self._head)
            self._payload_at = self._at
            data = self._head[frames.OUTPUT_HEADER.size :]
            self._stream = _STREAMS.get(number, _UNKNOWN) if attempt >= self._attempt else _UNKNOWN
            if attempt > self._attempt:
                if self._attempt:
                    yield Attempt(attempt)
                self._attempt = attempt
                self._offsets = {"stdout": 0, "stderr": 0}
                self._capped.clear()
        if self._stream == _UNKNOWN:
            return
        have, at = self._offsets[self._stream], self._at
        if at > have:
            # Never show output with a hole in it: ask for it again from where we are.
            raise ConnectionLost(f"the backend left out {at - have} bytes of {self._stream}")
        self._at = at + len(data)
        if self._at > have:
            self._offsets[self._stream] = self._at
            yield Output(self._stream, data[have - at :], self._time)
        elif part.last and self._at == self._payload_at == have and self._stream not in self._capped:
            self._capped.add(self._stream)
            yield Capped(self._stream, have)

    def _rest(self) -> Iterator[Event]:
        """Pause before the next try, a random part of it so that clients do not come all at once."""
        seconds = self._pause * (0.5 + os.urandom(1)[0] / 512)
        self._pause = min(self._pause * 2, _LONGEST_PAUSE_SECONDS)
        if self._wake is None:
            time.sleep(seconds)
        else:
            wait([self._wake], seconds)
        yield Woken()


_UNKNOWN = "?"
_STREAMS = {number: stream for stream, number in frames.STREAM_NUMBERS.items()}


def _decode(message: Text) -> frames.ServerFrame:
    try:
        return frames.decode_server(message.data)
    except msgspec.MsgspecError as error:
        raise InternalError(
            f"the backend said something this version of chisel does not understand ({error}):"
            " pip install --upgrade chisel-gpu"
        ) from error
