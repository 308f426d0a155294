"""Operators' wishes as messages over a real bus, and what the agent and its pool hear of them."""

import asyncio
import logging
from datetime import UTC, datetime

import pytest

from chisel_scheduler.service import Scheduler
from chisel_shared.contract.errors import BadRequest, NotFound
from chisel_shared.contract.ids import AgentId, SessionId
from chisel_shared.contract.job import JobState
from chisel_shared.contract.messages import (
    CancelAttempt,
    Claim,
    CordonAgent,
    Done,
    DrainAgent,
    ListAgents,
    Progress,
    Renew,
    UncordonAgent,
    Wake,
)
from chisel_shared.contract.stops import Stop
from chisel_shared.runtime.bus import NatsBus
from tests.scheduler.actors import hello_of, spec, submit_of

AGENT, SESSION = AgentId("a1"), SessionId("s1")


def events(caplog: pytest.LogCaptureFixture, name: str) -> list[dict[str, object]]:
    """The fields of what was logged under this name."""
    return [record.__dict__["fields"] for record in caplog.records if record.getMessage() == name]


async def test_an_uncordoned_agents_pool_is_woken(
    scheduler: Scheduler, bus: NatsBus, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    woken: asyncio.Queue[str] = asyncio.Queue()

    async def wake(hint: Wake) -> None:
        await woken.put(hint.pool)

    await bus.subscribe(Wake, wake)
    await bus.flush()
    await bus.request(hello_of())
    view = await bus.request(CordonAgent(agent="box-a1", requested_by="Ada", reason="new driver"))
    assert (view.id, view.state) == (AGENT, "cordoned")
    assert (await bus.request(ListAgents())).agents == (view,)
    assert woken.empty()
    assert (await bus.request(UncordonAgent(agent="a", requested_by="Ada"))).state == "online"
    assert await woken.get() == "default"
    (told,) = events(caplog, "agent_cordoned")
    assert (told["agent_id"], told["by"], told["reason"]) == (AGENT, "Ada", "new driver")
    assert len(events(caplog, "agent_uncordoned")) == 1


async def test_nonsense_is_refused_over_the_bus(scheduler: Scheduler, bus: NatsBus) -> None:
    await bus.request(hello_of())
    with pytest.raises(BadRequest, match="the reason may have"):
        await bus.request(CordonAgent(agent="a1", requested_by="Ada", reason="a\nb"))
    with pytest.raises(BadRequest, match="deadline_seconds"):
        await bus.request(DrainAgent(agent="a1", requested_by="Ada", deadline_seconds=-1.0))
    with pytest.raises(NotFound):
        await bus.request(DrainAgent(agent="nobody", requested_by="Ada"))


async def test_what_a_drain_ends_its_agent_hears_at_once(scheduler: Scheduler, bus: NatsBus) -> None:
    told: asyncio.Queue[CancelAttempt] = asyncio.Queue()

    async def cancel(ask: CancelAttempt) -> Done:
        await told.put(ask)
        return Done()

    await bus.serve(CancelAttempt, cancel, agent_id=AGENT)
    await bus.flush()
    await bus.request(hello_of())
    job_id = (await bus.request(submit_of(spec()))).job.id
    await bus.request(Claim(agent_id=AGENT, session=SESSION, key="k", gpus_free=8))
    for state in (JobState.PREPARING, JobState.RUNNING):
        await bus.request(Progress(agent_id=AGENT, session=SESSION, job_id=job_id, attempt=1, state=state))
    view = await bus.request(DrainAgent(agent="a1", requested_by="Ada", deadline_seconds=0.0))
    assert (view.state, view.jobs) == ("draining", 1)
    await scheduler.reaper.run_once(datetime.now(UTC))
    heard = await told.get()
    assert (heard.job_id, heard.attempt, heard.stop) == (job_id, 1, Stop())


async def test_a_quarantine_is_logged_once_a_change_and_its_end_wakes_the_pool(
    scheduler: Scheduler, bus: NatsBus, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    woken: asyncio.Queue[str] = asyncio.Queue()

    async def wake(hint: Wake) -> None:
        await woken.put(hint.pool)

    await bus.subscribe(Wake, wake)
    await bus.flush()
    await bus.request(hello_of())
    for gpus, reason in ((0, ""), (2, "job x hangs"), (2, "job x hangs"), (0, ""), (0, "")):
        await bus.request(
            Renew(
                agent_id=AGENT, session=SESSION, attempts=(), gpus_quarantined=gpus, quarantine=reason
            )
        )  # fmt: skip
    told = events(caplog, "agent_quarantine")
    assert [(one["agent_id"], one["gpus"], one["reason"]) for one in told] == [
        (AGENT, 2, "job x hangs"),
        (AGENT, 0, ""),
    ]
    assert await woken.get() == "default"
