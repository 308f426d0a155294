"""Hello, progress, renewal and the end of attempts, on a real Postgres."""

import asyncio

import pytest

from chisel_shared.contract.errors import Conflict, NotFound, Stale
from chisel_shared.contract.ids import AgentId, SessionId
from chisel_shared.contract.job import HELD, EndReason, JobEnd, JobState
from chisel_shared.contract.messages import AttemptRef, GetSecretsOfAttempt, Welcome
from tests.scheduler.actors import EXIT_0, LEASE_SECONDS, PROJECT, Desk, hello_of, ref

FAILED_3 = JobEnd(reason=EndReason.EXIT, exit_code=3)


async def test_a_whole_life(desk: Desk) -> None:
    await desk.hello(hello_of())
    job = await desk.queue()
    attempt = ref(await desk.take())
    for state in (JobState.PREPARING, JobState.RUNNING):
        progressed, changed = await desk.progress(attempt, state)
        assert not progressed.cancel_requested
        assert changed is not None
        assert changed.state is state
        assert (await desk.progress(attempt, state))[1] is None  # said twice
    desk.pass_time(5)
    end = JobEnd(reason=EndReason.EXIT, exit_code=0, stdout_bytes=7, stdout_sha256="ab")
    done = await desk.done(attempt, end)
    assert done is not None
    assert (done.state, done.end, done.version) == (JobState.SUCCEEDED, end, 5)
    assert done.started_at is not None
    assert done.ended_at == done.started_at + 5
    assert await desk.get(job.id) == done
    events = await desk.fetch("select event from job_events where job_id = $1 order by version", job.id)
    assert [row["event"] for row in events] == ["submit", "claim", "prepare", "start", "succeed"]
    await desk.check_laws()


@pytest.mark.parametrize("state", HELD)
@pytest.mark.parametrize(
    ("end", "final"),
    [
        (EXIT_0, JobState.SUCCEEDED),
        (FAILED_3, JobState.FAILED),
        (JobEnd(reason=EndReason.DEPS), JobState.FAILED),
        (JobEnd(reason=EndReason.TIME_LIMIT), JobState.TIMED_OUT),
        (JobEnd(reason=EndReason.USER), JobState.CANCELLED),
    ],
    ids=["exit 0", "exit 3", "deps", "time limit", "user"],
)
async def test_an_end_counts_although_progress_was_lost(
    desk: Desk, state: JobState, end: JobEnd, final: JobState
) -> None:
    await desk.hello(hello_of())
    attempt = await desk.bring_to(state)
    done = await desk.done(attempt, end)
    assert done is not None
    assert (done.state, done.end) == (final, end)
    await desk.check_laws()


async def test_late_progress_moves_nothing_back(desk: Desk) -> None:
    await desk.hello(hello_of())
    attempt = await desk.bring_to(JobState.RUNNING)
    assert (await desk.progress(attempt, JobState.PREPARING))[1] is None
    assert (await desk.get(attempt.job_id)).state is JobState.RUNNING


async def test_running_may_be_said_without_preparing(desk: Desk) -> None:
    await desk.hello(hello_of())
    attempt = await desk.bring_to(JobState.ASSIGNED)
    changed = (await desk.progress(attempt, JobState.RUNNING))[1]
    assert changed is not None
    assert changed.state is JobState.RUNNING
    await desk.check_laws()


async def test_progress_tells_of_a_cancel(desk: Desk) -> None:
    await desk.hello(hello_of())
    attempt = await desk.bring_to(JobState.ASSIGNED)
    await desk.cancel(attempt.job_id)
    assert (await desk.progress(attempt, JobState.PREPARING))[0].cancel_requested


async def test_a_repeated_done_is_done(desk: Desk) -> None:
    await desk.hello(hello_of())
    attempt = await desk.bring_to(JobState.RUNNING)
    first = await desk.done(attempt)
    assert await desk.done(attempt) is None
    await desk.hello(hello_of(session="s2", finished=(attempt,)))
    assert await desk.done(attempt, session="s2") is None
    assert await desk.get(attempt.job_id) == first
    await desk.check_laws()


async def test_many_dones_at_once_end_a_job_once(desk: Desk) -> None:
    await desk.hello(hello_of())
    attempt = await desk.bring_to(JobState.RUNNING)
    answers = await asyncio.gather(*(desk.done(attempt) for _ in range(8)))
    assert sum(answer is not None for answer in answers) == 1
    await desk.check_laws()


