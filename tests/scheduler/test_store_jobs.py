"""Submitting, reading and cancelling, on a real Postgres."""

import asyncio

import pytest

from chisel_scheduler.store import jobs as jobs_store
from chisel_shared.contract.errors import BadRequest, Conflict, NoSuchGpus, NotFound
from chisel_shared.contract.ids import ProjectId
from chisel_shared.contract.job import HELD, EndReason, JobEnd, JobState
from chisel_shared.contract.messages import CancelJob, GetJob, ListJobs, SubmitJob
from tests.scheduler.actors import EXIT_0, PROJECT, Desk, hello_of, spec, submit_of


async def test_a_submitted_job_waits_with_a_reason(desk: Desk) -> None:
    await desk.hello(hello_of())
    answer = await desk.submit(submit_of(spec(4)))
    assert answer.created
    job = answer.job
    assert (job.state, job.version, job.attempt, job.gpu) == (JobState.QUEUED, 1, 0, "A100-80GB:4")
    assert job.waiting == ""
    assert await desk.get(job.id) == job
    await desk.check_laws()


async def test_the_same_key_and_spec_is_the_same_job(desk: Desk) -> None:
    await desk.hello(hello_of())
    ask = submit_of(spec(1, env={"A": "1", "B": "2"}))
    first = await desk.submit(ask)
    again = await desk.submit(submit_of(spec(1, env={"B": "2", "A": "1"}), key=ask.idempotency_key))
    assert (again.created, again.job.id) == (False, first.job.id)


@pytest.mark.parametrize(
    "other",
    [submit_of(spec(2), key="k"), submit_of(spec(1), key="k", project="p2")],
    ids=["another spec", "another project"],
)
async def test_the_same_key_for_something_else_is_a_conflict(desk: Desk, other: SubmitJob) -> None:
    await desk.hello(hello_of())
    await desk.submit(submit_of(spec(1), key="k"))
    with pytest.raises(Conflict, match="idempotency key"):
        await desk.submit(other)


async def test_the_same_key_of_another_user_is_another_job(desk: Desk) -> None:
    await desk.hello(hello_of())
    first = await desk.submit(submit_of(spec(1), key="k"))
    other = await desk.submit(submit_of(spec(1), key="k", user="u2"))
    assert other.created
    assert other.job.id != first.job.id


async def test_parallel_submits_of_one_key_make_one_job(desk: Desk) -> None:
    await desk.hello(hello_of())
    asks = [submit_of(spec(1), key=f"k{n % 20}") for n in range(100)]
    answers = await asyncio.gather(*(desk.submit(ask) for ask in asks))
    assert sum(answer.created for answer in answers) == 20
    assert len({answer.job.id for answer in answers}) == 20
    await desk.check_laws()


@pytest.mark.parametrize(
    ("agents", "gpus", "sentence"),
    [
        ([], 1, "no agent has ever joined, so there are no GPUs to run on"),
        ([("a1", 1, "A100-80GB"), ("b", 2, "A100-80GB")], 8,
         "no agent has 8 A100-80GB GPUs; the largest has 2 (agent box-b)"),
        ([("a1", 8, "H100")], 1, "no agent has A100-80GB GPUs; the largest agent has 8 H100 (agent box-a1)"),
    ],
    ids=["nobody", "too small", "other model"],
)  # fmt: skip
async def test_what_no_agent_could_run_is_refused_with_what_exists(
    desk: Desk, agents: list[tuple[str, int, str]], gpus: int, sentence: str
) -> None:
    for name, count, model in agents:
        await desk.hello(hello_of(name, count, model=model))
    with pytest.raises(NoSuchGpus) as raised:
        await desk.queue(gpus)
    assert str(raised.value) == sentence
    assert not await desk.fetch("select id from jobs")


async def test_a_repeated_submit_is_answered_even_when_the_agents_are_gone(desk: Desk) -> None:
    await desk.hello(hello_of())
    ask = submit_of(spec(1))
    first = await desk.submit(ask)
    await desk.fetch("delete from agents")
    assert (await desk.submit(ask)).job.id == first.job.id


async def test_reasons_to_wait(desk: Desk) -> None:
    await desk.hello(hello_of("a1", 8))
    await desk.queue(4)
    await desk.take()
    await desk.queue(1)
    await desk.take()
    held = await desk.queue(4)
    assert held.waiting == "no agent with 4 free A100-80GB GPUs; 3 of 8 are free on box-a1"
    behind = await desk.queue(1)
    assert behind.waiting == "1 job ahead"
    first = await desk.queue(8, priority=5)
    assert first.waiting == "no agent with 8 free A100-80GB GPUs; 3 of 8 are free on box-a1"
    assert (await desk.get(behind.id)).waiting == "2 jobs ahead"
    listed = await desk.jobs.listing(ListJobs(project_id=PROJECT, unfinished=True, limit=10), now=desk.now)
    assert [job.waiting for job in listed if job.id == behind.id] == ["2 jobs ahead"]
    await desk.fetch("update agents set state = 'unreachable'")
    assert (await desk.get(first.id)).waiting == (
        "no agent with 8 free A100-80GB GPUs; box-a1, which has 8, is unreachable"
    )


