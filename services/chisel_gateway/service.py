"""The gateway put together."""

import asyncio
from contextlib import AsyncExitStack
from importlib.metadata import PackageNotFoundError, version

from aiohttp import WSCloseCode, web

from chisel_gateway.accounts import AccountDoor
from chisel_gateway.agents import AgentDoor
from chisel_gateway.api import Api
from chisel_gateway.app import application
from chisel_gateway.feed import Feed
from chisel_gateway.follow import Following
from chisel_gateway.health import Readiness
from chisel_gateway.jobs import JobDesk
from chisel_gateway.openapi import document
from chisel_gateway.peers import Peers
from chisel_gateway.quotas import QuotaDoor
from chisel_gateway.routes import routes
from chisel_gateway.settings import Settings
from chisel_gateway.storage import StorageClient
from chisel_gateway.traces import TraceDoor
from chisel_gateway.web.door import Pages
from chisel_gateway.web.forms import Forms
from chisel_gateway.web.traces import TracePages
from chisel_shared import perfetto
from chisel_shared.runtime.bus import Bus, NatsBus, nats_connection
from chisel_shared.runtime.logs import Log
from chisel_shared.runtime.service import Service, serve
from chisel_shared.runtime.streams import Streams

log = Log("chisel.gateway")


class Gateway(Service):
    """Clients come back by themselves: a stop closes every socket with "going away"."""

    def __init__(self, *, bus: Bus, streams: Streams, storage: StorageClient, settings: Settings) -> None:
        self._feed = Feed(bus=bus, streams=streams)
        following = Following(bus=bus, streams=streams, feed=self._feed, storage=storage)
        desk = JobDesk(bus=bus)
        self._api = Api(
            bus=bus,
            desk=desk,
            following=following,
            storage=storage,
            readiness=Readiness(bus=bus, streams=streams, storage=storage),
            describe=lambda: description,
        )
        peers = Peers(proxies=settings.proxies, public_url=settings.public_url)
        accounts = AccountDoor(bus=bus, peers=peers)
        forms = Forms(public_url=settings.public_url)
        pages = Pages(bus=bus, forms=forms, peers=peers)
        agents = AgentDoor(bus=bus)
        traces = TraceDoor(bus=bus, desk=desk, storage=storage)
        copy = perfetto.find(settings.perfetto_dir)
        if settings.perfetto_dir and copy is None:
            log.warning("no_perfetto", folder=settings.perfetto_dir)
        trace_pages = TracePages(bus=bus, forms=forms, traces=traces, copy=copy)
        doors = (traces, accounts, agents, QuotaDoor(bus=bus), pages, trace_pages)
        table = (*routes(self._api), *(route for door in doors for route in door.routes()))
        description = document(table, version=_version())
        self._bus = bus
        self._settings = settings
        self._runner = web.AppRunner(
            application(routes=table, bus=bus),
            access_log=None,
            auto_decompress=False,
            shutdown_timeout=settings.drain_seconds,
        )
        self.url = ""

    async def run(self, ready: asyncio.Event) -> None:
        await self._feed.subscribe()
        await self._bus.flush()
        await self._runner.setup()
        await web.TCPSite(self._runner, self._settings.host, self._settings.port).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}" if ":" not in host else f"http://[{host}]:{port}"
        log.info("listening", url=self.url)
        ready.set()
        await self._feed.run()

    async def drain(self) -> None:
        for site in tuple(self._runner.sites):
            await site.stop()
        sockets = self._api.sockets()
        await asyncio.gather(*(socket.close(code=WSCloseCode.GOING_AWAY) for socket in sockets))
        await self._runner.cleanup()


def _version() -> str:
    try:
        return version("chisel-gpu")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"


async def build(settings: Settings, stack: AsyncExitStack) -> Service:
    access = {"user": settings.nats_user, "password": settings.nats_password}
    bus = await stack.enter_async_context(NatsBus.connect(settings.nats_url, name="gateway", **access))
    # Bulk has a connection of its own, or a request would wait behind megabytes of output.
    bulk = await stack.enter_async_context(
        nats_connection(settings.nats_url, name="gateway-output", **access)
    )
    storage = await stack.enter_async_context(
        StorageClient.connect(url=settings.storage_url, token=settings.storage_token)
    )
    return Gateway(bus=bus, streams=Streams(bulk), storage=storage, settings=settings)


def main() -> None:
    serve("gateway", Settings, build)