async def test_whoever_does_not_hold_the_attempt_is_stale(desk: Desk) -> None:
    await desk.hello(hello_of())
    await desk.hello(hello_of("a2"))
    attempt = await desk.bring_to(JobState.RUNNING)
    never = AttemptRef(job_id=attempt.job_id, attempt=2)
    for stranger in ({"agent": "a2"}, {"session": "s0"}):
        with pytest.raises(Stale):
            await desk.done(attempt, **stranger)  # type: ignore[arg-type]
        with pytest.raises(Stale):
            await desk.progress(attempt, JobState.RUNNING, **stranger)
    with pytest.raises(Stale):
        await desk.done(never)
    assert (await desk.get(attempt.job_id)).state is JobState.RUNNING
    assert (await desk.renew(attempt, agent="a2")).gone == (attempt,)


# What a new session without the attempt does to its job: (state, retries, cancelled?) -> what becomes of it.
LOSSES = [
    (JobState.ASSIGNED, 0, False, JobState.QUEUED, None),
    (JobState.PREPARING, 0, False, JobState.QUEUED, None),
    (JobState.RUNNING, 0, False, JobState.LOST, EndReason.AGENT_LOST),
    (JobState.RUNNING, 1, False, JobState.QUEUED, None),
    (JobState.ASSIGNED, 0, True, JobState.CANCELLED, EndReason.USER),
    (JobState.RUNNING, 1, True, JobState.CANCELLED, EndReason.USER),
]


@pytest.mark.parametrize(("state", "retries", "cancelled", "after", "reason"), LOSSES)
async def test_an_attempt_the_next_session_does_not_know_is_lost(
    desk: Desk, state: JobState, retries: int, cancelled: bool, after: JobState, reason: EndReason | None
) -> None:
    await desk.hello(hello_of())
    attempt = await desk.bring_to(state, retries=retries)
    if cancelled:
        await desk.cancel(attempt.job_id)
    outcome = await desk.hello(hello_of(session="s2"))
    assert outcome.welcome == Welcome()
    (job,) = outcome.changed
    assert (job.state, job.end and job.end.reason) == (after, reason)
    if after is JobState.QUEUED:
        assert (job.agent_id, job.agent_name, job.started_at) == (None, "", None)
        assert job.waiting
    with pytest.raises(Stale):
        await desk.done(attempt)
    with pytest.raises(Stale):
        await desk.done(attempt, session="s2")
    await desk.check_laws()


async def test_a_requeued_job_runs_again_as_the_next_attempt(desk: Desk) -> None:
    await desk.hello(hello_of())
    first = await desk.bring_to(JobState.RUNNING, retries=1)
    await desk.hello(hello_of(session="s2"))
    second = ref(await desk.take(session="s2"))
    assert second == AttemptRef(job_id=first.job_id, attempt=2)
    await desk.progress(second, JobState.RUNNING, session="s2")
    (job,) = (await desk.hello(hello_of(session="s3"))).changed
    assert job.state is JobState.LOST  # the one retry is used up
    await desk.check_laws()


async def test_a_cause_its_user_named_runs_it_again(desk: Desk) -> None:
    await desk.hello(hello_of())
    attempt = await desk.bring_to(JobState.RUNNING, retries=1, retry_on=("exit:3",))
    again = await desk.done(attempt, FAILED_3)
    assert again is not None
    assert (again.state, again.end, again.attempt) == (JobState.QUEUED, None, 1)
    assert again.waiting == "attempt 1 ended (exit:3); it will run again"
    assert await desk.done(attempt, FAILED_3) is None  # said twice
    second = ref(await desk.take())
    assert second.attempt == 2
    over = await desk.done(second, FAILED_3)
    assert over is not None
    assert (over.state, over.end) == (JobState.FAILED, FAILED_3)
    ended = await desk.fetch("select ending ->> 'exit_code' as code from attempts order by attempt")
    assert [row["code"] for row in ended] == ["3", "3"]
    await desk.check_laws()


async def test_a_cause_is_none_once_a_cancel_was_asked_for(desk: Desk) -> None:
    await desk.hello(hello_of())
    attempt = await desk.bring_to(JobState.RUNNING, retries=5, retry_on=("any",))
    await desk.cancel(attempt.job_id)
    over = await desk.done(attempt, FAILED_3)
    assert over is not None
    assert over.state is JobState.FAILED
    await desk.check_laws()


