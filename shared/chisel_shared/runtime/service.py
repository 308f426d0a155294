"""The life of a service: settings, build, ready, work, drain, close. `serve` is the only main.

Exit status: 0 asked to stop, 1 crashed, 2 bad settings.
"""

import asyncio
import contextlib
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TypeVar

from pydantic import ValidationError

from chisel_shared.runtime import failpoints
from chisel_shared.runtime.logs import Log, configure
from chisel_shared.runtime.settings import ServiceSettings

S = TypeVar("S", bound=ServiceSettings)
Build = Callable[[S, AsyncExitStack], Awaitable["Service"]]

log = Log("chisel.service")

_SAY_AGAIN_SECONDS = 60.0
"""Of a failure that goes on: an outage must not fill the disk with what is said about it."""


class Service(ABC):
    """One running service. `run` works until cancelled; `drain` makes the end graceful."""

    @abstractmethod
    async def run(self, ready: asyncio.Event) -> None:
        """Subscribe, flush, set `ready`, then work until cancelled."""

    @abstractmethod
    async def drain(self) -> None:
        """Take nothing new and finish what is in flight; cut off after `drain_seconds`."""


async def every(seconds: float, run_once: Callable[[], Awaitable[None]], *, log: Log, name: str) -> None:
    """Call `run_once` for ever, `seconds` apart. A failure is logged, one that goes on now and then only,
    and the next turn tries again: periodic work heals, so it must not die of what it heals."""
    loop = asyncio.get_running_loop()
    said, say_again_at = "", 0.0
    while True:
        try:
            await run_once()
            said = ""
        except Exception as error:
            if repr(error) != said or loop.time() >= say_again_at:
                said, say_again_at = repr(error), loop.time() + _SAY_AGAIN_SECONDS
                log.warning("periodic_work_failed", work=name, error=said)
        await asyncio.sleep(seconds)


async def supervise(service: Service, stop: asyncio.Event, *, drain_seconds: float) -> None:
    """Run `service` until `stop`, then drain and cancel it; a service that ends by itself has crashed."""
    ready = asyncio.Event()
    running = asyncio.create_task(service.run(ready), name="run")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    announcing = asyncio.create_task(_announce(ready), name="ready")
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
            raise RuntimeError("the service ended without being asked to")
        log.info("stopping")
        try:
            async with asyncio.timeout(drain_seconds):
                await service.drain()
        except TimeoutError:
            log.warning("drain_cut_off", seconds=drain_seconds)
    finally:
        for task in (running, stopping, announcing):
            task.cancel()
        await asyncio.gather(running, stopping, announcing, return_exceptions=True)


async def _announce(ready: asyncio.Event) -> None:
    await ready.wait()
    log.info("ready")


async def _run(settings: S, build: Build[S]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            log.warning("stop_forced")
            raise SystemExit(1)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    async with AsyncExitStack() as stack:
        building = asyncio.create_task(_build(settings, build, stack), name="build")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        await asyncio.wait({building, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not building.done():
            building.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await building
            return
        await supervise(building.result(), stop, drain_seconds=settings.stop_seconds)


async def _build(settings: S, build: Build[S], stack: AsyncExitStack) -> Service:
    return await build(settings, stack)


def serve(name: str, settings_type: type[S], build: Build[S]) -> None:
    """Be the service `name` until told to stop; never returns, exits the process."""
    try:
        settings = settings_type()
    except ValidationError as error:
        for problem in error.errors():
            variable = settings_type.model_config.get("env_prefix", "") + "_".join(map(str, problem["loc"]))
            sys.stderr.write(f"chisel {name}: {variable.upper()}: {problem['msg']}\n")
        sys.exit(2)
    configure(name, settings.log_level)
    failpoints.arm(settings.failpoint)
    try:
        asyncio.run(_run(settings, build))
    except Exception:
        log.error("crashed")
        sys.exit(1)
    log.info("stopped")
    sys.exit(0)
