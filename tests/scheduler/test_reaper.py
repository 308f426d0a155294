"""The reaper's rounds, called one by one at times the test chooses."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from chisel_scheduler.reaper import Reaper
from chisel_scheduler.settings import SchedulerSettings
from chisel_shared.contract.errors import Stale, Unavailable
from chisel_shared.contract.ids import AgentId
from chisel_shared.contract.job import EndReason, JobState, JobView
from chisel_shared.contract.messages import Message, Wake
from tests.scheduler.actors import Desk, hello_of, ref


class Line:
    """A bus that can be cut; it remembers what was said."""

    def __init__(self) -> None:
        self.cut = False
        self.said: list[Message] = []

    async def publish(self, message: Message) -> None:
        self.said.append(message)

    async def flush(self) -> None:
        if self.cut:
            raise Unavailable

    async def request(self, message: Any, *, timeout: float = 5.0) -> Any:
        raise AssertionError(f"the reaper asks nobody: {message}")

    async def serve(self, request: Any, handler: Any, **bound: str) -> Any:
        raise AssertionError(f"the reaper answers nobody: {request}")

    async def subscribe(self, message: Any, handler: Callable[[Any], Awaitable[None]], **bound: str) -> Any:
        raise AssertionError(f"the reaper hears nobody: {message}")


class Rounds:
    """A reaper every 10 seconds of the desk's time."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.line, self.changed = desk, Line(), list[JobView]()
        self.evicted: list[JobView] = []
        settings = SchedulerSettings(nats_url="-", database_url="-", gone_seconds=1_200)
        self.reaper = Reaper(
            settings=settings,
            bus=self.line,
            database=desk.database,
            jobs=desk.jobs,
            agents=desk.agents,
            attempts=desk.attempts,
            archive=desk.archive,
            cordons=desk.cordons,
            said=self.changed.append,
            evicted=self.evicted.append,
        )

    async def last(self, seconds: float, *, heard: bool = False) -> list[JobView]:
        """Let time pass with a round every 10 s; what changed in it. `heard`: agent a1 renews."""
        self.changed.clear()
        for _ in range(int(seconds / 10)):
            self.desk.pass_time(10)
            if heard:
                await self.desk.renew()
            await self.reaper.run_once(self.desk.now)
        return list(self.changed)


@pytest.fixture
async def rounds(desk: Desk) -> Rounds:
    made = Rounds(desk)
    await made.reaper.run_once(desk.now)
    await desk.hello(hello_of())
    return made


async def states(desk: Desk) -> dict[str, str]:
    return {agent.id: agent.state for agent in await desk.agents.listing()}


async def test_silence_is_told_and_taken_back(rounds: Rounds, desk: Desk) -> None:
    attempt = await desk.bring_to(JobState.RUNNING)
    assert await rounds.last(20) == []
    (told,) = await rounds.last(10)
    assert (told.id, told.state, told.unreachable) == (attempt.job_id, JobState.RUNNING, True)
    assert await states(desk) == {"a1": "unreachable"}
    assert await rounds.last(60) == []  # told once
    await desk.renew(attempt)
    assert not (await desk.get(attempt.job_id)).unreachable
    assert await states(desk) == {"a1": "online"}
    await desk.check_laws()


async def test_a_new_session_takes_the_silence_back_too(rounds: Rounds, desk: Desk) -> None:
    attempt = await desk.bring_to(JobState.RUNNING)
    await rounds.last(30)
    outcome = await desk.hello(hello_of(session="s2", adopt=(attempt,)))
    assert [(job.id, job.unreachable) for job in outcome.changed] == [(attempt.job_id, False)]
    await desk.check_laws()


async def test_a_silent_agent_is_offline_in_the_end(rounds: Rounds, desk: Desk) -> None:
    await rounds.last(500)
    assert await states(desk) == {"a1": "unreachable"}
    await rounds.last(200)
    assert await states(desk) == {"a1": "offline"}


