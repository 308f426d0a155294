"""Ships what a job writes: one `Shipper` per stream, and the word back to the shim how far they are."""

import asyncio
from pathlib import Path

from chisel_agent import shim_tail
from chisel_agent.full_disk import unless_full
from chisel_agent.launch import backlog_of, write_shipped
from chisel_shared.contract.ids import AgentId
from chisel_shared.contract.messages import AttemptRef
from chisel_shared.runtime.logs import Log
from chisel_shared.runtime.output import STREAMS, Shipper
from chisel_shared.runtime.streams import Streams, attempt_subject

log = Log("chisel.agent.ship")

_TELL_BYTES = 16 << 20
"""The shim counts backlog in hundreds of MiB; telling it more finely would only cost writes."""
_BEHIND_POLL_SECONDS = 0.05


async def append_tails(folder: Path) -> dict[str, int]:
    """Put the end of long output where it is shipped from, as the killed shim would have; how many bytes
    of each stream are left out. Again it changes nothing, and it goes on where it was killed."""
    for name in STREAMS:
        for _ in range(shim_tail.TRIES):
            try:
                await asyncio.to_thread(shim_tail.append, str(folder / name))
                break
            except OSError as error:
                log.warning("tail_not_appended", folder=folder.name, stream=name, error=repr(error))
                await asyncio.sleep(1.0)
    return {name: shim_tail.left_out(str(folder / name)) for name in STREAMS}


class OutputShipping:
    """Both streams of one attempt, from their spools into `OUT`."""

    def __init__(self, *, streams: Streams, agent_id: AgentId, ref: AttemptRef, folder: Path) -> None:
        self._folder = folder
        self._shippers = {
            name: Shipper(
                streams=streams,
                subject=attempt_subject(agent_id, ref.job_id, ref.attempt, name),
                spool=folder / name,
                is_capped=(folder / f"{name}{shim_tail.SUFFIX}").exists,
            )
            for name in STREAMS
        }
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """The spools may have grown."""
        for shipper in self._shippers.values():
            shipper.nudge()
        self._rung.set()

    @property
    def shipped(self) -> dict[str, int]:
        """How much of each stream is stored."""
        return {name: shipper.shipped_bytes for name, shipper in self._shippers.items()}

    def finish(self) -> None:
        """Nothing will be written any more: what lies in the spools is all."""
        for name, shipper in self._shippers.items():
            shipper.finish((self._folder / name).stat().st_size)

    async def run(self) -> dict[str, str]:
        """Ship until everything announced by `finish` is stored; returns the sha256 of each stream,
        "" where the spool no longer tells."""
        async with asyncio.TaskGroup() as tasks:
            telling = tasks.create_task(self._tell(), name="tell shipped")
            shipping = {
                name: tasks.create_task(shipper.run(), name=f"ship {name}")
                for name, shipper in self._shippers.items()
            }
            await asyncio.wait(shipping.values())
            telling.cancel()
        return {name: task.result() for name, task in shipping.items()}

    async def _tell(self) -> None:
        """Let a job that was held back for its backlog go on."""
        told = 0
        # A job that has to wait is two steps ahead of what it was told: then one of the two is seen below.
        step = max(1, min(_TELL_BYTES, backlog_of(self._folder) // 2))
        while True:
            self._rung.clear()
            offsets = [shipper.shipped_bytes for shipper in self._shippers.values()]
            untold = sum(offsets) - told >= step
            if untold and unless_full(write_shipped, self._folder, *offsets):
                told = sum(offsets)
            size = sum((self._folder / name).stat().st_size for name in STREAMS)
            # A held back job writes nothing, so nothing rings: only looking finds out.
            behind = size - sum(offsets) > step or sum(offsets) - told >= step
            try:
                async with asyncio.timeout(_BEHIND_POLL_SECONDS if behind else None):
                    await self._rung.wait()
            except TimeoutError:
                continue
