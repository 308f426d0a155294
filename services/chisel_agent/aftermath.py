"""What must be true before the GPUs of an attempt go to another: its processes have gone, its GPUs are empty.

Both are true at once as a rule. What was killed and stays waits for something in the kernel: a driver that
hangs, a file system that does not answer. Then the GPUs are withheld, and it is said why, until the kernel
lets go.
"""

import asyncio
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from chisel_agent import sandbox
from chisel_agent.gpus import GpuProbe
from chisel_agent.launch import Exit, boottime, is_running, read_exit
from chisel_agent.shim_system import describe, started
from chisel_shared.contract.job import EndReason, JobEnd, JobSpec
from chisel_shared.contract.messages import AttemptRef
from chisel_shared.contract.retries import is_cause
from chisel_shared.runtime.logs import Log

log = Log("chisel.agent.aftermath")

_FIRST_LOOK_SECONDS, _LAST_LOOK_SECONDS = 0.005, 1.0


def may_repeat(end: JobEnd, spec: JobSpec) -> bool:
    """Whether the scheduler may start the job again once it hears of `end`: it must not hear of it as long
    as a process of this attempt lives. A wish to end it may be a drain, after which it runs elsewhere."""
    return spec.retries > 0 and (end.reason is EndReason.USER or is_cause(end, spec.retry_on))


def occupied(found: Mapping[int, frozenset[int] | None], *, others: frozenset[int]) -> dict[int, str]:
    """Which GPUs cannot be given away after a job, and why. `found` has the processes that the driver knows
    on each of the job's GPUs, None for one that does not answer; `others` are those of them that live and
    are not the job's. What the driver names and nobody else knows was the job's: its memory is not free."""
    reasons = {}
    for index, pids in sorted(found.items()):
        if pids is None:
            reasons[index] = f"GPU {index} does not answer its driver"
        elif left := sorted(pids - others):
            reasons[index] = f"GPU {index} still has {describe(left)}"
    return reasons


class Aftermath:
    """Of one attempt. `withhold` is called with the reason when its GPUs cannot be given away in time."""

    def __init__(
        self,
        *,
        folder: Path,
        ref: AttemptRef,
        gpus: tuple[int, ...],
        probe: GpuProbe,
        stuck_seconds: float,
        withhold: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._ref = ref
        self._gpus = gpus
        self._probe = probe
        self._stuck_seconds = stuck_seconds
        self._withhold = withhold

    async def over(self) -> None:
        """Return when the GPUs may go to another."""
        await self.gone()
        await self._until_empty()

    async def gone(self) -> None:
        """Return when no process of the attempt lives, and no shim of its own."""
        until = boottime() + self._stuck_seconds
        delay = _FIRST_LOOK_SECONDS
        while problem := await asyncio.to_thread(self._alive):
            # With an end on record the shim has waited already.
            if boottime() > until or self._survivors():
                self._withhold(problem)
            await asyncio.sleep(delay)
            delay = min(_LAST_LOOK_SECONDS, delay * 2)

    def _survivors(self) -> tuple[str, ...]:
        exit_ = read_exit(self._folder)
        return exit_.survivors if exit_ is not None else ()

    def _alive(self) -> str:
        """Who lives, in words. What no shim looks after any more is killed, again if need be."""
        exit_ = read_exit(self._folder)
        if exit_ is not None and not exit_.survivors:
            return ""  # whoever wrote that has seen to it
        survivors = exit_.survivors if exit_ is not None else ()
        if not is_running(self._folder):
            wait = 0.0 if survivors else self._stuck_seconds
            left = sandbox.end_leftovers(self._folder, self._ref, within_seconds=wait, survivors=survivors)
        elif survivors:
            left = sandbox.Remains(tuple(sandbox.remaining(self._folder, self._ref, survivors)))
        else:
            return "the process that ends it has not gone"
        return str(left) if left else ""

    async def _until_empty(self) -> None:
        until = boottime() + self._stuck_seconds
        delay = _FIRST_LOOK_SECONDS
        while problems := await asyncio.to_thread(self._occupied):
            if boottime() > until:
                self._withhold("; ".join(problems.values()))
            await asyncio.sleep(delay)
            delay = min(_LAST_LOOK_SECONDS, delay * 2)

    def _occupied(self) -> dict[int, str]:
        found = self._probe.processes(self._gpus)
        pids = {pid for known in found.values() for pid in known or ()}
        others = {pid for pid in pids if started(pid) and not sandbox.belongs(pid, self._folder, self._ref)}
        return occupied(found, others=frozenset(others))


def lost(left: sandbox.Remains, *, omitted: Mapping[str, int]) -> Exit:
    """The end that a killed shim could not write; `left` is what could not be ended, `omitted` what the
    spools lack of its output."""
    detail = "the process that watched over it was killed"
    if left:
        detail += f"\n{left}; its GPUs are withheld until they have"
    return Exit(
        reason=EndReason.AGENT_LOST,
        detail=detail,
        survivors=left.names(),
        stdout_omitted=omitted["stdout"],
        stderr_omitted=omitted["stderr"],
    )


def remove(folder: Path) -> None:
    """Remove an attempt's folder, and nothing that a job mounted there. Blocks."""
    if sandbox.detach_mounts(folder):
        shutil.rmtree(folder, ignore_errors=True)
