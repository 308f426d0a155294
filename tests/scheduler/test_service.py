"""The scheduler as its peers meet it: messages over a real bus, tables in a real database."""

import asyncio
from contextlib import AsyncExitStack

import msgspec
import pytest

from chisel_scheduler.service import Scheduler, build
from chisel_scheduler.settings import SchedulerSettings
from chisel_shared.contract.errors import BadRequest, Forbidden, NoSuchGpus, NotFound, Stale, Unavailable
from chisel_shared.contract.ids import AgentId, JobId, SessionId
from chisel_shared.contract.job import EndReason, JobEnd, JobState, JobView
from chisel_shared.contract.messages import (
    AreYouAlive,
    AttemptDone,
    CancelAttempt,
    CancelJob,
    Claim,
    Claimed,
    Done,
    GetAttempt,
    GetJob,
    JobChanged,
    ListAgents,
    ListJobs,
    ListUnarchived,
    MarkArchived,
    Progress,
    Renew,
    Wake,
    mark_of,
)
from chisel_shared.runtime.bus import NatsBus
from chisel_shared.runtime.service import supervise
from tests.scheduler.actors import EXIT_0, PROJECT, hello_of, ref, spec, submit_of

AGENT, SESSION = AgentId("a1"), SessionId("s1")


def claim_of(key: str) -> Claim:
    return Claim(agent_id=AGENT, session=SESSION, key=key, gpus_free=8)


async def test_a_job_from_submission_to_archive(scheduler: Scheduler, bus: NatsBus) -> None:
    heard: asyncio.Queue[JobView] = asyncio.Queue()
    woken: asyncio.Queue[str] = asyncio.Queue()

    async def changed(event: JobChanged) -> None:
        await heard.put(event.job)

    async def wake(hint: Wake) -> None:
        await woken.put(hint.pool)

    await bus.subscribe(JobChanged, changed)
    await bus.subscribe(Wake, wake)
    await bus.flush()
    await bus.request(hello_of())
    submitted = await bus.request(submit_of(spec(2)))
    job_id = submitted.job.id
    assert await woken.get() == "default"
    given = (await bus.request(claim_of("k1"))).assignment
    assert given is not None
    for state in (JobState.PREPARING, JobState.RUNNING):
        await bus.request(Progress(agent_id=AGENT, session=SESSION, job_id=job_id, attempt=1, state=state))
    renewed = await bus.request(Renew(agent_id=AGENT, session=SESSION, attempts=(ref(given),)))
    assert renewed.renewed == (ref(given),)
    (agent,) = (await bus.request(ListAgents())).agents
    assert (agent.name, agent.state, agent.gpus_total, agent.gpus_free) == ("box-a1", "online", 8, 6)
    done = AttemptDone(agent_id=AGENT, session=SESSION, job_id=job_id, attempt=1, end=EXIT_0)
    assert await bus.request(done) == await bus.request(done)
    attempt = await bus.request(GetAttempt(job_id=job_id, attempt=1))
    assert (attempt.agent_id, attempt.project_id, attempt.end) == (AGENT, PROJECT, EXIT_0)
    assert (await bus.request(ListUnarchived())).attempts == (attempt,)
    await bus.request(MarkArchived(job_id=job_id, attempt=1))
    views = [await heard.get() for _ in range(6)]
    assert [view.version for view in views] == [1, 2, 3, 4, 5, 6]
    assert [view.state for view in views[:5]] == ["queued", "assigned", "preparing", "running", "succeeded"]
    assert views[-1].archived
    assert await bus.request(GetJob(project_id=PROJECT, job_id=job_id[:6])) == views[-1]
    assert (await bus.request(ListJobs(project_id=PROJECT))).jobs == (views[-1],)


async def test_a_cancel_reaches_the_agent_at_once(scheduler: Scheduler, bus: NatsBus) -> None:
    told: asyncio.Queue[CancelAttempt] = asyncio.Queue()

    async def cancel(ask: CancelAttempt) -> Done:
        await told.put(ask)
        return Done()

    await bus.serve(CancelAttempt, cancel, agent_id=AGENT)
    await bus.flush()
    await bus.request(hello_of())
    job = (await bus.request(submit_of(spec()))).job
    await bus.request(claim_of("k1"))
    answer = await bus.request(CancelJob(project_id=PROJECT, job_id=job.id, requested_by="u1"))
    assert (answer.state, answer.cancel_requested) == (JobState.ASSIGNED, True)
    assert await told.get() == CancelAttempt(agent_id=AGENT, job_id=job.id, attempt=1)


async def test_an_agent_that_refuses_a_cancel_harms_nobody(scheduler: Scheduler, bus: NatsBus) -> None:
    refused = asyncio.Event()

    async def refuse(ask: CancelAttempt) -> Done:
        refused.set()
        raise Forbidden

    await bus.serve(CancelAttempt, refuse, agent_id=AGENT)
    await bus.request(hello_of())
    job_id = (await bus.request(submit_of(spec()))).job.id
    await bus.request(claim_of("k1"))
    asked = CancelJob(project_id=PROJECT, job_id=job_id, requested_by="u1")
    await bus.request(asked)
    await refused.wait()
    for _ in range(2):  # the first may be answered while the refusal is still on its way
        assert (await bus.request(asked)).cancel_requested


