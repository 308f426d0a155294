"""The life of one attempt: prepared, launched, watched, shipped, reported, kept until archived.

Every step leaves its mark on disk before the next, so that another agent goes on where this one was
killed (`journal.fate`). Ending the job and ending this object are different things: `stop` and
`drop` end the job; cancelling `run` leaves it to its shim.
"""

import asyncio
import contextlib
import shutil
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from chisel_agent import journal, sandbox
from chisel_agent.aftermath import Aftermath, lost, may_repeat, remove
from chisel_agent.environment import leave_environment
from chisel_agent.fence import lease_end
from chisel_agent.files import JobFiles, job_end
from chisel_agent.full_disk import unless_full
from chisel_agent.journal import Entry, Fate, Phase
from chisel_agent.launch import (
    Exit,
    is_running,
    make_spools,
    read_exit,
    request_stop,
    write_exit,
    write_lease,
    write_plan,
)
from chisel_agent.preparation import failure
from chisel_agent.services import Services
from chisel_agent.ship import OutputShipping, append_tails
from chisel_shared.contract.errors import ChiselError, Stale
from chisel_shared.contract.job import EndReason, JobEnd, JobState
from chisel_shared.contract.messages import AttemptRef
from chisel_shared.contract.stops import SIGNALS, Stop
from chisel_shared.runtime.disk import no_space
from chisel_shared.runtime.failpoints import failpoint
from chisel_shared.runtime.logs import Log, bound

T = TypeVar("T")

log = Log("chisel.agent.attempt")

GONE = "gone"
_POLL_SECONDS = 1.0
"""A lost doorbell, or a killed shim, is noticed this late."""
_LAUNCHES = 3
_AGAIN_SECONDS = 1.0


