"""Claims on a real Postgres: policy, idempotency, and many at once."""

import asyncio

import pytest

from chisel_scheduler.store import claims, lanes
from chisel_shared.contract.errors import Stale
from chisel_shared.contract.job import JobState
from chisel_shared.contract.messages import AttemptRef
from tests.scheduler.actors import LEASE_SECONDS, Desk, hello_of, ref, spec


async def test_a_claim_carries_all_the_agent_needs(desk: Desk) -> None:
    await desk.hello(hello_of())
    job = await desk.queue(4, env={"A": "1"})
    given = await desk.take()
    assert (given.job_id, given.attempt, given.gpu_count) == (job.id, 1, 4)
    assert given.spec == spec(4, env={"A": "1"})
    assert given.lease_seconds == LEASE_SECONDS
    now = await desk.get(job.id)
    assert (now.state, now.attempt, now.agent_id, now.agent_name) == (JobState.ASSIGNED, 1, "a1", "box-a1")
    await desk.check_laws()


async def test_eight_gpus_hold_four_two_one_and_one(desk: Desk) -> None:
    await desk.hello(hello_of(gpus=8))
    queued = [await desk.queue(gpus) for gpus in (4, 2, 1, 1, 1)]
    given = [(await desk.take()).job_id for _ in range(4)]
    assert given == [job.id for job in queued[:4]]
    assert (await desk.claim()).claimed.assignment is None
    await desk.check_laws()


async def test_the_same_key_gets_the_same_answer(desk: Desk) -> None:
    await desk.hello(hello_of())
    await desk.queue()
    await desk.queue()
    first, again = await desk.claim(key="k"), await desk.claim(key="k")
    assert first.claimed == again.claimed
    assert (first.new, again.new) == (True, False)
    assert (await desk.claim(key="k2")).claimed != first.claimed
    await desk.check_laws()


async def test_a_key_that_found_nothing_may_find_something_later(desk: Desk) -> None:
    await desk.hello(hello_of())
    assert (await desk.claim(key="k")).claimed.assignment is None
    await desk.queue()
    assert (await desk.claim(key="k")).claimed.assignment is not None


async def test_a_key_whose_attempt_has_ended_starts_nothing(desk: Desk) -> None:
    await desk.hello(hello_of())
    await desk.queue()
    given = (await desk.claim(key="k")).claimed.assignment
    assert given is not None
    await desk.done(ref(given))
    assert (await desk.claim(key="k")).claimed.assignment is None


@pytest.mark.parametrize("agent", ["a1", "stranger"])
async def test_only_the_newest_session_claims(desk: Desk, agent: str) -> None:
    await desk.hello(hello_of(session="s1"))
    await desk.hello(hello_of(session="s2"))
    await desk.queue()
    with pytest.raises(Stale):
        await desk.claim(agent, session="s1")


async def test_an_agent_gets_no_more_than_it_says_is_free(desk: Desk) -> None:
    await desk.hello(hello_of(gpus=8))
    await desk.queue(4)
    assert (await desk.claim(gpus_free=2)).claimed.assignment is None
    assert (await desk.claim(gpus_free=4)).claimed.assignment is not None


async def test_a_draining_agent_gets_nothing(desk: Desk) -> None:
    await desk.hello(hello_of())
    await desk.queue()
    await desk.renew(draining=True)
    assert (await desk.claim()).claimed.assignment is None
    await desk.renew(draining=False)
    assert (await desk.claim()).claimed.assignment is not None


async def test_an_eight_gpu_job_never_lands_on_a_small_agent(desk: Desk) -> None:
    await desk.hello(hello_of("big", 8))
    await desk.hello(hello_of("small", 2))
    big, little = await desk.queue(8), await desk.queue(1)
    answer = await desk.claim("small")
    assert answer.claimed.assignment is not None
    assert answer.claimed.assignment.job_id == little.id
    assert answer.overtaken == (big.id,)
    assert (await desk.take("big")).job_id == big.id


async def test_the_better_place_is_waited_for_and_not_for_long(desk: Desk) -> None:
    await desk.hello(hello_of("big", 8))
    await desk.hello(hello_of("small", 1))
    desk.pass_time(3)
    await desk.queue(1)
    answer = await desk.claim("big")
    assert answer.claimed.assignment is None
    assert answer.claimed.ask_again_seconds == pytest.approx(1.0)
    desk.pass_time(answer.claimed.ask_again_seconds or 0)
    assert (await desk.claim("big")).claimed.assignment is not None


