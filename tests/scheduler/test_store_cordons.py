"""Cordon, drain and quarantine on a real Postgres: who gets nothing new, and what becomes of what runs."""

import asyncio

import pytest

from chisel_scheduler.store.queue import Queue
from chisel_shared.contract.errors import BadRequest, NotFound, Stale
from chisel_shared.contract.job import EndReason, JobEnd, JobState
from chisel_shared.contract.messages import AttemptRef, Cordon, GpuKind
from tests.scheduler.actors import EXIT_0, Desk, hello_of, ref

STOPPED = JobEnd(reason=EndReason.USER, exit_code=1, stdout_bytes=7, stdout_sha256="0" * 64)


async def test_a_cordoned_agent_gets_nothing_and_what_runs_goes_on(desk: Desk) -> None:
    await desk.hello(hello_of())
    attempt = await desk.bring_to(JobState.RUNNING, gpus=2)
    view = await desk.cordon(reason="new driver")
    assert (view.state, view.jobs, view.gpus_free) == ("cordoned", 1, 6)
    assert view.cordon == Cordon(by="Ada", since=desk.now.timestamp(), reason="new driver")
    waiting = await desk.queue()
    assert (await desk.claim()).claimed.assignment is None
    assert (await desk.renew(attempt)).renewed == (attempt,)
    assert await desk.evict() == []
    view = await desk.uncordon()
    assert (view.state, view.cordon) == ("online", None)
    assert (await desk.take()).job_id == waiting.id
    await desk.done(attempt)
    await desk.check_laws()


async def test_a_cordon_outlives_the_agents_sessions_and_its_own_stopping(desk: Desk) -> None:
    await desk.hello(hello_of())
    await desk.cordon()
    await desk.renew(draining=True)
    assert (await desk.agent()).state == "cordoned"
    await desk.hello(hello_of(session="s2"))
    await desk.queue()
    assert (await desk.agent()).state == "cordoned"
    assert (await desk.claim(session="s2")).claimed.assignment is None
    await desk.uncordon()
    assert (await desk.agent()).state == "online"
    assert (await desk.claim(session="s2")).claimed.assignment is not None


async def test_an_agent_that_stops_by_itself_is_told_apart(desk: Desk) -> None:
    await desk.hello(hello_of())
    await desk.renew(draining=True)
    view = await desk.agent()
    assert (view.state, view.cordon) == ("stopping", None)
    await desk.uncordon()
    assert (await desk.agent()).state == "stopping"


async def test_a_cordoned_agent_is_no_better_place(desk: Desk) -> None:
    await desk.hello(hello_of("big", 8))
    await desk.hello(hello_of("small", 1))
    desk.pass_time(3)
    await desk.cordon("small")
    await desk.queue(1)
    assert (await desk.claim("big")).claimed.assignment is not None


async def test_a_job_that_only_a_cordoned_agent_could_run_says_what_it_waits_for(desk: Desk) -> None:
    await desk.hello(hello_of("a1", 8))
    await desk.hello(hello_of("a2", 2))
    await desk.drain("a1", "new driver")
    job = await desk.queue(8)
    expected = "no agent with 8 free A100-80GB GPUs; box-a1, which has 8, is drained by Ada: new driver"
    assert (job.state, job.waiting) == (JobState.QUEUED, expected)
    assert (await desk.get(job.id)).waiting == expected
    small = await desk.queue(1)
    assert small.waiting == "1 job ahead"


async def test_what_gpus_says_agrees(desk: Desk) -> None:
    await desk.hello(hello_of("a1", 8))
    await desk.hello(hello_of("a2", 4))
    await desk.cordon("a1")
    await desk.renew(agent="a2", gpus_quarantined=1, quarantine="job x hangs")
    assert await Queue(database=desk.database, pool="default").gpus() == (
        GpuKind(
            model="A100-80GB", total=4, free=3, largest_free=3, largest=4, agents=1, away=8, quarantined=1
        ),
    )


async def test_agents_are_found_by_id_name_and_beginning(desk: Desk) -> None:
    for agent in ("abc", "abd", "xyz"):
        await desk.hello(hello_of(agent))
    await desk.fetch("update agents set name = 'xy' where id = 'abd'")
    for name, expected in (("abc", "abc"), ("ABC", "abc"), ("box-abc", "abc"), ("x", "xyz"), ("xy", "abd")):
        assert (await desk.cordon(name)).id == expected, name


@pytest.mark.parametrize("name", ["nothing", "", "%", "box-ab"])
async def test_an_unknown_agent_is_one_sentence(desk: Desk, name: str) -> None:
    await desk.hello(hello_of("abc"))
    with pytest.raises(NotFound, match=r"there is no agent '.*': chisel admin agents ls"):
        await desk.cordon(name)


