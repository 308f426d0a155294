"""The bus without a broker, for tests of handlers: same answers, same errors, and it remembers.

Everything crosses as encoded bytes, so a test meets the same decoding as on NATS. `said` waits for a
message, `assert_silent` proves that nothing else was said.
"""

import asyncio
from collections.abc import Awaitable, Callable
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import msgspec

from chisel_shared.contract.errors import ChiselError, InternalError, Unavailable, from_code
from chisel_shared.contract.messages import Message, Request, pattern, reply_type

R = TypeVar("R")
M = TypeVar("M", bound=Message)
Q = TypeVar("Q", bound=Request[Any])


class _Entry:
    """One subscription or service."""

    def __init__(self, entries: list["_Entry"], subject: str, kind: type[Message], handler: Any) -> None:
        self.subject, self.kind, self.handler = subject, kind, handler
        self._entries = entries
        entries.append(self)

    def hears(self, message: Message) -> bool:
        # Ids hold no dots, so a "*" of fnmatch stands for exactly one token here.
        return type(message) is self.kind and fnmatchcase(message.subject(), self.subject)

    async def unsubscribe(self) -> None:
        if self in self._entries:
            self._entries.remove(self)


class MemoryBus:
    """A `Bus` inside one process."""

    def __init__(self) -> None:
        self._services: list[_Entry] = []
        self._listeners: list[_Entry] = []
        self._said: asyncio.Queue[Message] = asyncio.Queue()

    async def request(self, message: Request[R], *, timeout: float = 5.0) -> R:
        for service in self._services:
            if service.hears(message):
                break
        else:
            raise Unavailable(f"nobody answers {message.subject()}; try again in a few seconds")
        copy = msgspec.json.decode(msgspec.json.encode(message), type=type(message))
        try:
            async with asyncio.timeout(timeout):
                reply = await service.handler(copy)
        except ChiselError as error:
            raise from_code(type(error).code, str(error)) from None
        except TimeoutError:
            raise Unavailable(f"{message.subject()} was not answered in {timeout:g} s; try again") from None
        except Exception:
            raise InternalError from None
        return msgspec.json.decode(msgspec.json.encode(reply), type=reply_type(type(message)))

    async def publish(self, message: Message) -> None:
        self._said.put_nowait(message)
        for listener in list(self._listeners):
            if listener.hears(message):
                await listener.handler(message)

    async def serve(self, request: type[Q], handler: Callable[[Q], Awaitable[Any]], **bound: str) -> _Entry:
        return _Entry(self._services, pattern(request, **bound), request, handler)

    async def subscribe(
        self, message: type[M], handler: Callable[[M], Awaitable[None]], **bound: str
    ) -> _Entry:
        return _Entry(self._listeners, pattern(message, **bound), message, handler)

    async def flush(self) -> None:
        await asyncio.sleep(0)

    async def said(self, kind: type[M]) -> M:
        """The next message published; fails unless it is a `kind`."""
        message = await self._said.get()
        assert isinstance(message, kind), f"expected a {kind.__name__}, heard {message}"
        return message

    def assert_silent(self) -> None:
        """Nothing was published that `said` has not returned."""
        assert self._said.empty(), f"also said: {self._said.get_nowait()}"