class Attempt:
    def __init__(
        self, *, folder: Path, entry: Entry, services: Services, on_released: Callable[["Attempt"], None]
    ) -> None:
        self.entry = entry
        self._folder = folder
        self._services = services
        self._on_released = on_released
        self._rung = asyncio.Event()
        self._stop = asyncio.Event()
        self._stopped_by = ""
        self._gone = asyncio.Event()
        self._ran = False
        self._accepted = asyncio.Event()
        self._ran_or_ended = asyncio.Event()
        self._ended = False
        self._failed: Exit | None = None
        self._released = False
        self._launches = 1
        self._shipping = OutputShipping(
            streams=services.streams, agent_id=services.agent_id, ref=entry.ref, folder=folder
        )
        self._files = JobFiles(
            store=services.gateway,
            reports=services.storage,
            ref=entry.ref,
            folder=folder,
            cap=services.cap,
            wait_seconds=services.files_wait_seconds,
            reserve_bytes=services.reserve_bytes,
        )
        self._aftermath = Aftermath(
            folder=folder,
            ref=entry.ref,
            gpus=entry.gpus,
            probe=services.gpus,
            stuck_seconds=services.stuck_seconds,
            withhold=self._withhold,
        )

    @property
    def ref(self) -> AttemptRef:
        return self.entry.ref

    @property
    def held(self) -> bool:
        """The scheduler counts on us for it."""
        return self.entry.phase in (Phase.PREPARING, Phase.LAUNCHED) and not self._gone.is_set()

    @property
    def finished(self) -> bool:
        return self.entry.phase is Phase.FINISHED

    @property
    def unstarted(self) -> bool:
        """Nothing of it would survive us: no shim, and no end to report."""
        return self.held and self.entry.phase is Phase.PREPARING and not self._ended

    @property
    def reporting(self) -> bool:
        """It has ended and the scheduler does not know yet."""
        return self.held and self._ended

    def ring(self) -> None:
        """Its shim has news."""
        self._rung.set()
        self._shipping.ring()

    def stop(self, how: Stop) -> None:
        """Somebody cancelled it. Whatever phase it is in, it ends soon, unless it has ended. Of several
        wishes the first counts, but KILL hastens any."""
        hastened = how.signal == "KILL" and self._stopped_by != "KILL"
        if not self.held or self._ended or (self._stop.is_set() and not hastened):
            return
        log.info("stop_requested", job_id=self.ref.job_id, attempt=self.ref.attempt, signal=how.signal)
        at_once, number, grace = how.signal == "KILL", SIGNALS[how.signal], how.grace_seconds
        ask = partial(request_stop, at_once=at_once, signal=number, grace_seconds=grace)
        if self.entry.phase is Phase.LAUNCHED and not unless_full(ask, self._folder, EndReason.USER):
            return  # every renewal asks again
        self._stopped_by = how.signal
        self._stop.set()

    def drop(self) -> None:
        """It is not ours any more: end it at once and tell nobody. One that has ended hears so in answer to
        its end, and keeps its output until then."""
        if self.held and not self._ended:
            log.warning("attempt_dropped", job_id=self.ref.job_id, attempt=self.ref.attempt)
            launched = self.entry.phase is Phase.LAUNCHED
            self._note(phase=Phase.DROPPED)
            self._gone.set()
            if launched:
                unless_full(partial(request_stop, at_once=True), self._folder, GONE)

    def renewed(self, sent_at: float) -> None:
        """The scheduler knew it as ours when it answered what was sent at `sent_at`."""
        assignment = self.entry.assignment
        if assignment.spec.retries > 0 and self.held and not self._ended:
            unless_full(write_lease, self._folder, lease_end(sent_at, assignment.lease_seconds))

    async def ship_again(self) -> None:
        """Make sure that the output of this finished attempt is in the stream, whatever befell that."""
        try:
            self._shipping.finish()
            await self._shipping.run()
        except* FileNotFoundError:
            log.debug("spool_gone", job_id=self.ref.job_id)  # archived and dropped meanwhile

    def _write(self, **changes: object) -> None:
        """Journal what must be known to the next agent before anything else is done."""
        entry = msgspec.structs.replace(self.entry, **changes)
        journal.write(self._folder, entry)
        self.entry = entry

    def _note(self, **changes: object) -> None:
        """Journal what the scheduler knows, and so would tell the next agent."""
        self.entry = msgspec.structs.replace(self.entry, **changes)
        unless_full(journal.write, self._folder, self.entry)

    def _fail(self, end: Exit) -> None:
        """It ends without a shim. With no room to record that, the next agent finds that it never began."""
        self._failed = end
        unless_full(write_exit, self._folder, end)

    async def run(self, fate: Fate | None) -> None:
        """Live from the beginning (None), or from where an earlier agent was killed."""
        with bound(job_id=self.ref.job_id, attempt=self.ref.attempt):
            while True:
                try:
                    await self._live_or_vanish(fate)
                    return
                except* Exception as errors:
                    # One attempt's defect must not cost the others, nor this one its result: go on
                    # as a new agent would, from what lies on disk.
                    defects = errors.split(lambda error: isinstance(error, OSError) and no_space(error))[1]
                    say = log.error if defects else log.warning
                    say("attempt_failed", error=repr(errors.exceptions))
                await asyncio.sleep(_AGAIN_SECONDS)
                fate = journal.fate(self._folder, self.entry)
                if fate is Fate.NOTHING and self.entry.phase is Phase.PREPARING:
                    self._fail(Exit(reason=EndReason.START, detail="the agent failed"))
                    fate = Fate.ENDED

    async def _live_or_vanish(self, fate: Fate | None) -> None:
        if fate is Fate.FINISHED:
            await self._settle()
            return
        async with asyncio.TaskGroup() as tasks:
            living = tasks.create_task(self._live(fate), name="live")
            going = tasks.create_task(self._gone.wait(), name="gone")
            await asyncio.wait({living, going}, return_when=asyncio.FIRST_COMPLETED)
            living.cancel()
            going.cancel()
        if self.entry.phase is Phase.DROPPED:
            await self._vanish()

    async def _live(self, fate: Fate | None) -> None:
        async with asyncio.TaskGroup() as tasks:
            progress = tasks.create_task(self._report_progress(), name="progress")
            if fate is None:
                await self._prepare_and_launch()
            if self._failed is not None or (self._folder / "exit").exists():
                make_spools(self._folder)  # it may have ended before it had any
            shipping = tasks.create_task(self._shipping.run(), name="ship")
            watching = tasks.create_task(self._files.traces.watch(), name="traces")
            exit_ = await self._await_exit()
            self._ended = True
            self._shipping.finish()
            watching.cancel()
            await self._files.at_the_end(exit_)
            sums = await shipping
            await progress
            failpoint("done.stored")
            end = job_end(exit_, self._shipping.shipped, sums, self._files)
            if may_repeat(end, self.entry.assignment.spec):
                await self._aftermath.gone()
            await self._report_end(end)
        await self._settle()

    async def _settle(self) -> None:
        """The job is over for everybody: give back what it held, and clear away what it left."""
        async with asyncio.TaskGroup() as tasks:
            if self.entry.settling:
                tasks.create_task(self._give_back(), name="give back")
            tasks.create_task(self._clear_away(), name="clear away")

    async def _give_back(self) -> None:
        await self._aftermath.over()
        self._release()
        self._note(settling=False, withheld="")

    def _withhold(self, reason: str) -> None:
        if bool(reason) is not bool(self.entry.withheld):  # who is left changes by the second
            log.warning("gpus_withheld", gpus=self.entry.gpus, reason=reason)
            self._note(withheld=reason)

    async def _clear_away(self) -> None:
        """What is left is ours alone."""
        if await asyncio.to_thread(sandbox.detach_mounts, self._folder):
            await asyncio.to_thread(shutil.rmtree, self._folder / "work", ignore_errors=True)
        await asyncio.to_thread(leave_environment, self._folder)
        await self._files.upload_all(read_exit(self._folder))

    # Until it runs

    async def _prepare_and_launch(self) -> None:
        """Afterwards there is a shim, or an end on record."""
        failed = await self._try_to_launch()
        if failed is not None:
            self._fail(failed)

    async def _try_to_launch(self) -> Exit | None:
        entry = self.entry
        try:
            plan = await self._unless_stopped(
                self._services.preparation.prepare(
                    entry.assignment, self._folder, gpus=entry.gpus, master_port=entry.master_port
                )
            )
            # Only now: whatever installs requirements is to see none of them.
            secrets = await self._unless_stopped(self._services.secrets.of(entry.assignment))
            # A renewal that was under way when the job was claimed, and is read late, takes it back as one
            # that never arrived. User code runs only once that cannot be.
            await self._unless_stopped(self._accepted.wait())
            if plan is None or secrets is None or self._stop.is_set():
                return Exit(reason=EndReason.USER)
            make_spools(self._folder)
            write_plan(self._folder, plan)
            if entry.assignment.spec.retries > 0 and not (self._folder / "lease").exists():
                write_lease(self._folder, lease_end(entry.claimed_at, entry.assignment.lease_seconds))
            failpoint("launch.prepared")
            self._write(phase=Phase.LAUNCHED)
            failpoint("launch.recorded")
            self._services.launcher.launch(self._folder, secrets)
            failpoint("launch.launched")
        except Exception as error:
            return failure(error)
        log.info("launched", gpus=entry.gpus)
        return None

    async def _unless_stopped(self, work: Coroutine[None, None, T]) -> T | None:
        """What `work` returns or raises; None, with `work` cancelled, when a stop comes first."""
        working = asyncio.create_task(work, name="prepare")
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            working.cancel()
            stopping.cancel()
            await asyncio.gather(working, stopping, return_exceptions=True)

    async def _report_progress(self) -> None:
        """In order, beside the work: the scheduler accepts RUNNING only after PREPARING."""
        try:
            if self.entry.reported is None:
                await self._report(JobState.PREPARING)
            self._accepted.set()
            await self._ran_or_ended.wait()
            if self._ran and self.entry.reported is JobState.PREPARING:
                await self._report(JobState.RUNNING)
        except Stale as error:
            log.info("progress_stale", error=str(error))
            self.drop()

    async def _report(self, state: JobState) -> None:
        answer = await self._services.scheduler.progress(self.ref, state)
        self._note(reported=state)
        if answer.cancel_requested:
            self.stop(answer.stop)

    # Until it has ended

    async def _await_exit(self) -> Exit:
        while True:
            self._rung.clear()
            exit_ = read_exit(self._folder) or self._failed
            if exit_ is None or exit_.reason != EndReason.START:
                self._ran = (self._folder / "running").exists()
            if self._ran or exit_ is not None:
                self._ran_or_ended.set()
            if exit_ is not None:
                return exit_
            try:
                async with asyncio.timeout(_POLL_SECONDS):
                    await self._rung.wait()
            except TimeoutError:
                await self._check_shim()

    async def _check_shim(self) -> None:
        """A shim that was killed cannot say how it ended: then we do. One that was stopped goes on."""
        if is_running(self._folder):
            sandbox.wake_shim(self._folder)
            return
        if read_exit(self._folder) is not None:
            return
        if not (self._folder / "running").exists() and self._launches < _LAUNCHES:
            log.warning("shim_killed_before_its_job")
            self._launches += 1
            await self._launch_again()
            return
        log.warning("shim_killed")
        wait = self._services.stuck_seconds
        left = await asyncio.to_thread(sandbox.end_leftovers, self._folder, self.ref, within_seconds=wait)
        write_exit(self._folder, lost(left, omitted=await append_tails(self._folder)))

    async def _launch_again(self) -> None:
        try:
            secrets = await self._services.secrets.of(self.entry.assignment)
        except ChiselError as error:
            self._fail(failure(error))
            return
        self._services.launcher.launch(self._folder, secrets)

    # Until everybody knows

    async def _report_end(self, end: JobEnd) -> None:
        try:
            await self._services.scheduler.done(self.ref, end)
        except Stale as error:
            log.info("end_decided_without_us", error=str(error))
        failpoint("done.answered")
        log.info("finished", reason=end.reason, exit_code=end.exit_code, signal=end.signal)
        self._note(phase=Phase.FINISHED, finished_at=time.time(), settling=True)
        failpoint("done.recorded")

    async def _vanish(self) -> None:
        """Make sure that nothing of it runs, then forget it."""
        while is_running(self._folder):
            self._rung.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await self._rung.wait()
            request_stop(self._folder, GONE, at_once=True)
            if (exit_ := read_exit(self._folder)) is not None and exit_.survivors:
                break
        await self._aftermath.over()
        await asyncio.to_thread(remove, self._folder)
        self._release()

    def _release(self) -> None:
        if not self._released:
            self._released = True
            self._on_released(self)
