"""Fair share, quotas and reservations on a real Postgres: as claims meet them, and as people are told."""

import asyncio
import itertools
import random
from datetime import timedelta

import pytest

from chisel_scheduler.explain import MOST_COUNTED
from chisel_scheduler.fairshare import Usage, accrued, level
from chisel_scheduler.placement import ALL_ONES, FEW_ONES, most_weighed, ordered
from chisel_scheduler.rules import DEFAULT_RULES, HALF_LIFE_SECONDS
from chisel_scheduler.store import lanes as lanes_store
from chisel_scheduler.store.ahead import count_ahead
from chisel_scheduler.store.lanes import (
    MOST_LANES,
    MOST_NAMED,
    Lane,
    foremost,
    lane_of,
    lanes,
    to_weigh,
)
from chisel_scheduler.store.queue import Queue
from chisel_scheduler.store.shares import Shares
from chisel_shared.contract.errors import NotFound, OverQuota
from chisel_shared.contract.job import JobState, JobView
from chisel_shared.contract.messages import AttemptRef, ListJobs, RemoveQuota, SetQuota, Why, WhyJob
from chisel_shared.runtime.db import Connection
from tests.scheduler.actors import PROJECT, START, USER, Desk, hello_of, ref, spec, submit_of

POOL, MODEL = "default", "A100-80GB"
RESERVE_AFTER = DEFAULT_RULES.reserve_after_seconds


async def quota(
    desk: Desk, gpus: int | None = None, *, user: str = USER, kind: str = "user", weight: float = 1.0
) -> None:
    ask = SetQuota(kind=kind, id=user, name=user.upper(), set_by="root", gpus=gpus, weight=weight)
    await Shares(database=desk.database, rules=DEFAULT_RULES).set(ask, now=desk.now)


async def submit(desk: Desk, user: str, gpus: int = 1, *, project: str = PROJECT, **more: object) -> JobView:
    return (await desk.submit(submit_of(spec(gpus, **more), user=user, project=project))).job


async def why(desk: Desk, job_id: str, *, asked_by: str = USER) -> Why:
    queue = Queue(database=desk.database, pool=POOL)
    return await queue.why(WhyJob(project_id=PROJECT, job_id=job_id, asked_by=asked_by), now=desk.now)  # type: ignore[arg-type]


async def claimed(desk: Desk, agent: str = "a1") -> str | None:
    given = (await desk.claim(agent)).claimed.assignment
    return given.job_id if given is not None else None


# Fair share


async def test_who_holds_less_goes_first(desk: Desk) -> None:
    await desk.hello(hello_of(gpus=8))
    first, second = await submit(desk, "ada"), await submit(desk, "ada")
    bobs = await submit(desk, "bob")
    assert [await claimed(desk) for _ in range(3)] == [first.id, bobs.id, second.id]
    await desk.check_laws()


async def test_twice_the_weight_is_twice_the_gpus(desk: Desk) -> None:
    await desk.hello(hello_of(gpus=8))
    await quota(desk, user="ada", weight=2.0)
    mine = {(await submit(desk, "ada")).id for _ in range(6)}
    for _ in range(6):
        await submit(desk, "bob")
    given = [await claimed(desk) for _ in range(6)]
    assert len(mine & set(given)) == 4


async def test_a_projects_weight_is_that_of_its_users(desk: Desk) -> None:
    await desk.hello(hello_of(gpus=8))
    await quota(desk, user="p2", kind="project", weight=3.0)
    await submit(desk, "ada", 2)
    await submit(desk, "bob", 4, project="p2")
    assert {await claimed(desk), await claimed(desk)} != {None}
    adas, bobs = await submit(desk, "ada"), await submit(desk, "bob", project="p2")
    assert [await claimed(desk), await claimed(desk)] == [bobs.id, adas.id]


async def test_what_was_had_is_remembered_and_fades(desk: Desk) -> None:
    await desk.hello(hello_of(gpus=8))
    await submit(desk, "ada", 8)
    desk.pass_time(5)
    run = ref(await desk.take())
    desk.pass_time(3_600)
    await desk.done(run)
    (user, project) = await desk.fetch("select * from usage order by kind desc")
    had = accrued(8, 3_600, half_life_seconds=HALF_LIFE_SECONDS)
    assert (user["id"], user["gpus_held"], user["gpu_seconds"]) == ("ada", 0, pytest.approx(had))
    assert (project["id"], project["gpu_seconds"]) == (PROJECT, pytest.approx(had))
    adas, bobs = await submit(desk, "ada"), await submit(desk, "bob")
    assert [await claimed(desk), await claimed(desk)] == [bobs.id, adas.id]
    await desk.check_laws()


