"""Why a job waits, who is ahead of it and what is free, on a real Postgres."""

import pytest

from chisel_scheduler.store.queue import Queue
from chisel_shared.contract.errors import NotFound
from chisel_shared.contract.ids import ProjectId
from chisel_shared.contract.job import JobState
from chisel_shared.contract.messages import CancelJob, GetSpec, GpuKind, Why, WhyJob
from chisel_shared.contract.stops import Stop
from tests.scheduler.actors import PROJECT, USER, Desk, hello_of, ref, spec, submit_of


async def why(desk: Desk, job_id: str) -> Why:
    return await Queue(database=desk.database, pool="default").why(
        WhyJob(project_id=PROJECT, job_id=job_id, asked_by=USER), now=desk.now
    )


async def test_why_a_job_waits_names_who_is_ahead_and_who_holds_the_gpus(desk: Desk) -> None:
    await desk.hello(hello_of(gpus=8))
    running = await desk.bring_to(JobState.RUNNING, gpus=8, time_limit_seconds=3600.0)
    started = desk.now.timestamp()
    desk.pass_time(10)
    small = await desk.queue(1)
    stranger = await desk.submit(submit_of(spec(2, app_name="secret"), project="p2"))
    urgent = await desk.queue(8, priority=5)
    mine = await desk.queue(4)
    told = await why(desk, mine.id[:6])
    assert (told.job.id, told.position) == (mine.id, 4)
    assert told.waiting == told.job.waiting == (await desk.get(mine.id)).waiting
    assert told.waiting.startswith("3 jobs ahead; no agent with 4 free A100-80GB GPUs")
    assert [(job.id, job.app_name, job.gpu) for job in told.ahead] == [
        (urgent.id, "train", "A100-80GB:8"),
        (small.id, "train", "A100-80GB:1"),
        ("", "", "A100-80GB:2"),
    ]
    assert stranger.job.id not in str(told)
    (holder,) = told.holding
    assert (holder.id, holder.where, holder.since, holder.ends_by) == (
        running.job_id,
        "box-a1",
        started,
        started + 3600,
    )


async def test_a_job_that_does_not_wait_has_no_place_in_the_queue(desk: Desk) -> None:
    await desk.hello(hello_of())
    attempt = await desk.bring_to(JobState.RUNNING)
    told = await why(desk, attempt.job_id)
    assert told == Why(job=await desk.get(attempt.job_id))
    with pytest.raises(NotFound):
        await why(desk, "nothing")


async def test_gpus_by_model(desk: Desk) -> None:
    await desk.hello(hello_of("a1", 8))
    await desk.bring_to(JobState.RUNNING, gpus=4)
    await desk.hello(hello_of("a2", 4))
    await desk.hello(hello_of("a3", 2))
    await desk.hello(hello_of("b1", 4, model="H100-80GB"))
    await desk.renew(agent="a3", draining=True)
    await desk.fetch("update agents set state = 'offline' where id = 'b1'")
    await desk.queue(8)
    found = await Queue(database=desk.database, pool="default").gpus()
    assert found == (
        GpuKind(model="A100-80GB", total=12, free=8, largest_free=4, largest=8, agents=2, away=2, queued=1),
        GpuKind(model="H100-80GB", total=0, free=0, largest_free=0, largest=0, agents=0),
    )


async def test_a_spec_is_read_back_as_it_was_submitted(desk: Desk) -> None:
    await desk.hello(hello_of())
    wanted = spec(2, env={"A": "1"}, priority=3, retries=1, time_limit_seconds=60.0)
    job = (await desk.submit(submit_of(wanted))).job
    queue = Queue(database=desk.database, pool="default")
    assert await queue.spec(GetSpec(project_id=PROJECT, job_id=job.id)) == wanted
    with pytest.raises(NotFound):
        await queue.spec(GetSpec(project_id=ProjectId("p2"), job_id=job.id))


async def test_a_wish_to_end_a_job_is_kept_with_who_and_why(desk: Desk) -> None:
    await desk.hello(hello_of())
    attempt = await desk.bring_to(JobState.RUNNING)

    def wish(signal: str, who: str, reason: str = "", grace: float | None = None) -> CancelJob:
        stop = Stop(signal=signal, grace_seconds=grace)
        return CancelJob(
            project_id=PROJECT, job_id=attempt.job_id, requested_by=who, stop=stop, reason=reason
        )

    done = await desk.jobs.cancel(wish("USR1", "Ada", "too slow", 30.0), now=desk.now)
    assert (done.changed, done.stop) == (True, Stop(signal="USR1", grace_seconds=30.0))
    renewed = await desk.renew(attempt)
    assert (renewed.cancel, renewed.stops) == ((attempt,), (Stop(signal="USR1", grace_seconds=30.0),))
    # A second wish changes nothing, but the agent is told the first one again.
    done = await desk.jobs.cancel(wish("TERM", "Bob"), now=desk.now)
    assert (done.changed, done.stop) == (False, Stop(signal="USR1", grace_seconds=30.0))
    done = await desk.jobs.cancel(wish("KILL", "Bob", "no time"), now=desk.now)
    assert (done.changed, done.stop.signal) == (True, "KILL")
    assert (done.job.cancelled_by, done.job.cancel_reason) == ("Ada", "too slow")
    assert (await desk.progress(attempt, JobState.RUNNING))[0].stop.signal == "KILL"
    assert not (await desk.jobs.cancel(wish("KILL", "Bob"), now=desk.now)).changed
    await desk.check_laws()


async def test_a_queued_job_tells_who_ended_it_too(desk: Desk) -> None:
    await desk.hello(hello_of())
    job_id = (await desk.queue()).id
    ask = CancelJob(project_id=PROJECT, job_id=job_id, requested_by="Ada", reason="never mind")
    job = (await desk.jobs.cancel(ask, now=desk.now)).job
    assert (job.state, job.cancelled_by, job.cancel_reason) == (JobState.CANCELLED, "Ada", "never mind")


async def test_a_view_says_since_when_it_holds(desk: Desk) -> None:
    await desk.hello(hello_of())
    job_id = (await desk.queue()).id
    times = []
    for step in range(4):
        desk.pass_time(5)
        if step == 0:
            attempt = ref(await desk.take())
        elif step == 3:
            await desk.done(attempt)
        else:
            await desk.progress(attempt, (JobState.PREPARING, JobState.RUNNING)[step - 1])
        job = await desk.get(job_id)
        times.append(job.since - job.submitted_at)
    assert times == [5, 10, 15, 20]
