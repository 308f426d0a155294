"""All attempts of this agent: started, recovered, found, forgotten."""

import asyncio
import contextlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from chisel_agent import journal
from chisel_agent.aftermath import lost, remove
from chisel_agent.attempt import Attempt
from chisel_agent.environment import own_environment
from chisel_agent.installer import end_builds
from chisel_agent.journal import Entry, Fate, Phase
from chisel_agent.launch import request_stop, write_exit
from chisel_agent.ports import Ports
from chisel_agent.sandbox import end_leftovers
from chisel_agent.services import Services
from chisel_agent.ship import append_tails
from chisel_agent.slots import NotFree, Slots
from chisel_shared.contract.ids import is_id
from chisel_shared.contract.messages import Assignment, AttemptRef
from chisel_shared.runtime.failpoints import failpoint
from chisel_shared.runtime.logs import Log

log = Log("chisel.agent.attempts")

_ARCHIVED_BY_THEN_SECONDS = 20.0
"""Storage takes a moment, and its word about it travels with a renewal."""
_KEEP_SPOOL_SECONDS = 14 * 86_400
"""As long as the output stream keeps its own copy: after that nobody will ask for a spool."""

_TOLD_CHARACTERS = 1000

_ASKED_AT_ONCE = 500
"""Of how many finished attempts one message speaks: a message may have a megabyte."""