async def test_a_job_has_the_lease_it_was_submitted_with(desk: Desk) -> None:
    await desk.hello(hello_of())
    await desk.queue(retries=1, lease_seconds=3_600.0)
    given = await desk.take()
    assert given.lease_seconds == 3_600
    desk.pass_time(60)
    await desk.renew(ref(given))
    (row,) = await desk.fetch("select lease_until - $1 as left from attempts", desk.now)
    assert row["left"].total_seconds() == 3_600


async def test_what_never_ran_is_never_counted(desk: Desk) -> None:
    await desk.hello(hello_of())
    await desk.bring_to(JobState.PREPARING)
    for n in range(2, 6):
        (job,) = (await desk.hello(hello_of(session=f"s{n}"))).changed
        assert job.state is JobState.QUEUED
        attempt = ref(await desk.take(session=f"s{n}"))
        assert attempt.attempt == n
    await desk.check_laws()


@pytest.mark.parametrize("state", HELD)
async def test_an_adopted_attempt_moves_to_the_new_session(desk: Desk, state: JobState) -> None:
    await desk.hello(hello_of())
    attempt = await desk.bring_to(state)
    outcome = await desk.hello(hello_of(session="s2", adopt=(attempt,)))
    assert outcome.welcome.keep == (attempt,)
    assert outcome.changed == ()
    with pytest.raises(Stale):
        await desk.done(attempt, session="s1")
    done = await desk.done(attempt, session="s2")
    assert done is not None
    assert done.state is JobState.SUCCEEDED
    await desk.check_laws()


async def test_what_was_decided_meanwhile_is_not_kept(desk: Desk) -> None:
    await desk.hello(hello_of("a1"))
    await desk.hello(hello_of("a2"))
    mine = await desk.bring_to(JobState.RUNNING)
    other = AttemptRef(job_id=(await desk.queue()).id, attempt=1)
    desk.pass_time(2)  # past the patience for a1, whose hole is smaller
    await desk.take("a2")
    await desk.lose(mine)
    outcome = await desk.hello(hello_of("a1", session="s2", adopt=(mine, other)))
    assert outcome.welcome.keep == ()
    assert (await desk.get(other.job_id)).state is JobState.ASSIGNED
    await desk.check_laws()


async def test_a_repeated_hello_loses_nothing_claimed_since(desk: Desk) -> None:
    await desk.hello(hello_of())
    await desk.queue()
    attempt = ref(await desk.take())
    assert (await desk.hello(hello_of())).changed == ()
    assert (await desk.renew(attempt)).renewed == (attempt,)


async def test_a_late_hello_of_an_old_session_is_stale(desk: Desk) -> None:
    await desk.hello(hello_of(session="s1"))
    await desk.hello(hello_of(session="s2"))
    attempt = AttemptRef(job_id=(await desk.queue()).id, attempt=1)
    await desk.take(session="s2")
    with pytest.raises(Stale):
        await desk.hello(hello_of(session="s1"))
    assert (await desk.renew(attempt, session="s2")).renewed == (attempt,)


async def test_an_agent_may_come_back_smaller_than_what_it_holds(desk: Desk) -> None:
    await desk.hello(hello_of(gpus=8))
    attempt = await desk.bring_to(JobState.RUNNING, gpus=8)
    await desk.hello(hello_of(gpus=4, session="s2", adopt=(attempt,)))
    await desk.queue(1)
    assert (await desk.claim(session="s2")).claimed.assignment is None
    await desk.done(attempt, session="s2")
    assert (await desk.claim(session="s2")).claimed.assignment is not None


async def test_a_renewal_sorts_every_attempt(desk: Desk) -> None:
    await desk.hello(hello_of())
    kept, wished, ended = [await desk.bring_to(JobState.RUNNING) for _ in range(3)]
    await desk.cancel(wished.job_id)
    await desk.done(ended)
    unknown = AttemptRef(job_id=ended.job_id, attempt=9)
    desk.pass_time(100)
    answer = await desk.renew(kept, wished, ended, unknown)
    assert (answer.renewed, answer.cancel, answer.gone) == ((kept,), (wished,), (ended, unknown))
    rows = await desk.fetch("select job_id, lease_until from attempts where ended_at is null")
    assert {row["job_id"] for row in rows} == {kept.job_id, wished.job_id}
    assert {(row["lease_until"] - desk.now).total_seconds() for row in rows} == {LEASE_SECONDS}