async def test_an_agent_that_drained_and_left_is_offline_at_once(rounds: Rounds, desk: Desk) -> None:
    await desk.renew(draining=True)
    assert await states(desk) == {"a1": "stopping"}
    await rounds.last(30)
    assert await states(desk) == {"a1": "offline"}
    await desk.hello(hello_of(session="s2"))
    assert await states(desk) == {"a1": "online"}


async def test_a_lease_that_ran_out_gives_a_repeatable_job_back(rounds: Rounds, desk: Desk) -> None:
    attempt = await desk.bring_to(JobState.RUNNING, retries=1)
    assert [job for job in await rounds.last(600) if not job.unreachable] == []
    changed = await rounds.last(60)
    assert [(job.id, job.state) for job in changed] == [(attempt.job_id, JobState.QUEUED)]
    with pytest.raises(Stale):
        await desk.done(attempt)
    assert (await desk.renew(attempt)).gone == (attempt,)
    await desk.check_laws()


async def test_the_last_retry_is_the_last(rounds: Rounds, desk: Desk) -> None:
    first = await desk.bring_to(JobState.RUNNING, retries=1)
    await rounds.last(700)
    await desk.renew()
    second = ref(await desk.take())
    assert (second.job_id, second.attempt) == (first.job_id, 2)
    await desk.progress(second, JobState.RUNNING)
    lost = (await rounds.last(700))[-1]
    assert (lost.state, lost.end and lost.end.reason) == (JobState.LOST, EndReason.LEASE_EXPIRED)
    await desk.check_laws()


async def test_a_job_that_may_not_run_again_keeps_running(rounds: Rounds, desk: Desk) -> None:
    attempt = await desk.bring_to(JobState.RUNNING)
    await rounds.last(1_100)
    assert (await desk.get(attempt.job_id)).state is JobState.RUNNING
    done = await desk.done(attempt)
    assert done is not None
    assert done.state is JobState.SUCCEEDED


async def test_an_agent_declared_gone_loses_what_it_ran(rounds: Rounds, desk: Desk) -> None:
    """What it did after its last word nobody knows: a job it was given may have run."""
    lost = [
        (await desk.bring_to(state)).job_id
        for state in (JobState.ASSIGNED, JobState.PREPARING, JobState.RUNNING)
    ]
    changed = (await rounds.last(1_300))[-3:]
    assert {job.id: job.state for job in changed} == dict.fromkeys(lost, JobState.LOST)
    await desk.check_laws()


async def test_a_gone_agent_keeps_a_job_that_may_run_again_as_long_as_its_lease(
    rounds: Rounds, desk: Desk
) -> None:
    """Where agents are given up sooner than a lease lasts, the first copy may still live."""
    attempt = await desk.bring_to(JobState.RUNNING, retries=1, lease_seconds=3_000.0)
    await rounds.last(3_020)
    assert (await desk.get(attempt.job_id)).state is JobState.RUNNING
    await rounds.last(20)
    assert (await desk.get(attempt.job_id)).state is JobState.QUEUED


async def test_an_agent_heard_between_look_and_act_is_not_gone(desk: Desk) -> None:
    await desk.hello(hello_of())
    attempt = await desk.bring_to(JobState.RUNNING)
    agent, before = AgentId("a1"), desk.now

    async def lose() -> JobView | None:
        return await desk.attempts.lose(
            attempt, agent, EndReason.AGENT_LOST, seen_before=before, now=desk.now
        )

    assert await lose() is None
    before += timedelta(seconds=1)
    assert await lose() is not None


async def test_a_renewed_lease_does_not_run_out(rounds: Rounds, desk: Desk) -> None:
    attempt = await desk.bring_to(JobState.RUNNING, retries=1)
    for _ in range(10):
        await rounds.last(100)
        await desk.renew(attempt)
    assert (await desk.get(attempt.job_id)).state is JobState.RUNNING


async def test_a_longer_lease_of_its_own_is_waited_for(rounds: Rounds, desk: Desk) -> None:
    attempt = await desk.bring_to(JobState.RUNNING, retries=1, lease_seconds=1_000.0)
    await rounds.last(1_020)
    assert (await desk.get(attempt.job_id)).state is JobState.RUNNING
    await rounds.last(20)
    assert (await desk.get(attempt.job_id)).state is JobState.QUEUED