async def test_a_lost_attempt_gives_back_what_it_held(desk: Desk) -> None:
    await desk.hello(hello_of(gpus=8))
    await quota(desk, 4)
    run = await desk.bring_to(JobState.RUNNING, gpus=4)
    waits = await desk.queue(4)
    assert await claimed(desk) is None
    await desk.lose(run)
    assert await claimed(desk) == waits.id
    await desk.check_laws()


# Quotas


async def test_over_its_quota_a_job_waits_and_is_in_nobodys_way(desk: Desk) -> None:
    await desk.hello(hello_of(gpus=8))
    await quota(desk, 4, user="ada")
    first, second = await submit(desk, "ada", 4), await submit(desk, "ada", 2)
    assert await claimed(desk) == first.id
    bobs = await submit(desk, "bob", 4)
    assert await claimed(desk) == bobs.id
    assert await claimed(desk) is None
    told = await why(desk, second.id, asked_by="ada")
    assert (told.waiting, told.position, told.ahead) == ("your quota of 4 GPUs is in use", None, ())
    (listed,) = await desk.jobs.listing(ListJobs(project_id=PROJECT, limit=1), now=desk.now)
    assert listed.id == bobs.id
    named = await why(desk, second.id, asked_by="bob")
    assert named.waiting == "the quota of ADA of 4 GPUs is in use"
    await desk.check_laws()


async def test_a_projects_quota_bounds_all_its_users_together(desk: Desk) -> None:
    await desk.hello(hello_of(gpus=8))
    await quota(desk, 6, user=PROJECT, kind="project")
    await submit(desk, "ada", 4)
    await submit(desk, "bob", 4)
    outside = await submit(desk, "bob", 1, project="p2")
    assert await claimed(desk) is not None
    assert await claimed(desk) == outside.id
    assert await claimed(desk) is None
    (left,) = await desk.fetch("select id from jobs where state = 'queued'")
    assert (await why(desk, left["id"])).waiting == "the quota of project P1 of 6 GPUs has 2 left"
    await quota(desk, None, user=PROJECT, kind="project")
    assert await claimed(desk) is None  # three GPUs are free
    await desk.check_laws()


async def test_many_claims_at_once_never_exceed_a_quota(desk: Desk) -> None:
    for number in range(6):
        await desk.hello(hello_of(f"a{number}", 8))
    await quota(desk, 10)
    for gpus in (4, 2, 1, 4, 2, 1, 4, 2, 1, 8):
        await desk.queue(gpus)
    desk.pass_time(2)
    for _ in range(3):
        await asyncio.gather(*(desk.claim(f"a{number}") for number in range(6)))
        (held,) = await desk.fetch("select gpus_held from usage where kind = 'user'")
        assert held["gpus_held"] <= 10
        await desk.check_laws()
    assert held["gpus_held"] >= 9


@pytest.mark.parametrize(("kind", "who"), [("user", USER), ("project", PROJECT)])
async def test_a_job_larger_than_the_quota_is_refused_by_name(desk: Desk, kind: str, who: str) -> None:
    await desk.hello(hello_of(gpus=8))
    await quota(desk, 4, user=who, kind=kind)
    with pytest.raises(OverQuota, match=r"4 GPUs at once and this job wants 8.*chisel admin quota set"):
        await desk.queue(8)
    assert await desk.fetch("select * from jobs") == []
    waits = await desk.queue(4)
    await quota(desk, 2, user=who, kind=kind)
    assert (await desk.get(waits.id)).waiting.endswith(
        "of 2 GPUs is smaller than this job; an admin can raise it"
    )
    assert await claimed(desk) is None


async def test_quotas_are_listed_changed_and_forgotten(desk: Desk) -> None:
    shares = Shares(database=desk.database, rules=DEFAULT_RULES)
    await desk.hello(hello_of(gpus=8))
    await desk.bring_to(JobState.RUNNING, gpus=2)
    await quota(desk, 8, weight=2.0)
    only_weight = SetQuota(kind="user", id=USER, name="ADA", set_by="root", weight=3.0)
    view = await shares.set(only_weight, now=desk.now)
    assert (view.name, view.gpus, view.weight, view.gpus_held) == ("ADA", 8, 3.0, 2)
    assert await shares.listing(now=desk.now) == (view,)
    gone = RemoveQuota(kind="user", id=USER, name="ADA", removed_by="root")
    await shares.remove(gone)
    with pytest.raises(NotFound, match="nothing is set for user ADA"):
        await shares.remove(gone)


# Reservations