async def test_an_assignment_that_never_arrived_is_taken_back(desk: Desk) -> None:
    await desk.hello(hello_of())
    running = await desk.bring_to(JobState.RUNNING)
    job = await desk.queue()
    await desk.claim(key="lost")
    desk.pass_time(20)
    await desk.renew()
    assert (await desk.get(job.id)).state is JobState.ASSIGNED  # the answer may still be under way
    desk.pass_time(20)
    await desk.renew(running)
    assert (await desk.get(job.id)).state is JobState.QUEUED
    assert (await desk.claim(key="lost")).claimed.assignment is None
    assert (await desk.take()).attempt == 2
    desk.pass_time(60)
    await desk.renew()
    assert (await desk.get(running.job_id)).state is JobState.RUNNING  # it reported: it did arrive
    await desk.check_laws()


async def test_a_renewal_of_an_old_session_is_stale(desk: Desk) -> None:
    await desk.hello(hello_of(session="s1"))
    await desk.hello(hello_of(session="s2"))
    with pytest.raises(Stale):
        await desk.renew(session="s1")


async def test_an_agent_that_ends_a_job_for_its_lease_gives_it_back(desk: Desk) -> None:
    await desk.hello(hello_of())
    attempt = await desk.bring_to(JobState.RUNNING, retries=1)
    job = await desk.done(attempt, JobEnd(reason=EndReason.LEASE_EXPIRED))
    assert job is not None
    assert (job.state, job.end) == (JobState.QUEUED, None)
    assert await desk.done(attempt, JobEnd(reason=EndReason.LEASE_EXPIRED)) is None
    await desk.check_laws()


async def test_archiving(desk: Desk) -> None:
    await desk.hello(hello_of())
    attempt = await desk.bring_to(JobState.RUNNING)
    with pytest.raises(Conflict):
        await desk.archive.mark(attempt.job_id, attempt.attempt, now=desk.now)
    with pytest.raises(NotFound):
        await desk.archive.mark(attempt.job_id, 7, now=desk.now)
    assert await desk.archive.unarchived(10) == ()
    await desk.done(attempt, FAILED_3)
    (waiting,) = await desk.archive.unarchived(10)
    assert (waiting.job_id, waiting.attempt, waiting.agent_id) == (attempt.job_id, 1, "a1")
    assert (waiting.project_id, waiting.end, waiting.archived) == (PROJECT, FAILED_3, False)
    assert (await desk.renew(finished=(attempt,))).archived == ()
    assert await desk.archive.mark(attempt.job_id, 1, now=desk.now)
    assert not await desk.archive.mark(attempt.job_id, 1, now=desk.now)
    assert await desk.archive.unarchived(10) == ()
    assert (await desk.archive.attempt(attempt.job_id, 1)).archived
    assert (await desk.get(attempt.job_id)).archived
    assert (await desk.renew(finished=(attempt,))).archived == (attempt,)
    welcome = (await desk.hello(hello_of(session="s2", finished=(attempt,)))).welcome
    assert welcome.archived == (attempt,)
    with pytest.raises(NotFound):
        await desk.archive.attempt(attempt.job_id, 2)
    await desk.check_laws()


async def test_the_archive_of_an_older_attempt_is_not_the_jobs(desk: Desk) -> None:
    await desk.hello(hello_of())
    first = await desk.bring_to(JobState.RUNNING, retries=1)
    await desk.hello(hello_of(session="s2"))
    await desk.take(session="s2")
    assert not await desk.archive.mark(first.job_id, 1, now=desk.now)
    assert not (await desk.get(first.job_id)).archived


async def test_only_the_session_that_holds_an_attempt_learns_which_secrets_it_wants(desk: Desk) -> None:
    await desk.hello(hello_of())
    await desk.hello(hello_of("a2"))
    await desk.queue(secrets={"TOKEN": "TEAM_TOKEN"})
    attempt = ref(await desk.take())

    async def wanted(agent: str = "a1", session: str = "s1", number: int = 1) -> dict[str, str]:
        ask = GetSecretsOfAttempt(
            agent_id=AgentId(agent), session=SessionId(session), job_id=attempt.job_id, attempt=number
        )
        found = await desk.archive.secrets(ask)
        assert found.project_id == PROJECT
        return found.secrets

    assert await wanted() == {"TOKEN": "TEAM_TOKEN"}
    for other in ({"agent": "a2"}, {"session": "s0"}, {"number": 2}, {"agent": "nobody"}):
        with pytest.raises(Stale):
            await wanted(**other)
    await desk.hello(hello_of(session="s2", adopt=(attempt,)))
    with pytest.raises(Stale):
        await wanted()
    assert await wanted(session="s2") == {"TOKEN": "TEAM_TOKEN"}
    await desk.hello(hello_of(session="s3"))  # which lost it: the attempt is over
    with pytest.raises(Stale):
        await wanted(session="s3")
