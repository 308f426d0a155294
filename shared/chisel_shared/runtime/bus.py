"""The bus: typed requests and messages over NATS core. With `streams.py` the only file that knows NATS.

Core NATS delivers at most once, so a `Message` is a hint and a request is repeated by whoever needs
its answer. An error of the one tree crosses as itself; anything else a handler raises is a defect,
logged here and told to the caller as `InternalError`.
"""

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, Protocol, TypeVar

import msgspec
import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from chisel_shared.contract.errors import BadRequest, ChiselError, Forbidden, InternalError, Unavailable
from chisel_shared.contract.errors import from_code as error_from_code
from chisel_shared.contract.messages import Message, Request, pattern, reply_type, tokens
from chisel_shared.runtime.logs import Log

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
M = TypeVar("M", bound=Message)
Q = TypeVar("Q", bound=Request[Any])
Handler = Callable[[Q], Awaitable[Any]]

log = Log("chisel.bus")

_ERROR = "Chisel-Error"
_IN_FLIGHT_PER_HANDLER = 64
"""Requests one handler works on at a time; more are refused at once, so a queue never hides a stall."""
_RECONNECT_SECONDS = 0.2


class Subscription(Protocol):
    async def unsubscribe(self) -> None: ...


class Bus(Protocol):
    """What a service may do on the bus. `NatsBus` is the real one, `MemoryBus` its twin for tests."""

    async def request(self, message: Request[R], *, timeout: float = 5.0) -> R:
        """Ask, and wait for one answer. `Unavailable` when nobody answers in time."""

    async def publish(self, message: Message) -> None:
        """Say something to whoever listens now; lost when the bus is away."""

    async def serve(self, request: type[Q], handler: Handler[Q], **bound: str) -> Subscription:
        """Answer `request` as one of the group of its kind."""

    async def subscribe(
        self, message: type[M], handler: Callable[[M], Awaitable[None]], **bound: str
    ) -> Subscription:
        """Hear every `message`; tokens in `bound` narrow the subject."""

    async def flush(self) -> None:
        """Return when the server has seen every subscription made so far; `Unavailable` when it is away."""