async def test_a_lease_runs_out_only_for_one_that_could_have_renewed_it(rounds: Rounds, desk: Desk) -> None:
    attempt = await desk.bring_to(JobState.RUNNING, retries=1, lease_seconds=300.0)
    rounds.line.cut = True
    await rounds.last(900)
    rounds.line.cut = False
    await rounds.last(290)
    assert (await desk.get(attempt.job_id)).state is JobState.RUNNING
    await rounds.last(20)
    assert (await desk.get(attempt.job_id)).state is JobState.QUEUED


async def test_an_outage_of_the_bus_costs_no_agent_its_lease(rounds: Rounds, desk: Desk) -> None:
    attempt = await desk.bring_to(JobState.RUNNING, retries=1)
    rounds.line.cut = True
    assert await rounds.last(900) == []
    rounds.line.cut = False
    assert await rounds.last(20) == []
    await desk.renew(attempt)
    await rounds.last(590, heard=True)
    assert (await desk.get(attempt.job_id)).state is JobState.RUNNING


async def test_a_scheduler_that_has_just_started_expires_nothing(rounds: Rounds, desk: Desk) -> None:
    attempt = await desk.bring_to(JobState.RUNNING, retries=1)
    desk.pass_time(10_000)
    restarted = Rounds(desk)
    assert [job for job in await restarted.last(590) if not job.unreachable] == []
    assert (await desk.get(attempt.job_id)).state is JobState.RUNNING


async def test_a_lease_renewed_between_look_and_act_stands(desk: Desk) -> None:
    await desk.hello(hello_of())
    attempt = await desk.bring_to(JobState.RUNNING, retries=1)
    before = desk.now
    assert (
        await desk.attempts.lose(
            attempt,
            (await desk.agents.listing())[0].id,
            EndReason.LEASE_EXPIRED,
            expired_before=before,
            now=desk.now,
        )
        is None
    )


async def test_pools_with_a_queue_are_woken_again(rounds: Rounds, desk: Desk) -> None:
    await rounds.last(10)
    assert rounds.line.said == []
    await desk.queue()
    await rounds.last(10)
    assert rounds.line.said == [Wake(pool="default")]


async def test_an_agent_silent_for_a_month_is_forgotten(rounds: Rounds, desk: Desk) -> None:
    await desk.hello(hello_of("a2"))
    attempt = await desk.bring_to(JobState.RUNNING)
    desk.pass_time(31 * 86_400)
    await rounds.last(30)
    assert set(await states(desk)) == {"a1"}  # it holds a job
    await desk.lose(attempt)
    await rounds.last(30)
    assert await states(desk) == {}


async def test_a_drain_over_its_deadline_ends_what_runs_once(rounds: Rounds, desk: Desk) -> None:
    attempt = await desk.bring_to(JobState.RUNNING)
    await desk.drain(seconds=60)
    await rounds.last(50, heard=True)
    assert rounds.evicted == []
    await rounds.last(30, heard=True)
    assert [job.id for job in rounds.evicted] == [attempt.job_id]
    assert (await desk.renew(attempt)).cancel == (attempt,)


async def test_a_deadline_that_passed_while_no_scheduler_was_there_is_made_up_for(desk: Desk) -> None:
    await desk.hello(hello_of())
    attempt = await desk.bring_to(JobState.RUNNING)
    await desk.drain(seconds=60)
    desk.pass_time(3_600)
    later = Rounds(desk)
    await later.reaper.run_once(desk.now)
    assert [job.id for job in later.evicted] == [attempt.job_id]
    await desk.check_laws()


async def test_a_cordoned_agent_is_not_forgotten(rounds: Rounds, desk: Desk) -> None:
    await desk.hello(hello_of("a2"))
    await desk.cordon("a2")
    desk.pass_time(40 * 86_400)
    for _ in range(3):
        await rounds.last(30, heard=True)
    assert set(await states(desk)) == {"a1", "a2"}
    await desk.uncordon("a2")
    await rounds.last(30, heard=True)
    assert set(await states(desk)) == {"a1"}
