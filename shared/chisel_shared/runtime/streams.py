"""The two JetStream streams: `OUT` (output bytes until archived) and `EV` (what happened to jobs).

Only four server features are used: publish with an expected last sequence, batched direct get,
republish, and purge; no consumers. Everything here can be rebuilt from Postgres or an agent's spool.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import api

from chisel_shared.contract.errors import Unavailable
from chisel_shared.contract.ids import AgentId, JobId
from chisel_shared.runtime.bus import flushed, heeds_cancellation
from chisel_shared.runtime.logs import Log

log = Log("chisel.streams")

OUT, EV = "OUT", "EV"
OFFSET, EOF, CAPPED = "Chisel-Off", "Chisel-Eof", "Chisel-Capped"
MAX_CHUNK_BYTES = 256 * 1024
_BATCH_MESSAGES, _BATCH_BYTES = 256, 1 << 20
_WRONG_LAST_SEQUENCE = (10071, 10164)
_STREAM_FULL = 10077
_SERVERS_FAULT = 500
_NOBODYS = {OUT: "out.-", EV: "ev.-"}
"""Subjects on which nothing is ever stored."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive bytes of one stream of one attempt, as stored. `eof` is the total, on the last one.
    `time` is when the server stored them, in seconds since the epoch; 0 where that is not known.
    A `capped` one has no bytes and says that the next will come when the job has ended."""

    stream: str
    offset: int
    data: bytes
    sequence: int
    eof: int | None = None
    time: float = 0.0
    capped: bool = False

    @property
    def end(self) -> int:
        return self.offset + len(self.data)


class Behind(Exception):
    """The subject holds more, or less, than the writer believed; `last` is what it ends with."""

    def __init__(self, last: Chunk | None) -> None:
        super().__init__(f"the subject ends with {last and last.end}")
        self.last = last


class Full(Exception):
    """The server takes no more on this subject now."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What `OUT` holds: messages by subject, and how much of the room it has is taken (0 to 1)."""

    messages: dict[str, int]
    fraction: float


def attempt_subject(agent: AgentId, job: JobId, attempt: int, stream: str = "*") -> str:
    """Where an attempt's output lies: `stream` is `stdout` or `stderr`; by default both."""
    return f"out.{agent}.{job}.{attempt}.{stream}"


def _chunk(msg: Msg) -> Chunk:
    headers = msg.headers or {}
    eof = headers.get(EOF)
    return Chunk(
        stream=(headers.get("Nats-Subject") or msg.subject).rpartition(".")[2],
        offset=int(headers.get(OFFSET, "0")),
        data=bytes(msg.data),
        sequence=int(headers.get("Nats-Sequence", "0")),
        eof=int(eof) if eof is not None else None,
        time=_seconds(headers.get("Nats-Time-Stamp", "")),
        capped=CAPPED in headers,
    )


def _seconds(stamp: str) -> float:
    """A time as NATS writes it, to nanoseconds; 0 for none."""
    if not stamp:
        return 0.0
    whole, _, fraction = stamp.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}")


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