async def test_a_cancel_is_answered_although_the_agent_is_silent(scheduler: Scheduler, bus: NatsBus) -> None:
    await bus.request(hello_of())
    job = (await bus.request(submit_of(spec()))).job
    given = (await bus.request(claim_of("k1"))).assignment
    assert given is not None
    async with asyncio.timeout(1):
        await bus.request(CancelJob(project_id=PROJECT, job_id=job.id, requested_by="u1"))
    renewed = await bus.request(Renew(agent_id=AGENT, session=SESSION, attempts=(ref(given),)))
    assert renewed.cancel == (ref(given),)


async def test_lost_work_wakes_the_pool(scheduler: Scheduler, bus: NatsBus) -> None:
    await bus.request(hello_of())
    await bus.request(submit_of(spec()))
    await bus.request(claim_of("k1"))
    woken: asyncio.Queue[str] = asyncio.Queue()

    async def wake(hint: Wake) -> None:
        await woken.put(hint.pool)

    await bus.subscribe(Wake, wake)
    await bus.flush()
    await bus.request(hello_of(session="s2"))
    assert await woken.get() == "default"


async def test_refusals_cross_the_bus_as_themselves(scheduler: Scheduler, bus: NatsBus) -> None:
    with pytest.raises(NoSuchGpus, match="no agent has ever joined"):
        await bus.request(submit_of(spec()))
    await bus.request(hello_of(gpus=2))
    with pytest.raises(NoSuchGpus, match=r"the largest has 2 \(agent box-a1\)"):
        await bus.request(submit_of(spec(8)))
    with pytest.raises(BadRequest, match="1, 2, 4, 8"):
        await bus.request(submit_of(spec(3)))
    with pytest.raises(BadRequest, match="idempotency_key"):
        await bus.request(submit_of(spec(), key="a\nb"))
    with pytest.raises(NotFound):
        await bus.request(GetJob(project_id=PROJECT, job_id="nothing"))
    with pytest.raises(Stale):
        await bus.request(msgspec.structs.replace(claim_of("k"), session=SessionId("s9")))
    end = JobEnd(reason=EndReason.EXIT, exit_code=0)
    with pytest.raises(Stale):
        await bus.request(AttemptDone(agent_id=AGENT, session=SESSION, job_id=JobId("x"), attempt=1, end=end))
    done = Progress(agent_id=AGENT, session=SESSION, job_id=JobId("x"), attempt=1, state=JobState.SUCCEEDED)
    with pytest.raises(BadRequest, match="cannot report"):
        await bus.request(done)


async def test_an_agent_speaks_for_itself_only(scheduler: Scheduler, bus: NatsBus) -> None:
    payload = msgspec.json.encode(claim_of("k"))
    answer = await bus.client.request("rpc.sched.other.claim", payload, timeout=5)
    assert (answer.headers or {})["Chisel-Error"] == Forbidden.code


async def test_claims_at_once_over_the_bus_give_each_job_once(scheduler: Scheduler, bus: NatsBus) -> None:
    await bus.request(hello_of(gpus=8))
    jobs = [(await bus.request(submit_of(spec()))).job.id for _ in range(8)]
    answers: list[Claimed] = await asyncio.gather(*(bus.request(claim_of(f"k{n}")) for n in range(12)))
    given = [answer.assignment.job_id for answer in answers if answer.assignment]
    assert sorted(given) == sorted(jobs)


async def test_two_schedulers_share_the_work(
    scheduler: Scheduler, settings: SchedulerSettings, bus: NatsBus
) -> None:
    async with AsyncExitStack() as stack:
        second = await build(settings, stack)
        ready = asyncio.Event()
        running = asyncio.create_task(second.run(ready))
        await ready.wait()
        await bus.request(hello_of(gpus=8))
        asks = [submit_of(spec(), key=f"k{n}") for n in range(8)]
        jobs = await asyncio.gather(*(bus.request(ask) for ask in [*asks, *asks]))
        assert len({answer.job.id for answer in jobs}) == 8
        answers = await asyncio.gather(*(bus.request(claim_of(f"k{n}")) for n in range(16)))
        given = [answer.assignment.job_id for answer in answers if answer.assignment]
        assert sorted(given) == sorted({answer.job.id for answer in jobs})
        await second.drain()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_it_starts_and_stops_many_times(settings: SchedulerSettings, bus: NatsBus) -> None:
    async def once() -> None:
        async with AsyncExitStack() as stack:
            service = await build(settings, stack)
            stop = asyncio.Event()
            stop.set()
            await supervise(service, stop, drain_seconds=5)

    for _ in range(3):
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(once())
    with pytest.raises(Unavailable, match="nobody answers"):
        await bus.request(ListAgents())


async def test_a_session_is_not_ended_by_another_process_while_its_own_is_alive(
    scheduler: Scheduler, bus: NatsBus
) -> None:
    asked: list[str] = []

    async def alive(ask: AreYouAlive) -> Done:
        asked.append(ask.mark)
        return Done()

    await bus.request(hello_of(session="s1"))
    answering = await bus.serve(AreYouAlive, alive, agent_id=AGENT, mark=mark_of(SessionId("s1")))
    await bus.flush()
    with pytest.raises(Unavailable, match="same credentials"):
        await bus.request(hello_of(session="s2"))
    await bus.request(Renew(agent_id=AGENT, session=SessionId("s1"), attempts=()))
    assert asked == [mark_of(SessionId("s1"))]
    await bus.request(hello_of(session="s1"))
    await bus.request(msgspec.structs.replace(hello_of(session="s3"), replaces=SessionId("s1")))
    await answering.unsubscribe()
    await bus.flush()
    await bus.request(hello_of(session="s4"))
    assert len(asked) == 1, "neither a repeated hello nor one of the same process has anybody asked"