async def filled(desk: Desk, agent: str, *sizes: int, limit: float | None = None) -> None:
    """An agent of eight GPUs that runs jobs of these sizes."""
    await desk.hello(hello_of(agent, 8))
    for gpus in sizes:
        await submit(desk, "filler", gpus, time_limit_seconds=limit)
        desk.pass_time(2)  # past the patience for a better place
        run = ref(await desk.take(agent))
        for state in (JobState.PREPARING, JobState.RUNNING):
            await desk.progress(run, state, agent)


async def test_a_blocked_large_job_gets_an_agent_to_itself(desk: Desk) -> None:
    await filled(desk, "a1", 4, 1)
    big = await submit(desk, "ada", 8)
    small = await submit(desk, "bob")
    desk.pass_time(RESERVE_AFTER - 1)
    assert await claimed(desk) == small.id
    desk.pass_time(1)
    other = await submit(desk, "bob")
    desk.pass_time(2)
    assert await claimed(desk) is None
    assert (await why(desk, big.id)).waiting == "reserved on box-a1, free when 6 more GPUs are"
    assert (await why(desk, other.id)).waiting == "1 job ahead; box-a1 is kept for a job of 8 GPUs"
    for row in await desk.fetch("select job_id, attempt from attempts where ended_at is null"):
        await desk.done(AttemptRef(**row))
    assert await claimed(desk) == big.id
    await desk.check_laws()


async def test_what_surely_ends_before_may_start(desk: Desk) -> None:
    await filled(desk, "a1", 4, limit=900.0)
    big = await submit(desk, "ada", 8)
    desk.pass_time(RESERVE_AFTER)
    endless, late = await submit(desk, "bob"), await submit(desk, "bob", time_limit_seconds=815.0)
    short = await submit(desk, "bob", time_limit_seconds=600.0)
    desk.pass_time(2)
    assert (await why(desk, big.id)).waiting.endswith("reserved on box-a1, free in at most 14 min")
    assert "with --time-limit 13m this one could run before it" in (await why(desk, endless.id)).waiting
    assert await claimed(desk) == short.id
    assert await claimed(desk) is None
    assert late.id in {row["id"] for row in await desk.fetch("select id from jobs where state = 'queued'")}


@pytest.mark.parametrize("end", ["cancelled", "gone", "stopping", "over quota"])
async def test_a_reservation_ends_with_what_it_stands_on(desk: Desk, end: str) -> None:
    """It is derived from rows: whatever ends it, the GPUs it kept are free at the next claim."""
    await filled(desk, "a1", 4)
    await filled(desk, "a2", 4, 4)
    big = await submit(desk, "ada", 8)
    desk.pass_time(RESERVE_AFTER + 2)
    small = await submit(desk, "bob")
    assert await claimed(desk) is None
    match end:
        case "cancelled":
            await desk.fetch("update jobs set user_id = $1 where id = $2", USER, big.id)
            await desk.cancel(big.id)
        case "gone":
            await desk.agents.note_silence(
                unreachable_before=desk.now + timedelta(seconds=1),
                offline_before=desk.now - timedelta(days=1),
                forget_before=desk.now - timedelta(days=1),
            )
            await desk.renew(agent="a2")
            assert (await why(desk, big.id)).waiting.count("reserved on box-a2") == 1
            return
        case "stopping":
            await desk.renew(agent="a1", draining=True)
            assert (await why(desk, big.id)).waiting.count("reserved on box-a2") == 1
            return
        case "over quota":
            await quota(desk, 4, user="ada")
    assert await claimed(desk) == small.id


async def test_an_agent_that_does_not_take_what_fits_is_kept_no_longer(desk: Desk) -> None:
    """It has GPUs that it gives to nobody and has not said so yet: others must not wait for it for ever."""
    await desk.hello(hello_of("a1", 8))
    await submit(desk, "ada", 8)
    desk.pass_time(RESERVE_AFTER + 40)
    small = await submit(desk, "bob")
    answer = await desk.claim("a1", gpus_free=7)
    assert answer.claimed.assignment is not None
    assert answer.claimed.assignment.job_id == small.id


