"""The scheduler as a service: every handler decodes, decides, stores and says, in that order."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chisel_scheduler import bus_watch, validation
from chisel_scheduler.bus_watch import BusWatch
from chisel_scheduler.cordon_desk import CordonDesk
from chisel_scheduler.lifecycle import REACHED
from chisel_scheduler.outbox import Relay
from chisel_scheduler.quota_desk import QuotaDesk
from chisel_scheduler.reaper import Reaper
from chisel_scheduler.rules import PolicyRules
from chisel_scheduler.settings import SchedulerSettings
from chisel_scheduler.store.agents import Agents
from chisel_scheduler.store.archive import Archive
from chisel_scheduler.store.attempts import Attempts
from chisel_scheduler.store.claims import ClaimRules, Claims
from chisel_scheduler.store.cordons import Cordons
from chisel_scheduler.store.jobs import Jobs
from chisel_scheduler.store.queue import Queue
from chisel_scheduler.store.shares import Shares
from chisel_shared.contract import messages as m
from chisel_shared.contract.errors import BadRequest, ChiselError, Unavailable
from chisel_shared.contract.job import HELD, JobSpec, JobState, JobView, label
from chisel_shared.contract.stops import Stop
from chisel_shared.runtime.bus import Bus, NatsBus
from chisel_shared.runtime.db import Database, open_database
from chisel_shared.runtime.failpoints import failpoint
from chisel_shared.runtime.logs import Log
from chisel_shared.runtime.service import Service, every, serve
from chisel_shared.runtime.streams import Streams

log = Log("chisel.scheduler")

_CANCEL_SECONDS = 2.0
"""How long the fast way to cancel waits; the agent's next renewal is the sure way."""
_RETRY_SECONDS = 0.2

_ALIVE_SECONDS = 1.0
"""A process that has ended is known to have at once; one whose machine has, after this."""

Clock = Callable[[], datetime]