async def test_a_beginning_of_an_id_is_enough_while_it_is_unambiguous(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.hello(hello_of())
    ids = iter(["abc1111111", "abd2222222", "abd2222"])
    monkeypatch.setattr(jobs_store, "new_id", lambda: next(ids))
    for _ in range(3):
        await desk.queue()
    assert (await desk.get("abc")).id == "abc1111111"
    assert (await desk.get("ABC1")).id == "abc1111111"
    assert (await desk.get("abd2222")).id == "abd2222"  # exact beats longer
    with pytest.raises(BadRequest, match="abc1111111, abd2222, abd2222222"):
        await desk.get("ab")
    for unknown in ("abe", "", "a%", "abd{", "zzzzzzzzzz", "a" * 300):
        with pytest.raises(NotFound):
            await desk.get(unknown)


async def test_last_is_the_newest_job_of_whoever_asks(desk: Desk) -> None:
    await desk.hello(hello_of())
    with pytest.raises(NotFound, match="no job yet"):
        await desk.get("@last")
    await desk.queue()
    mine = await desk.queue()
    await desk.submit(submit_of(spec(), user="u2"))
    await desk.submit(submit_of(spec(), project="p2"))
    assert [(await desk.get(name)).id for name in ("@last", "last", "@LAST")] == [mine.id] * 3
    assert (await desk.cancel("@last")).id == mine.id


async def test_jobs_of_another_project_do_not_exist(desk: Desk) -> None:
    await desk.hello(hello_of())
    job = await desk.queue()
    with pytest.raises(NotFound):
        await desk.jobs.get(GetJob(project_id=ProjectId("p2"), job_id=job.id), now=desk.now)
    stranger = CancelJob(project_id=ProjectId("p2"), job_id=job.id, requested_by="Bob")
    with pytest.raises(NotFound):
        await desk.jobs.cancel(stranger, now=desk.now)
    assert await desk.jobs.listing(ListJobs(project_id=ProjectId("p2"), limit=10), now=desk.now) == ()


async def test_a_listing_is_newest_first_and_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    await desk.hello(hello_of())
    ids = [(await desk.queue()).id for _ in range(5)]
    await desk.cancel(ids[3])
    listed = await desk.jobs.listing(ListJobs(project_id=PROJECT, limit=3), now=desk.now)
    assert [job.id for job in listed] == ids[:1:-1]
    listed = await desk.jobs.listing(ListJobs(project_id=PROJECT, unfinished=True, limit=3), now=desk.now)
    assert [job.id for job in listed] == [ids[4], ids[2], ids[1]]
    monkeypatch.setattr(jobs_store, "MAX_LISTING_BYTES", 40)  # "python" and "train.py" are 14
    assert len(await desk.jobs.listing(ListJobs(project_id=PROJECT, limit=5), now=desk.now)) == 2


async def test_cancelling_a_queued_job_ends_it_at_once(desk: Desk) -> None:
    await desk.hello(hello_of())
    job = await desk.cancel((await desk.queue()).id)
    assert (job.state, job.end) == (JobState.CANCELLED, JobEnd(reason=EndReason.USER))
    assert (await desk.claim()).claimed.assignment is None
    await desk.check_laws()


@pytest.mark.parametrize("state", HELD)
async def test_cancelling_a_held_job_is_a_wish(desk: Desk, state: JobState) -> None:
    await desk.hello(hello_of())
    attempt = await desk.bring_to(state)
    before = await desk.get(attempt.job_id)
    job = await desk.cancel(attempt.job_id)
    assert (job.state, job.cancel_requested, job.version) == (state, True, before.version + 1)
    assert await desk.cancel(attempt.job_id) == job  # wishing again changes nothing
    assert (await desk.renew(attempt)).cancel == (attempt,)
    done = await desk.done(attempt, JobEnd(reason=EndReason.USER))
    assert done is not None
    assert (done.state, done.end and done.end.reason) == (JobState.CANCELLED, EndReason.USER)
    await desk.check_laws()


@pytest.mark.parametrize("state", HELD)
async def test_a_job_that_finishes_before_the_cancel_keeps_its_true_end(desk: Desk, state: JobState) -> None:
    await desk.hello(hello_of())
    attempt = await desk.bring_to(state)
    await desk.cancel(attempt.job_id)
    job = await desk.done(attempt, EXIT_0)
    assert job is not None
    assert (job.state, job.end, job.cancel_requested) == (JobState.SUCCEEDED, EXIT_0, True)
    await desk.check_laws()


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (EXIT_0, JobState.SUCCEEDED),
        (JobEnd(reason=EndReason.EXIT, exit_code=3), JobState.FAILED),
        (JobEnd(reason=EndReason.TIME_LIMIT), JobState.TIMED_OUT),
        (JobEnd(reason=EndReason.USER), JobState.CANCELLED),
        (JobEnd(reason=EndReason.AGENT_LOST), JobState.LOST),
    ],
    ids=lambda value: str(value) if isinstance(value, JobState) else "",
)
async def test_cancelling_a_finished_job_changes_nothing(desk: Desk, end: JobEnd, state: JobState) -> None:
    await desk.hello(hello_of())
    attempt = await desk.bring_to(JobState.RUNNING)
    done = await desk.done(attempt, end)
    assert done is not None
    assert done.state is state
    assert await desk.cancel(attempt.job_id) == done
    await desk.check_laws()


async def test_cancels_and_claims_race_to_one_outcome(desk: Desk) -> None:
    await desk.hello(hello_of(gpus=8))
    jobs = [await desk.queue() for _ in range(8)]
    async with asyncio.TaskGroup() as group:
        claims = [group.create_task(desk.claim()) for _ in jobs]
        for job in jobs:
            group.create_task(desk.cancel(job.id))
    given = {
        done.claimed.assignment.job_id for claim in claims if (done := claim.result()).claimed.assignment
    }
    for job in jobs:
        now = await desk.get(job.id)
        assert now.state is (JobState.ASSIGNED if job.id in given else JobState.CANCELLED)
        assert now.cancel_requested is (job.id in given)
    await desk.check_laws()