async def test_an_ambiguous_agent_is_one_sentence_with_the_candidates(desk: Desk) -> None:
    await desk.hello(hello_of("abc"))
    desk.pass_time(1)
    await desk.hello(hello_of("abd"))
    with pytest.raises(BadRequest) as raised:
        await desk.drain("ab")
    assert str(raised.value) == (
        "'ab' is the beginning of several agents' ids: abd (box-abd, online), abc (box-abc, online)"
    )
    await desk.fetch("update agents set name = 'box'")
    with pytest.raises(BadRequest, match="'box' is the name of several agents: abd"):
        await desk.drain("box")


async def test_of_several_words_the_last_counts_and_a_reason_stays(desk: Desk) -> None:
    await desk.hello(hello_of())
    await desk.cordon(reason="new driver")
    since = desk.now.timestamp()
    desk.pass_time(10)
    drained = (await desk.drain(by="Bob", seconds=60)).cordon
    deadline = desk.now.timestamp() + 60
    assert drained == Cordon(by="Bob", since=since, reason="new driver", drain=True, deadline=deadline)
    # A cordon calls the end of what runs off.
    assert (await desk.cordon(reason="later")).cordon == Cordon(by="Ada", since=since, reason="later")


async def test_a_drain_shows_when_the_agent_is_empty(desk: Desk) -> None:
    await desk.hello(hello_of())
    attempt = await desk.bring_to(JobState.RUNNING)
    view = await desk.drain()
    assert (view.state, view.jobs) == ("draining", 1)
    desk.pass_time(86_400)
    assert await desk.cordons.due(desk.now) == []  # without a deadline it waits
    await desk.done(attempt)
    view = await desk.agent()
    assert (view.state, view.jobs) == ("drained", 0)


async def evicted(desk: Desk, state: JobState = JobState.RUNNING, *, retries: int = 0) -> AttemptRef:
    """An attempt of an agent whose drain is over its deadline."""
    await desk.hello(hello_of())
    attempt = await desk.bring_to(state, retries=retries)
    await desk.drain(reason="new driver", seconds=60)
    desk.pass_time(59)
    assert await desk.cordons.due(desk.now) == []
    assert await desk.evict() == []
    desk.pass_time(2)
    assert await desk.cordons.due(desk.now) == ["a1"]
    assert [job.id for job in await desk.evict()] == [attempt.job_id]
    assert await desk.cordons.due(desk.now) == []
    assert await desk.evict() == []  # said once
    assert (await desk.renew(attempt)).cancel == (attempt,)
    assert (await desk.progress(attempt, state))[0].cancel_requested
    return attempt


async def test_at_the_deadline_a_job_without_retries_is_cancelled_with_who_and_why(desk: Desk) -> None:
    attempt = await evicted(desk)
    job = await desk.done(attempt, STOPPED)
    assert job is not None
    assert (job.state, job.cancelled_by, job.cancel_reason) == (JobState.CANCELLED, "Ada", "new driver")
    assert job.end is not None
    assert (job.end.reason, job.end.exit_code, job.end.stdout_bytes) == (EndReason.DRAIN, 1, 7)
    assert await desk.done(attempt, STOPPED) is None  # said twice, done once
    assert (await desk.agent()).state == "drained"
    await desk.check_laws()


async def test_a_job_with_retries_runs_elsewhere_and_keeps_them(desk: Desk) -> None:
    attempt = await evicted(desk, retries=1)
    job = await desk.done(attempt, STOPPED)
    assert job is not None
    assert (job.state, job.end, job.cancelled_by) == (JobState.QUEUED, None, "")
    assert job.waiting == "box-a1 is drained by Ada: new driver; it will run again"
    stored = await desk.archive.attempt(attempt.job_id, 1)
    assert stored.end is not None
    assert (stored.end.reason, stored.end.stdout_bytes) == (EndReason.DRAIN, 7)
    await desk.hello(hello_of("a2"))
    again = await desk.take("a2")
    assert (again.job_id, again.attempt) == (attempt.job_id, 2)
    # The drain was not counted: the one retry is still there for a failure.
    await desk.progress(ref(again), JobState.RUNNING, agent="a2")
    lost = await desk.lose(ref(again), agent="a2")
    assert lost is not None
    assert lost.state is JobState.QUEUED
    await desk.check_laws()


async def test_drains_do_not_use_up_the_starts_of_a_job_either(desk: Desk) -> None:
    await desk.hello(hello_of())
    job = await desk.queue()
    for number in range(1, 13):
        attempt = ref(await desk.take())
        await desk.progress(attempt, JobState.PREPARING)
        await desk.drain(seconds=0)
        await desk.evict()
        again = await desk.done(attempt, STOPPED)
        assert again is not None
        assert (again.state, again.attempt) == (JobState.QUEUED, number)
        await desk.uncordon()
    attempt = ref(await desk.take())
    lost = await desk.done(attempt, JobEnd(reason=EndReason.AGENT_LOST))
    assert lost is not None
    assert (lost.id, lost.state) == (job.id, JobState.QUEUED)


