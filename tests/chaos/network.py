"""Networks that break: TCP proxies of one's own thread, each with a link that can be cut, slowed or made
to swallow what is sent through it, in both directions or in one."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, Literal, TypeVar

T = TypeVar("T")
Mode = Literal["both", "up", "down"]

_PIECE_BYTES = 1 << 16
_PATIENCE_SECONDS = 10.0


class Link:
    """What lies between everybody who connects to `port` and the server at `server_port`.

    The methods may be called from any thread; what they ask for has happened when they return.
    """

    def __init__(self, network: "Network", server_port: int) -> None:
        self.port = 0
        self._network, self._server_port = network, server_port
        self._refusing = False
        self._delay = 0.0
        self._flows = {"up": asyncio.Event(), "down": asyncio.Event()}
        for flow in self._flows.values():
            flow.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.resets = 0
        """How many connections it has reset."""

    def cut(self) -> None:
        """Reset every connection, and each new one until `heal`."""

        async def work() -> None:
            self._refusing = True
            self._reset()

        self._network.run(work())

    def swallow(self, mode: Mode) -> None:
        """Let nothing through until `heal`: `up` from the clients, `down` from the server. Connections
        stay, and what is sent waits, as it does at a sender whose packets are dropped."""

        async def work() -> None:
            for direction, flow in self._flows.items():
                if mode in ("both", direction):
                    flow.clear()

        self._network.run(work())

    def slow(self, delay: float) -> None:
        """Let everything come so many seconds late until `heal`."""

        async def work() -> None:
            self._delay = delay

        self._network.run(work())

    def heal(self, *, reset: bool = False) -> None:
        """Be a good link again; with `reset`, for new connections only: the old ones were given up."""

        async def work() -> None:
            self._refusing, self._delay = False, 0.0
            if reset:
                self._reset()
            for flow in self._flows.values():
                flow.set()

        self._network.run(work())

    def _reset(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self.resets += len(self._writers) // 2

    async def open(self) -> None:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = int(self.server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = {writer}
        try:
            if self._refusing:
                return
            # A connection that is made into a hole looks made: its first packet has not come back yet.
            for flow in self._flows.values():
                await flow.wait()
            there_reader, there = await asyncio.open_connection("127.0.0.1", self._server_port)
            writers.add(there)
            self._writers |= writers
            await asyncio.gather(self._pass(reader, there, "up"), self._pass(there_reader, writer, "down"))
        except OSError:
            return  # nobody is there, or the link was cut
        finally:
            self._writers -= writers
            for one in writers:
                one.transport.abort()

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, way: str) -> None:
        while piece := await source.read(_PIECE_BYTES):
            if self._delay:
                await asyncio.sleep(self._delay)
            await self._flows[way].wait()
            target.write(piece)
            await target.drain()
        if target.can_write_eof():
            target.write_eof()


class Network:
    """All links of a campaign, on one thread: what else happens in this process must not slow them."""

    def __init__(self) -> None:
        self._links: list[Link] = []
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda loop, context: None)  # connections that break are its trade
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._thread.start()

    def link(self, server_port: int) -> Link:
        """A good link to a server of this machine, which need not run yet."""
        made = Link(self, server_port)
        self.run(made.open())
        self._links.append(made)
        return made

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE_SECONDS)

    def close(self) -> None:
        """End every link."""

        async def cancel() -> None:
            for link in self._links:
                link.server.close()
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            for _ in range(3):
                await asyncio.sleep(0)  # a transport takes a few rounds of its loop to be gone

        self.run(cancel())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE_SECONDS)
        self._loop.close()