class Attempts:
    def __init__(self, *, folder: Path, slots: Slots, ports: Ports, services: Services) -> None:
        self._folder = folder
        self._slots = slots
        self._ports = ports
        self._services = services
        self._all: dict[AttemptRef, Attempt] = {}
        self._running: dict[AttemptRef, asyncio.Task[None]] = {}
        self._archived: set[AttemptRef] = set()
        self._turn = 0
        self.on_freed: Callable[[], None] = lambda: None

    @property
    def held(self) -> list[AttemptRef]:
        return [attempt.ref for attempt in self._all.values() if attempt.held]

    @property
    def finished(self) -> list[AttemptRef]:
        return [attempt.ref for attempt in self._all.values() if attempt.finished]

    def finished_in_turn(self) -> list[AttemptRef]:
        """Of those that are `finished` as many as fit in a message, others each time."""
        found = self.finished
        start = self._turn if self._turn < len(found) else 0
        self._turn = start + _ASKED_AT_ONCE
        return found[start : self._turn]

    @property
    def withheld(self) -> tuple[int, str]:
        """How many GPUs, besides those of `held`, are given to nobody because of what an ended job left; and
        what that is, of held ones too."""
        stuck = [attempt for attempt in self._all.values() if attempt.entry.withheld]
        told = [
            f"GPU {', '.join(map(str, attempt.entry.gpus))} after job {attempt.ref.job_id}:"
            f" {attempt.entry.withheld}"
            for attempt in stuck
        ]
        count = sum(len(attempt.entry.gpus) for attempt in stuck if not attempt.held)
        return count, "; ".join(told)[:_TOLD_CHARACTERS]

    def get(self, ref: AttemptRef) -> Attempt | None:
        return self._all.get(ref)

    def ring(self, name: str) -> None:
        """The shim of the folder `name` has news."""
        ref = journal.ref_of(name)
        if ref is not None and (attempt := self._all.get(ref)):
            attempt.ring()

    def start(self, assignment: Assignment, *, claimed_at: float, tasks: asyncio.TaskGroup) -> None:
        """Take on an assignment: it has GPUs and a folder when this returns. The same assignment again
        changes nothing, and neither does one that fails."""
        ref = AttemptRef(job_id=assignment.job_id, attempt=assignment.attempt)
        if ref in self._all:
            return
        if not is_id(assignment.job_id):
            raise ValueError("a job id has a form that is never given out")
        folder = self._folder / journal.folder_name(ref)
        with contextlib.ExitStack() as undo:
            gpus = self._slots.allocate(ref, assignment.gpu_count)
            undo.callback(self._slots.release, ref)
            port = self._ports.take()
            undo.callback(self._ports.release, port)
            entry = Entry(
                phase=Phase.PREPARING,
                assignment=assignment,
                gpus=gpus,
                master_port=port,
                claimed_at=claimed_at,
            )
            shutil.rmtree(folder, ignore_errors=True)
            undo.callback(shutil.rmtree, folder, ignore_errors=True)
            folder.mkdir(mode=0o700)
            journal.write(folder, entry)
            failpoint("claim.journaled")
            undo.pop_all()
        log.info("claimed", job_id=ref.job_id, attempt=ref.attempt, gpus=gpus)
        self._begin(folder, entry, None, tasks)

    def recover(self, tasks: asyncio.TaskGroup) -> list[tuple[Path, Entry | None]]:
        """Go on with what an earlier agent left; returns what is to be forgotten."""
        forgotten: list[tuple[Path, Entry | None]] = []
        for folder, entry in journal.recover(self._folder):
            fate = journal.fate(folder, entry) if entry is not None else Fate.NOTHING
            log.info("recovered", folder=folder.name, fate=fate)
            if entry is None or fate is Fate.NOTHING:
                forgotten.append((folder, entry))
                continue
            self._go_on(folder, entry, fate, tasks)
        return forgotten

    def _go_on(self, folder: Path, entry: Entry, fate: Fate, tasks: asyncio.TaskGroup) -> None:
        if fate is not Fate.FINISHED or entry.settling:
            try:
                self._slots.adopt(entry.ref, entry.gpus)
            except NotFree as error:
                log.error("gpus_promised_twice", job_id=entry.ref.job_id, error=str(error))
            self._ports.adopt(entry.master_port)
        if fate is Fate.DROPPED:
            request_stop(folder, "gone", at_once=True)
        self._begin(folder, entry, fate, tasks)

    async def forget(self, forgotten: list[tuple[Path, Entry | None]], tasks: asyncio.TaskGroup) -> None:
        """End whatever is left of these, and remove them. What cannot be ended is still held."""
        for folder, entry in forgotten:
            ref = journal.ref_of(folder.name)
            if ref is not None:
                end_builds(own_environment(folder))
                left = await asyncio.to_thread(
                    end_leftovers, folder, ref, within_seconds=self._services.stuck_seconds
                )
                if left and entry is not None:
                    write_exit(folder, lost(left, omitted=await append_tails(folder)))
                    self._go_on(folder, entry, Fate.ENDED, tasks)
                    continue
            await asyncio.to_thread(remove, folder)

    def _begin(self, folder: Path, entry: Entry, fate: Fate | None, tasks: asyncio.TaskGroup) -> None:
        attempt = Attempt(folder=folder, entry=entry, services=self._services, on_released=self._released)
        self._all[entry.ref] = attempt
        task = tasks.create_task(attempt.run(fate), name=f"attempt {folder.name}")
        self._running[entry.ref] = task
        task.add_done_callback(lambda _: self._over(entry.ref))

    def _released(self, attempt: Attempt) -> None:
        self._slots.release(attempt.ref)
        self._ports.release(attempt.entry.master_port)
        self.on_freed()

    def _over(self, ref: AttemptRef) -> None:
        """Its task has ended: nothing more is written in its folder."""
        self._running.pop(ref, None)
        attempt = self._all.get(ref)
        if attempt is not None and attempt.entry.phase is Phase.DROPPED:
            del self._all[ref]
        elif ref in self._archived:
            self._remove(ref)

    def archived(self, ref: AttemptRef) -> None:
        """Storage has the output: the spool goes, as soon as nothing else is to do."""
        if ref in self._all:
            self._archived.add(ref)
            if ref not in self._running:
                self._remove(ref)

    async def ship_again(self) -> None:
        """Fill the output stream again where it lost what was reported as stored but not yet archived.

        An attempt that ended moments ago is left alone: its archiving may just have purged the stream.
        """
        before = time.time() - _ARCHIVED_BY_THEN_SECONDS
        for ref in self.finished:
            attempt = self._all.get(ref)
            if attempt is None or ref in self._running or ref in self._archived:
                continue
            if attempt.entry.finished_at < before:
                await attempt.ship_again()

    def drop_ancient(self) -> None:
        """A spool that nobody archived in all that time is nobody's."""
        for ref in self.finished:
            if self._all[ref].entry.finished_at < time.time() - _KEEP_SPOOL_SECONDS:
                self.archived(ref)

    def _remove(self, ref: AttemptRef) -> None:
        self._archived.discard(ref)
        attempt = self._all.pop(ref, None)
        if attempt is not None and attempt.finished:
            failpoint("archive.dropping")
            shutil.rmtree(self._folder / journal.folder_name(ref), ignore_errors=True)

    async def hand_back(self) -> bool:
        """Give up what no shim holds yet, as nobody would go on with it. True when there was any."""
        ending = [task for ref, task in self._running.items() if self._all[ref].unstarted]
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)
        # Only now is it certain: a launch may have been quicker than the word to end it.
        refs = [ref for ref, attempt in self._all.items() if attempt.unstarted]
        for ref in refs:
            del self._all[ref]
            await asyncio.to_thread(
                shutil.rmtree, self._folder / journal.folder_name(ref), ignore_errors=True
            )
            log.info("handed_back", job_id=ref.job_id, attempt=ref.attempt)
        return bool(refs)

    async def over(self) -> None:
        """Return when no job runs, and everything of those that did is told and stored."""
        while self._running:
            await asyncio.wait(self._running.values())

    async def reported(self) -> None:
        """Return when every attempt that has ended is known to the scheduler."""
        while any(attempt.reporting for attempt in self._all.values()):  # noqa: ASYNC110 - bounded, at the end
            await asyncio.sleep(0.02)