@pytest.mark.parametrize("state", [JobState.ASSIGNED, JobState.PREPARING])
async def test_a_job_that_has_not_run_yet_waits_again(desk: Desk, state: JobState) -> None:
    await desk.hello(hello_of())
    attempt = await desk.bring_to(state)
    await desk.drain(seconds=0)
    assert len(await desk.evict()) == 1
    job = await desk.done(attempt, JobEnd(reason=EndReason.USER))
    assert job is not None
    assert job.state is JobState.QUEUED
    await desk.check_laws()


async def test_a_job_that_ends_by_itself_meanwhile_keeps_its_end(desk: Desk) -> None:
    attempt = await evicted(desk)
    job = await desk.done(attempt, EXIT_0)
    assert job is not None
    assert (job.state, job.cancelled_by) == (JobState.SUCCEEDED, "")
    await desk.check_laws()


@pytest.mark.parametrize("first", ["user", "drain"])
async def test_a_users_wish_comes_before_a_drain(desk: Desk, first: str) -> None:
    await desk.hello(hello_of())
    attempt = await desk.bring_to(JobState.RUNNING, retries=3)
    await desk.drain(seconds=0, by="Bob")
    if first == "user":
        await desk.cancel(attempt.job_id)
        assert await desk.cordons.due(desk.now) == []
        assert await desk.evict() == []
    else:
        assert len(await desk.evict()) == 1
        await desk.cancel(attempt.job_id)
    job = await desk.done(attempt, STOPPED)
    assert job is not None
    assert job.end is not None
    assert (job.state, job.end.reason, job.cancelled_by) == (JobState.CANCELLED, EndReason.USER, "Ada")
    await desk.check_laws()


async def test_an_uncordon_comes_too_late_for_what_ends_and_in_time_for_what_does_not(desk: Desk) -> None:
    attempt = await evicted(desk, retries=1)
    await desk.uncordon()
    assert (await desk.renew(attempt)).cancel == (attempt,)
    job = await desk.done(attempt, STOPPED)
    assert job is not None
    assert job.state is JobState.QUEUED
    assert job.waiting == "box-a1 is drained by Ada: new driver; it will run again"
    await desk.drain(seconds=60)
    await desk.uncordon()
    attempt = ref(await desk.take())
    desk.pass_time(120)
    assert await desk.cordons.due(desk.now) == []
    assert (await desk.renew(attempt)).renewed == (attempt,)


async def test_an_agent_that_is_lost_while_it_is_drained_is_lost(desk: Desk) -> None:
    attempt = await evicted(desk)
    job = await desk.lose(attempt)
    assert job is not None
    assert job.state is JobState.LOST
    with pytest.raises(Stale):
        await desk.done(attempt, STOPPED)
    await desk.check_laws()


async def test_a_cordon_and_claims_at_once_leave_nothing_half_done(desk: Desk) -> None:
    await desk.hello(hello_of())
    for _ in range(8):
        await desk.queue()
    answers = await asyncio.gather(
        *(desk.claim() for _ in range(4)), desk.cordon(), *(desk.claim() for _ in range(4))
    )
    assert answers
    view = await desk.agent()
    assert (view.state, view.jobs) == ("cordoned", 8 - view.gpus_free)
    assert (await desk.claim()).claimed.assignment is None
    await desk.check_laws()


async def test_quarantined_gpus_are_given_to_nobody(desk: Desk) -> None:
    await desk.hello(hello_of(gpus=8))
    attempt = await desk.bring_to(JobState.RUNNING, gpus=4)
    await desk.renew(attempt, gpus_quarantined=3, quarantine="job x cannot be killed")
    view = await desk.agent()
    assert (view.state, view.gpus_free, view.gpus_quarantined) == ("online", 1, 3)
    assert view.quarantine == "job x cannot be killed"
    job = await desk.queue(4)
    assert job.waiting == ("no agent with 4 free A100-80GB GPUs; 1 of 8 is free on box-a1, 3 quarantined")
    # Whatever the agent believes to be free.
    assert (await desk.claim(gpus_free=4)).claimed.assignment is None
    await desk.hello(hello_of(gpus=8, session="s2", adopt=(attempt,)))
    assert (await desk.agent()).gpus_free == 1
    await desk.renew(attempt, session="s2")
    assert (await desk.agent()).gpus_free == 4
    assert (await desk.claim(session="s2")).claimed.assignment is not None
    await desk.check_laws()


async def test_a_job_for_all_gpus_of_an_agent_with_quarantined_ones_is_accepted(desk: Desk) -> None:
    await desk.hello(hello_of(gpus=8))
    await desk.renew(gpus_quarantined=1, quarantine="GPU 3 is not empty")
    job = await desk.queue(8)
    assert job.waiting.endswith("7 of 8 are free on box-a1, 1 quarantined")


@pytest.mark.parametrize(("said", "kept"), [(-1, 0), (9, 8)])
async def test_no_more_is_quarantined_than_there_is(desk: Desk, said: int, kept: int) -> None:
    await desk.hello(hello_of(gpus=8))
    await desk.renew(gpus_quarantined=said)
    view = await desk.agent()
    assert (view.gpus_quarantined, view.gpus_free) == (kept, 8 - kept)