async def test_the_queue_in_its_order_is_read_exactly(desk: Desk) -> None:
    """Against the whole queue sorted: lanes of many lengths, levels and priorities."""
    chance, lengths = random.Random(5), itertools.cycle((0, 1, 9, 40, 3))
    await desk.hello(hello_of(gpus=8))
    for user in range(12):
        for gpus in (1, 2):
            for _ in range(next(lengths)):
                await submit(desk, f"u{user}", gpus, priority=chance.choice((0, 0, 0, 1)))
        if user % 3:
            held = chance.choice((0, 2, 5))
            await desk.fetch(
                "insert into usage (kind, id, gpus_held, counted_at) values ('user', $1, $2, now())",
                f"u{user}", held,
            )  # fmt: skip

    async def read(c: Connection) -> None:
        found = await lanes(c, POOL, MODEL, desk.now, rules=DEFAULT_RULES)
        levels = {lane.user_id: lane.level for lane in found}
        rows = await c.fetch("select * from jobs where state = 'queued'")
        whole = ordered(lanes_store.waiting_of(row, levels[row["user_id"]]) for row in rows)
        assert len(whole) > 120
        assert await foremost(c, POOL, MODEL, desk.now, rules=DEFAULT_RULES) == whole[:MOST_NAMED]
        for ones in (ALL_ONES, FEW_ONES):
            weighed, more = await to_weigh(c, POOL, MODEL, desk.now, rules=DEFAULT_RULES, ones=ones)
            assert more is None
            for gpus in (1, 2):
                of_size = [job for job in whole if job.gpu_count == gpus]
                most = ones if gpus == 1 else most_weighed(gpus)
                assert [job for job in weighed if job.gpu_count == gpus] == of_size[:most]
        counted = await count_ahead(c, POOL, MODEL, found, whole)
        for place, (ahead, lighter) in enumerate(counted[: MOST_COUNTED + 1]):
            assert ahead == place
            job = whole[place]
            assert lighter == sum(
                other.order > job.order and other.priority == job.priority for other in whole[:place]
            )
        assert {ahead for ahead, _ in counted[MOST_COUNTED + 1 :]} == {MOST_COUNTED + 1}

    await desk.database.run(read)


@pytest.fixture
def three_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many are read at once."""
    few = {
        ones: sentence.replace(f"number < {MOST_LANES}", "number < 3").replace(
            f"number = {MOST_LANES}", "number = 3"
        )
        for ones, sentence in lanes_store._TO_WEIGH.items()
    }
    monkeypatch.setattr(lanes_store, "_TO_WEIGH", few)


async def test_more_lanes_than_are_read_at_once_come_in_turns(desk: Desk, three_lanes: None) -> None:
    await desk.hello(hello_of(gpus=8))
    queued = {(await submit(desk, f"u{number}")).id for number in range(8)}
    assert {await claimed(desk) for _ in range(8)} == queued


async def test_lanes_of_which_nothing_may_start_hide_none_behind_them(desk: Desk, three_lanes: None) -> None:
    await desk.hello(hello_of(gpus=8))
    await desk.hello(hello_of("a2", 2))
    for number in range(7):
        await submit(desk, f"u{number}", gpus=4)
    small = await submit(desk, "u8")
    assert await claimed(desk, "a2") == small.id
    assert await claimed(desk, "a2") is None
    smaller = await submit(desk, "u0")
    assert await claimed(desk, "a2") == smaller.id


async def test_levels_and_quotas_in_the_database_are_those_of_policy(desk: Desk) -> None:
    chance = random.Random(3)
    desk.now = START + timedelta(days=100)
    await desk.hello(hello_of(gpus=8))
    for user in range(40):
        held, had = chance.choice((0, 3)), chance.choice((0.0, 1e-9, 5e6))
        counted = desk.now - timedelta(seconds=chance.choice((-60, 0, 1e3, 1e5, 8e6)))
        await desk.fetch(
            "insert into usage (kind, id, gpus_held, gpu_seconds, counted_at)"
            " values ('user', $1, $2, $3, $4)",
            f"u{user}", held, had, counted,
        )  # fmt: skip
        weight, weight_of_project = chance.choice((0.5, 2.0)), chance.choice((1.0, 3.0))
        await quota(desk, 4, user=f"u{user}", weight=weight)
        await quota(desk, user="p1", kind="project", weight=weight_of_project)
        usage = Usage(gpus_held=held, gpu_seconds=had, counted_at=counted)
        expected = level(
            usage, desk.now, half_life_seconds=HALF_LIFE_SECONDS, weight=weight * weight_of_project
        )

        async def read(c: Connection, user: int = user) -> Lane:
            return await lane_of(c, f"u{user}", "p1", 2, desk.now, rules=DEFAULT_RULES)

        lane = await desk.database.run(read)
        assert lane.level == pytest.approx(expected, abs=1e-9)
        assert lane.admitted is (held + 2 <= 4)
        job = await submit(desk, f"u{user}", 2)
        told = (await why(desk, job.id)).waiting
        assert ("quota" in told) is not lane.admitted