async def test_a_better_place_that_is_not_attentive_is_not_waited_for(desk: Desk) -> None:
    await desk.hello(hello_of("small", 1))
    desk.pass_time(8)
    await desk.hello(hello_of("big", 8))
    await desk.queue(1)
    assert (await desk.claim("big")).claimed.assignment is not None


async def test_many_claims_at_once_give_each_job_once(desk: Desk) -> None:
    """Ten agents, all asking at the same time, over more jobs than there is room for."""
    fleet = {f"a{n}": gpus for n, gpus in enumerate((8, 8, 4, 4, 2, 2, 1, 1, 1, 1))}
    for name, gpus in fleet.items():
        await desk.hello(hello_of(name, gpus))
    queued = [(await desk.queue(gpus)).id for gpus in (1, 2, 1, 4, 1, 8, 2, 1) * 4]
    desk.pass_time(2)  # past anybody's patience
    given: list[AttemptRef] = []

    async def work(agent: str) -> None:
        refused = 0
        while refused < 3:
            answer = (await desk.claim(agent)).claimed
            if answer.assignment is None:
                refused += 1
                continue
            given.append(ref(answer.assignment))
            if len(given) % 3 == 0:
                await desk.done(ref(answer.assignment), agent=agent)
            await desk.check_laws()

    for _ in range(4):
        async with asyncio.TaskGroup() as group:
            for agent in fleet:
                group.create_task(work(agent))
    taken = [attempt.job_id for attempt in given]
    assert len(taken) == len(set(taken))
    assert set(taken) <= set(queued)
    left = await desk.fetch("select gpu_count from jobs where state = 'queued'")
    room = await desk.fetch("select gpus_free from agents")
    assert not any(job["gpu_count"] <= agent["gpus_free"] for job in left for agent in room)
    await desk.check_laws()


async def test_repeated_claims_of_one_key_at_once_take_one_job(desk: Desk) -> None:
    await desk.hello(hello_of())
    for _ in range(4):
        await desk.queue()
    answers = await asyncio.gather(*(desk.claim(key="k") for _ in range(8)))
    assert len({answer.claimed.assignment.job_id for answer in answers if answer.claimed.assignment}) == 1
    assert sum(answer.new for answer in answers) == 1
    await desk.check_laws()


_FILL = """
insert into jobs (id, project_id, user_id, idempotency_key, spec, pool, gpu_model, gpu_count, priority,
    retries, state, submitted_at, queued_at)
select 'x' || n, 'p1', 'u1', 'x' || n, '{}', 'default', 'A100-80GB', 8, 0, 0,
    case when n % 2 = 0 then 'queued' else 'succeeded' end, now(), now()
from generate_series(1, 4000) n
"""


async def plan(desk: Desk, sentence: str, *values: str) -> str:
    for number, value in enumerate(values, start=1):
        sentence = sentence.replace(f"${number}", value)
    return "\n".join(row[0] for row in await desk.fetch(f"explain {sentence}"))


async def test_the_queue_is_read_by_index_only(desk: Desk) -> None:
    """Neither finished jobs nor the length of the queue are on the way of a claim or a question."""
    await desk.hello(hello_of(gpus=4))
    await desk.fetch(_FILL)
    await desk.fetch("analyze jobs")
    behind = await desk.queue(1)
    values = ("'default'", "'A100-80GB'", "''", "''", "0", "now()", "86400")
    for sentence in (*lanes._TO_WEIGH.values(), lanes._FOREMOST):
        read = await plan(desk, sentence, *values)
        assert "Seq Scan on jobs" not in read
        assert "ROW(user_id, project_id, gpu_count) > ROW(step.user_id" in read
        assert "(gpu_count = lane.gpu_count)" in read
        assert "Bitmap Heap Scan on jobs" not in read
    assert behind.waiting.startswith("more than 100 jobs ahead")
    assert (await desk.take()).job_id == behind.id


_FLEET = """
insert into agents (id, session, name, pool, gpu_model, gpus_total, gpus_held, free_since, state, draining,
    cordoned_at, last_seen)
select 'x' || n, 's', 'x' || n, 'default', 'A100-80GB', 8, n % 8, now(), 'online', n % 7 = 0,
    case when n % 5 = 0 then now() end, now()
from generate_series(1, 2000) n
"""


async def test_better_places_are_found_by_index_only(desk: Desk) -> None:
    """Neither the number of agents nor those that take no jobs are on the way of a claim."""
    await desk.fetch(_FLEET)
    await desk.fetch("analyze agents")
    read = await plan(desk, claims._NEIGHBOURS, "'default'", "'A100-80GB'", "8", "now()")
    assert "Seq Scan" not in read
    assert "agents_with_room" in read