def heeds_cancellation(
    call: Callable[P, Coroutine[Any, Any, T]],
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Decorator for what awaits nats-py, which is built on `asyncio.wait_for`: in Python 3.11 that
    forgets a cancellation that arrives together with its result, and the task would go on for ever."""

    @functools.wraps(call)
    async def heeding(*args: P.args, **kwargs: P.kwargs) -> T:
        task = asyncio.current_task()
        before = task.cancelling() if task else 0
        try:
            return await call(*args, **kwargs)
        finally:
            if task and task.cancelling() > before:
                raise asyncio.CancelledError

    return heeding


def nats_url_of(url: str) -> list[str]:
    """A comma-separated list of servers as nats-py wants it."""
    return [part.strip() for part in url.split(",") if part.strip()]


@asynccontextmanager
async def nats_connection(
    url: str, *, name: str, user: str = "", password: str = "", inbox: str = ""
) -> AsyncIterator[Client]:
    """A connection that waits for the server at first and comes back for ever after.

    nats-py closes for good on some protocol errors; then this process ends, for its supervisor to
    start afresh, because a service without a bus is no service.
    """
    closing = False

    async def on_error(error: Exception) -> None:
        log.debug("nats_error", error=repr(error))
        if not client.is_connected and client._transport is not None:
            # nats-py leaves the socket of a try that was taken, by a proxy say, and not answered by a
            # server to the garbage collector.
            client._transport.close()  # type: ignore[no-untyped-call]  # nats-py's own

    async def on_disconnect() -> None:
        if not closing:
            log.warning("nats_disconnected", connection=name)

    async def on_reconnect() -> None:
        log.info("nats_reconnected", connection=name)

    async def on_closed() -> None:
        if not closing:
            log.error("nats_closed_for_good", connection=name)
            os._exit(1)

    client = Client()
    connecting = asyncio.create_task(
        client.connect(
            nats_url_of(url),
            name=name,
            user=user or None,
            password=password or None,
            inbox_prefix=inbox or "_INBOX",
            max_reconnect_attempts=-1,
            reconnect_time_wait=_RECONNECT_SECONDS,  # type: ignore[arg-type]
            connect_timeout=3,
            ping_interval=10,
            max_outstanding_pings=2,
            pending_size=1 << 20,
            error_cb=on_error,
            disconnected_cb=on_disconnect,
            reconnected_cb=on_reconnect,
            closed_cb=on_closed,
        ),
        name="nats-connect",
    )
    try:
        while not connecting.done():
            await asyncio.wait({connecting}, timeout=2.0)
            if not connecting.done():
                log.warning("nats_not_ready", connection=name)
        connecting.result()
        yield client
    finally:
        closing = True
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
        try:
            async with asyncio.timeout(2):
                await client.close()
        except (OSError, TimeoutError, nats.errors.Error) as error:
            log.debug("nats_close_failed", error=repr(error))  # the link died with data pending


async def flushed(client: Client, *, timeout: int) -> None:
    """Return when the server has seen everything said so far.

    nats-py sends a flush's PING ahead of commands that are still queued: the first round trip lets
    the queue go out, only the second proves that it arrived.
    """
    for _ in range(2):
        await client.flush(timeout=timeout)


_SCHEDULERS = ("sched", "jobs", "agents", "quotas")
"""Beginnings of what the scheduler is asked."""


def _what(subject: str) -> str:
    """A question in words that a user may read too: whose part of the server was asked."""
    root, _, name = subject.partition(".")
    if root != "rpc":
        return subject
    part = name.split(".")[0]
    return f"the server's {'scheduler' if part in _SCHEDULERS else part} service ({subject})"


class NatsBus:
    """The bus over one NATS connection."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._encoder = msgspec.json.Encoder()
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, url: str, *, name: str, user: str = "", password: str = "", inbox: str = ""
    ) -> AsyncIterator["NatsBus"]:
        """A bus that closes its handlers before its connection."""
        async with nats_connection(url, name=name, user=user, password=password, inbox=inbox) as client:
            bus = cls(client)
            try:
                yield bus
            finally:
                await bus.finish()

    async def finish(self) -> None:
        """Cancel the handlers still at work and wait for them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def connected(self) -> bool:
        return bool(self.client.is_connected)

    @heeds_cancellation
    async def request(self, message: Request[R], *, timeout: float = 5.0) -> R:
        subject = message.subject()
        try:
            answer = await self.client.request(subject, self._encoder.encode(message), timeout=timeout)
        except nats.errors.NoRespondersError as error:
            raise Unavailable(f"nobody answers for {_what(subject)}; try again in a few seconds") from error
        except (TimeoutError, OSError, nats.errors.Error) as error:
            raise Unavailable(
                f"{_what(subject)} has not answered in {timeout:g} s; try again in a few seconds"
            ) from error
        code = (answer.headers or {}).get(_ERROR)
        if code is not None:
            raise error_from_code(code, answer.data.decode(errors="replace"))
        try:
            return msgspec.json.decode(answer.data, type=reply_type(type(message)))
        except (msgspec.MsgspecError, UnicodeError) as error:  # only a peer of another version says such
            raise Unavailable(f"{subject} was answered with nonsense; try again later") from error

    async def publish(self, message: Message) -> None:
        try:
            await self.client.publish(message.subject(), self._encoder.encode(message))
        except (OSError, nats.errors.Error) as error:
            log.debug("hint_not_said", subject=message.subject(), error=repr(error))

    async def serve(self, request: type[Q], handler: Handler[Q], **bound: str) -> Subscription:
        decoder = msgspec.json.Decoder(request)
        places = asyncio.Semaphore(_IN_FLIGHT_PER_HANDLER)

        async def work(msg: Msg) -> None:
            try:
                try:
                    reply = await handler(_decode(decoder, request, msg))
                finally:
                    places.release()
                await self._answer(msg, self._encoder.encode(reply), None)
            except ChiselError as error:
                await self._answer(msg, str(error).encode(), type(error).code)
            except Exception as error:
                log.error("handler_failed", subject=msg.subject, error=repr(error))
                await self._answer(msg, str(InternalError()).encode(), InternalError.code)

        async def on_message(msg: Msg) -> None:
            # nats-py runs one callback of a subscription at a time: hand over and return at once.
            if places.locked():
                await self._answer(msg, b"the service is overloaded; try again", Unavailable.code)
                return
            await places.acquire()
            self._start(work(msg), f"serve {request.__name__}")

        queue = request.SUBJECT.split(".")[1]
        subject = pattern(request, **bound)
        return await self.client.subscribe(subject, queue=f"{queue}-{request.__name__}", cb=on_message)

    async def subscribe(
        self, message: type[M], handler: Callable[[M], Awaitable[None]], **bound: str
    ) -> Subscription:
        decoder = msgspec.json.Decoder(message)

        async def on_message(msg: Msg) -> None:
            try:
                await handler(_decode(decoder, message, msg))
            except Exception as error:
                log.error("handler_failed", subject=msg.subject, error=repr(error))

        return await self.client.subscribe(pattern(message, **bound), cb=on_message)

    @heeds_cancellation
    async def flush(self) -> None:
        try:
            await flushed(self.client, timeout=5)
        except (TimeoutError, OSError, nats.errors.Error) as error:
            raise Unavailable("the bus does not answer; try again in a few seconds") from error

    def _start(self, work: Any, name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, msg: Msg, payload: bytes, error_code: str | None) -> None:
        if not msg.reply:
            return
        try:
            headers = {_ERROR: error_code} if error_code else None
            await self.client.publish(msg.reply, payload, headers=headers)
        except (OSError, nats.errors.Error) as error:
            log.debug("answer_not_sent", subject=msg.subject, error=repr(error))


def _decode(decoder: Any, kind: type[M], msg: Msg) -> M:
    """The message of `msg`. A payload that names another identity than its subject does is refused."""
    try:
        message: M = decoder.decode(msg.data)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise BadRequest(f"malformed {kind.__name__}: {error}") from error
    for name, value in tokens(kind, msg.subject).items():
        if getattr(message, name) != value:
            raise Forbidden(f"a {kind.__name__} on {msg.subject} may not speak for another {name}")
    return message