class Scheduler(Service):
    """Answers users through the gateway, agents directly, and storage."""

    def __init__(
        self, *, settings: SchedulerSettings, bus: Bus, streams: Streams, database: Database, clock: Clock
    ) -> None:
        self._settings, self._bus, self._clock = settings, bus, clock
        policy = PolicyRules(
            half_life_seconds=settings.half_life_seconds,
            reserve_after_seconds=settings.reserve_after_seconds,
        )
        self._jobs = Jobs(database=database, pool=settings.pool, rules=policy)
        self._queue = Queue(database=database, pool=settings.pool, rules=policy)
        self._agents = Agents(database=database)
        self._attempts = Attempts(database=database, rules=policy)
        self._archive = Archive(database=database)
        cordons = Cordons(database=database)
        shares = Shares(database=database, rules=policy)
        self._quota_desk = QuotaDesk(shares=shares, bus=bus, pool=settings.pool, clock=clock)
        self._cordon_desk = CordonDesk(cordons=cordons, bus=bus, clock=clock)
        rules = ClaimRules(
            lease=settings.lease_seconds,
            attentive=settings.renew_seconds + 2.0,
            patience=settings.patience_seconds,
            policy=policy,
        )
        self._claims = Claims(database=database, rules=rules)
        # Claims of one pool wait for one another in the database anyway; waiting here instead leaves
        # its connections to the others.
        self._one_claim = asyncio.Lock()
        self._relay = Relay(database=database, streams=streams)
        self._bus_watch = BusWatch(
            streams=streams, max_bytes=settings.stream_max_bytes, alarm=settings.bus_alarm_file
        )
        self.reaper = Reaper(
            settings=settings,
            bus=bus,
            database=database,
            jobs=self._jobs,
            agents=self._agents,
            attempts=self._attempts,
            archive=self._archive,
            cordons=cordons,
            said=self._changed,
            evicted=self._evicted,
        )
        self._tasks: asyncio.TaskGroup | None = None
        self._subscriptions: list[Any] = []

    async def run(self, ready: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self._relay.run(), name="outbox")
            await self._subscribe()
            ready.set()
            reap = self._settings.reap_seconds
            tasks.create_task(every(reap, self._reap, log=log, name="reaper"), name="reaper")
            watching = every(bus_watch.ROUND_SECONDS, self._bus_watch.run_once, log=log, name="bus")
            tasks.create_task(watching, name="bus")

    async def drain(self) -> None:
        """Leave the groups, so that other replicas answer. A request cut off here is repeated by its
        asker, as after a crash."""
        self._tasks = None
        for subscription in self._subscriptions:
            await subscription.unsubscribe()

    async def _subscribe(self) -> None:
        handlers: list[tuple[Any, Any]] = [
            (m.SubmitJob, self.on_submit),
            (m.GetJob, self.on_get),
            (m.ListJobs, self.on_list),
            (m.CancelJob, self.on_cancel),
            (m.WhyJob, self.on_why),
            (m.GetSpec, self.on_spec),
            (m.ListGpus, self.on_gpus),
            (m.ListAgents, self.on_agents),
            (m.GetAttempt, self.on_attempt),
            (m.GetSecretsOfAttempt, self.on_secrets),
            (m.ListUnarchived, self.on_unarchived),
            (m.MarkArchived, self.on_archived),
            (m.Hello, self.on_hello),
            (m.Claim, self.on_claim),
            (m.Progress, self.on_progress),
            (m.Renew, self.on_renew),
            (m.AttemptDone, self.on_done),
        ]
        self._subscriptions = [await self._bus.serve(request, handler) for request, handler in handlers]
        self._subscriptions += await self._cordon_desk.serve()
        self._subscriptions += await self._quota_desk.serve()
        while True:
            try:
                await self._bus.flush()
                return
            except Unavailable:
                await asyncio.sleep(_RETRY_SECONDS)

    # Asked by the gateway for a user.

    async def on_submit(self, ask: m.SubmitJob) -> m.Submitted:
        gpu = validation.check(ask.spec)
        validation.check_key(ask.idempotency_key)
        answer = await self._jobs.submit(ask, gpu, now=self._clock())
        failpoint("submit.committed")
        if answer.created:
            self._changed(answer.job)
            await self._bus.publish(m.Wake(pool=self._settings.pool))
            failpoint("submit.woken")
        return answer

    async def on_get(self, ask: m.GetJob) -> JobView:
        return await self._jobs.get(ask, now=self._clock())

    async def on_list(self, ask: m.ListJobs) -> m.Jobs:
        return m.Jobs(jobs=await self._jobs.listing(ask, now=self._clock()))

    async def on_cancel(self, ask: m.CancelJob) -> JobView:
        validation.check_cancel(ask)
        done = await self._jobs.cancel(ask, now=self._clock())
        failpoint("cancel.committed")
        if done.changed:
            self._changed(done.job)
        if done.job.state in HELD:
            self._in_background(self._cancel_at_agent(done.job, done.stop), f"cancel {done.job.id}")
        return done.job

    async def on_why(self, ask: m.WhyJob) -> m.Why:
        return await self._queue.why(ask, now=self._clock())

    async def on_spec(self, ask: m.GetSpec) -> JobSpec:
        return await self._queue.spec(ask)

    async def on_gpus(self, ask: m.ListGpus) -> m.Gpus:
        return m.Gpus(kinds=await self._queue.gpus())

    async def on_agents(self, ask: m.ListAgents) -> m.Agents:
        return m.Agents(agents=await self._agents.listing())

    # Asked by storage and the gateway for themselves.

    async def on_attempt(self, ask: m.GetAttempt) -> m.AttemptView:
        return await self._archive.attempt(ask.job_id, ask.attempt)

    async def on_secrets(self, ask: m.GetSecretsOfAttempt) -> m.SecretsOfAttempt:
        return await self._archive.secrets(ask)

    async def on_unarchived(self, ask: m.ListUnarchived) -> m.Attempts:
        return m.Attempts(attempts=await self._archive.unarchived(ask.limit))

    async def on_archived(self, ask: m.MarkArchived) -> m.Done:
        if await self._archive.mark(ask.job_id, ask.attempt, now=self._clock()):
            failpoint("archive.committed")
            self._relay.kick()
        return m.Done()

    # Asked by agents.

    async def on_hello(self, ask: m.Hello) -> m.Welcome:
        validation.check_agent(ask)
        await self._expect_no_double(ask)
        outcome = await self._attempts.hello(ask, now=self._clock())
        log.info(
            "agent_hello",
            agent_id=ask.agent_id,
            name=ask.name,
            gpus=ask.gpus_total,
            adopted=len(outcome.welcome.keep),
            lost=len(outcome.changed),
        )
        for job in outcome.changed:
            self._changed(job)
        return outcome.welcome

    async def _expect_no_double(self, ask: m.Hello) -> None:
        """`Unavailable` when the session that `ask` would end belongs to another process, which lives."""
        known = await self._agents.session_of(ask.agent_id)
        if known in (None, ask.session, ask.replaces):
            return
        try:
            alive = m.AreYouAlive(agent_id=ask.agent_id, mark=m.mark_of(known))
            await self._bus.request(alive, timeout=_ALIVE_SECONDS)
        except ChiselError:
            return
        log.warning("agent_doubled", agent_id=ask.agent_id, name=ask.name)
        raise Unavailable("another agent with the same credentials is alive: let each agent join by itself")

    async def on_claim(self, ask: m.Claim) -> m.Claimed:
        async with self._one_claim:
            answer = await self._claims.claim(ask, now=self._clock())
        if answer.new:
            failpoint("claim.committed")
        given = answer.claimed.assignment
        if given is not None and answer.new:
            log.info(
                "job_claimed",
                job_id=given.job_id,
                attempt=given.attempt,
                agent_id=ask.agent_id,
                gpus=given.gpu_count,
                overtaken=list(answer.overtaken),
            )
            self._relay.kick()
        return answer.claimed

    async def on_progress(self, ask: m.Progress) -> m.Progressed:
        if ask.state not in REACHED:
            raise BadRequest(f"an attempt cannot report that it is {ask.state}")
        progressed, job = await self._attempts.progress(ask, now=self._clock())
        if job is not None:
            self._changed(job)
        return progressed

    async def on_renew(self, ask: m.Renew) -> m.Renewed:
        ask = validation.legible(ask)
        outcome = await self._attempts.renew(ask, now=self._clock())
        for job in outcome.changed:
            self._changed(job)
        if outcome.quarantine_changed:
            say = log.warning if ask.gpus_quarantined else log.info
            say("agent_quarantine", agent_id=ask.agent_id, gpus=ask.gpus_quarantined, reason=ask.quarantine)
            # There may be more room now, and its agent asked before this was known.
            self._in_background(self._bus.publish(m.Wake(pool=self._settings.pool)), "wake")
        return outcome.renewed

    async def on_done(self, ask: m.AttemptDone) -> m.Done:
        job = await self._attempts.done(validation.bounded(ask), now=self._clock())
        failpoint("done.committed")
        if job is not None:
            self._changed(job)
        return m.Done()

    # What follows a change.

    def _changed(self, job: JobView) -> None:
        """A change of a job has committed."""
        self._relay.kick()
        log.info(
            "job_changed",
            job_id=job.id,
            state=job.state.value,
            version=job.version,
            attempt=job.attempt,
            agent_id=job.agent_id,
            reason=label(job.end) if job.end else None,
        )
        if job.state is JobState.QUEUED and job.attempt > 0:
            self._in_background(self._bus.publish(m.Wake(pool=self._settings.pool)), "wake")

    def _evicted(self, job: JobView) -> None:
        """A drain ends an attempt of this job."""
        self._changed(job)
        self._in_background(self._cancel_at_agent(job, Stop()), f"evict {job.id}")

    async def _cancel_at_agent(self, job: JobView, stop: Stop) -> None:
        assert job.agent_id is not None
        ask = m.CancelAttempt(agent_id=job.agent_id, job_id=job.id, attempt=job.attempt, stop=stop)
        try:
            await self._bus.request(ask, timeout=_CANCEL_SECONDS)
        except ChiselError as error:  # whatever an agent answers, it is told again
            log.info("cancel_waits_for_renewal", job_id=job.id, agent_id=job.agent_id, error=str(error))

    def _in_background(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Start what is only a hint; a scheduler that stops leaves it out."""
        if self._tasks is None:
            work.close()
        else:
            self._tasks.create_task(work, name=name)

    async def _reap(self) -> None:
        await self.reaper.run_once(self._clock())


async def build(settings: SchedulerSettings, stack: AsyncExitStack) -> Scheduler:
    """Every part, by name and in order."""
    bus = await stack.enter_async_context(
        NatsBus.connect(
            settings.nats_url,
            name="scheduler",
            user=settings.nats_user,
            password=settings.nats_password,
        )
    )
    database = await stack.enter_async_context(
        open_database(
            settings.database_url,
            connections=settings.database_connections,
            schema="scheduler",
            migrations=Path(__file__).parent / "sql",
        )
    )
    streams = Streams(bus.client)
    await streams.ensure(max_bytes=settings.stream_max_bytes)
    return Scheduler(
        settings=settings, bus=bus, streams=streams, database=database, clock=lambda: datetime.now(UTC)
    )


def main() -> None:
    """Be the scheduler until told to stop."""
    serve("scheduler", SchedulerSettings, build)
