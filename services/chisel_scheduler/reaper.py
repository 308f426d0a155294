"""The reaper: re-says what is still true and acts on silence. Everything it does is idempotent."""

from collections.abc import Callable
from datetime import datetime, timedelta

from chisel_scheduler.health import Health
from chisel_scheduler.settings import SchedulerSettings
from chisel_scheduler.store.agents import Agents
from chisel_scheduler.store.archive import Archive, Overdue
from chisel_scheduler.store.attempts import Attempts
from chisel_scheduler.store.cordons import Cordons
from chisel_scheduler.store.jobs import Jobs
from chisel_shared.contract.errors import Unavailable
from chisel_shared.contract.job import EndReason, JobView
from chisel_shared.contract.messages import Wake
from chisel_shared.runtime.bus import Bus
from chisel_shared.runtime.db import Database
from chisel_shared.runtime.logs import Log

log = Log("chisel.scheduler.reaper")

_AT_ONCE = 200
"""Attempts declared lost in one round; the rest waits for the next."""


class Reaper:
    """One round at a time; `run_once(now)` is all there is."""

    def __init__(
        self,
        *,
        settings: SchedulerSettings,
        bus: Bus,
        database: Database,
        jobs: Jobs,
        agents: Agents,
        attempts: Attempts,
        archive: Archive,
        cordons: Cordons,
        said: Callable[[JobView], None],
        evicted: Callable[[JobView], None],
    ) -> None:
        """`said` hears of every job the reaper changed, `evicted` of those that a drain ends."""
        self._settings, self._bus, self._database = settings, bus, database
        self._jobs, self._agents, self._attempts, self._archive = jobs, agents, attempts, archive
        self._cordons, self._said, self._evicted = cordons, said, evicted
        self._health = Health(longest_pause=timedelta(seconds=3 * settings.reap_seconds + 10))

    async def run_once(self, now: datetime) -> None:
        """Heal whatever needs healing at `now`."""
        try:
            await self._bus.flush()
            await self._database.ping()
        except Unavailable as error:
            self._health.observe(now, in_touch=False)
            log.warning("out_of_touch", error=str(error))
            return
        self._health.observe(now, in_touch=True)
        await self._note_silence(now)
        await self._expire_leases(now)
        await self._declare_gone(now)
        await self._end_drains(now)
        for pool in await self._jobs.pools_with_queue():
            await self._bus.publish(Wake(pool=pool))

    async def _note_silence(self, now: datetime) -> None:
        unreachable = self._health.silent_before(now, self._settings.unreachable_seconds)
        if unreachable is None:
            return
        await self._agents.note_silence(
            unreachable_before=unreachable,
            offline_before=now - timedelta(seconds=self._settings.lease_seconds),
            forget_before=now - timedelta(seconds=self._settings.forget_seconds),
        )
        for agent_id in await self._agents.silent_with_jobs():
            log.warning("agent_unreachable", agent_id=agent_id)
            for job in await self._attempts.flag_unreachable(agent_id, now=now):
                self._said(job)

    async def _expire_leases(self, now: datetime) -> None:
        """Only jobs that may run again: their agent has ended them by now, or is gone with them."""
        before = now - timedelta(seconds=self._settings.lease_grace_seconds)
        heard = self._health.in_touch(now)
        for overdue in await self._archive.expired(lease_before=before, longest=heard, limit=_AT_ONCE):
            await self._lose(overdue, EndReason.LEASE_EXPIRED, now, expired_before=before)

    async def _declare_gone(self, now: datetime) -> None:
        before = self._health.silent_before(now, self._settings.gone_seconds)
        if before is None:
            return
        expired = now - timedelta(seconds=self._settings.lease_grace_seconds)
        for overdue in await self._archive.gone(seen_before=before, lease_before=expired, limit=_AT_ONCE):
            await self._lose(overdue, EndReason.AGENT_LOST, now, seen_before=before)

    async def _end_drains(self, now: datetime) -> None:
        for agent_id in await self._cordons.due(now):
            jobs = await self._cordons.evict(agent_id, now=now)
            log.info("drain_deadline_over", agent_id=agent_id, jobs=len(jobs))
            for job in jobs:
                self._evicted(job)

    async def _lose(
        self,
        overdue: Overdue,
        reason: EndReason,
        now: datetime,
        *,
        expired_before: datetime | None = None,
        seen_before: datetime | None = None,
    ) -> None:
        job = await self._attempts.lose(
            overdue.ref,
            overdue.agent_id,
            reason,
            expired_before=expired_before,
            seen_before=seen_before,
            now=now,
        )
        if job is not None:
            self._said(job)