class Streams:
    """What services and agents do with JetStream over one connection."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._js = client.jetstream(timeout=2)

    async def ensure(self, *, max_bytes: int) -> None:
        """Create both streams, or bring them to the wanted form. Waits while the server cannot."""
        wanted = (
            api.StreamConfig(
                name=OUT,
                subjects=["out.>"],
                discard=api.DiscardPolicy.NEW,
                discard_new_per_subject=True,
                max_bytes=max_bytes,
                max_msgs_per_subject=200_000,
                max_age=14 * 86_400,
                max_msg_size=2 * MAX_CHUNK_BYTES,
                max_consumers=1_000,
                allow_direct=True,
                republish=api.RePublish(src="out.>", dest="tail.>"),
                num_replicas=1,
            ),
            api.StreamConfig(
                name=EV,
                subjects=["ev.>"],
                discard=api.DiscardPolicy.OLD,
                max_bytes=min(max_bytes // 8, 2 << 30),
                max_msgs_per_subject=256,
                max_age=7 * 86_400,
                duplicate_window=3_600,
                allow_direct=True,
                num_replicas=1,
            ),
        )
        for config in wanted:
            while True:
                try:
                    await self._ensure_one(config)
                    break
                except (TimeoutError, OSError, nats.errors.Error) as error:
                    log.warning("stream_not_ready", stream=config.name, error=str(error) or repr(error))
                    await asyncio.sleep(0.5)

    @heeds_cancellation
    async def _ensure_one(self, config: api.StreamConfig) -> None:
        try:
            await self._js.add_stream(config)
        except nats.js.errors.BadRequestError:  # it exists in another form
            await self._js.update_stream(config)

    @heeds_cancellation
    async def publish_event(self, subject: str, payload: bytes, message_id: str) -> None:
        """Store one event once, whatever repeats it. `Unavailable` when that is not certain."""
        try:
            await self._js.publish(subject, payload, headers={"Nats-Msg-Id": message_id}, timeout=2)
        except (TimeoutError, OSError, nats.errors.Error) as error:
            raise Unavailable("the event stream does not answer") from error

    @heeds_cancellation
    async def append(
        self,
        subject: str,
        data: bytes,
        *,
        offset: int,
        after: int,
        eof: int | None = None,
        capped: bool = False,
    ) -> int:
        """Store a chunk if `after` is still the subject's last sequence; returns its own sequence.

        `Behind` when it is not, `Full` when there is no room, `Unavailable` when the outcome is
        unknown: then the same call again finds out.
        """
        headers = {"Nats-Expected-Last-Subject-Sequence": str(after), OFFSET: str(offset)}
        if eof is not None:
            headers[EOF] = str(eof)
        if capped:
            headers[CAPPED] = "1"
        try:
            ack = await self._js.publish(subject, data, headers=headers, timeout=2)
        except nats.js.errors.APIError as error:
            if error.err_code in _WRONG_LAST_SEQUENCE:
                raise Behind(await self.last(subject)) from error
            if error.err_code == _STREAM_FULL:
                raise Full from error
            raise Unavailable(f"output was not taken: {error}") from error
        except (TimeoutError, OSError, nats.errors.Error) as error:
            raise Unavailable("the output stream does not answer") from error
        return ack.seq

    @heeds_cancellation
    async def last(self, subject: str) -> Chunk | None:
        """The last chunk of one subject, or None when it has none."""
        try:
            found = await self._js.get_last_msg(OUT, subject, direct=True)
        except nats.js.errors.NotFoundError:
            return None
        except (TimeoutError, OSError, nats.errors.Error) as error:
            raise Unavailable("the output stream does not answer") from error
        headers = found.headers or {}
        eof = headers.get(EOF)
        return Chunk(
            stream=subject.rpartition(".")[2],
            offset=int(headers.get(OFFSET, "0")),
            data=bytes(found.data or b""),
            sequence=found.seq or 0,
            eof=int(eof) if eof is not None else None,
            capped=CAPPED in headers,
        )

    @heeds_cancellation
    async def read(self, subject: str, *, after: int, since: float | None = None) -> tuple[list[Chunk], bool]:
        """Up to 1 MiB of chunks of `subject` (wildcards allowed) with sequences above `after`, in order,
        and whether there is more; with `since`, those stored at or after that time instead.
        `Unavailable` when the answer broke off; nothing is consumed."""
        inbox = self._client.new_inbox()
        chunks: list[Chunk] = []
        try:
            subscription = await self._client.subscribe(inbox, pending_bytes_limit=-1, pending_msgs_limit=-1)
            try:
                start = {"seq": after + 1} if since is None else {"start_time": _stamp(since)}
                ask = {
                    **start,
                    "next_by_subj": subject,
                    "batch": _BATCH_MESSAGES,
                    "max_bytes": _BATCH_BYTES,
                }
                await self._client.publish(f"$JS.API.DIRECT.GET.{OUT}", json.dumps(ask).encode(), reply=inbox)
                while True:
                    msg = await subscription.next_msg(timeout=2)
                    headers = msg.headers or {}
                    match headers.get("Status"):
                        case None:
                            chunks.append(_chunk(msg))
                        case "204":  # the end of a batch
                            return chunks, int(headers.get("Nats-Num-Pending", "0")) > 0
                        case "404":  # nothing (more) there
                            return chunks, False
                        case status:  # 503: the stream itself is gone, which is not an empty answer
                            raise Unavailable(f"the output stream answered {status}")
            finally:
                await subscription.unsubscribe()
        except (TimeoutError, OSError, nats.errors.Error) as error:
            raise Unavailable("the output stream does not answer") from error

    async def tail(self, subject: str, on_chunk: Callable[[Chunk], None]) -> "TailSubscription":
        """Call `on_chunk` with every chunk stored on `subject` from now on; copies may be lost."""

        async def on_message(msg: Msg) -> None:
            on_chunk(_chunk(msg))

        subscription = await self._client.subscribe(
            "tail." + subject.removeprefix("out."), cb=on_message, pending_bytes_limit=4 << 20
        )
        return TailSubscription(subscription)

    @heeds_cancellation
    async def usage(self, subject: str = "out.>") -> Usage:
        """How full `OUT` is, and the messages of each subject that matches `subject`."""
        try:
            info = await self._js.stream_info(OUT, subjects_filter=subject)
        except (TimeoutError, OSError, nats.errors.Error) as error:
            raise Unavailable("the output stream does not answer") from error
        limit = info.config.max_bytes or 0
        return Usage(dict(info.state.subjects or {}), info.state.bytes / limit if limit > 0 else 0.0)

    @heeds_cancellation
    async def purge(self, subject: str, *, below: int | None = None) -> None:
        """Drop what `subject` holds; with `below`, only sequences smaller than that.

        A subject still written to keeps its last message (pass its sequence), or the writer's
        compare-and-set would find an empty subject.
        """
        ask: dict[str, object] = {"filter": subject}
        if below is not None:
            ask["seq"] = below
        try:
            answer = await self._client.request(
                f"$JS.API.STREAM.PURGE.{OUT}", json.dumps(ask).encode(), timeout=5
            )
        except (TimeoutError, OSError, nats.errors.Error) as error:
            raise Unavailable("the output stream does not answer") from error
        if problem := json.loads(answer.data).get("error"):
            raise Unavailable(f"the output stream was not purged: {problem.get('description')}")

    @heeds_cancellation
    async def failed(self) -> dict[str, str]:
        """The streams that the server has stopped writing, with its reason; none when all is well.

        After a failed write, on a full disk for instance, the server writes the stream no more, whatever
        room there is, until it is restarted: publishes go unanswered, reads are answered. It says so to
        who purges, and a purge of nothing writes nothing. `Unavailable` when it does not answer at all.
        """
        failed: dict[str, str] = {}
        for stream, subject in _NOBODYS.items():
            ask = json.dumps({"filter": subject}).encode()
            try:
                answer = await self._client.request(f"$JS.API.STREAM.PURGE.{stream}", ask, timeout=2)
            except (TimeoutError, OSError, nats.errors.Error) as error:
                raise Unavailable(f"the stream {stream} does not answer") from error
            problem = json.loads(answer.data).get("error")
            if problem and problem.get("code") == _SERVERS_FAULT:
                failed[stream] = str(problem.get("description"))
        return failed

    @heeds_cancellation
    async def flush(self) -> None:
        """Return when the server knows of every tail subscribed so far."""
        try:
            await flushed(self._client, timeout=2)
        except (TimeoutError, OSError, nats.errors.Error) as error:
            raise Unavailable("the bus does not answer") from error


class TailSubscription:
    """A running tail; close it when nobody listens any more."""

    def __init__(self, subscription: object) -> None:
        self._subscription = subscription

    async def close(self) -> None:
        try:
            await self._subscription.unsubscribe()  # type: ignore[attr-defined]
        except (OSError, nats.errors.Error) as error:
            log.debug("unsubscribe_failed", error=repr(error))
