"""The attempts of an agent together, without anything around them."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chisel_agent import journal
from chisel_agent.attempt import Attempt
from chisel_agent.attempts import Attempts
from chisel_agent.gpus import SimulatedGpus
from chisel_agent.journal import Fate, Phase
from chisel_agent.ports import Ports
from chisel_agent.services import Services
from chisel_agent.slots import Slots
from chisel_shared.contract.ids import AgentId, JobId, new_id
from chisel_shared.contract.messages import Assignment, AttemptRef
from tests.agent.facts import until
from tests.agent.test_journal import ASSIGNMENT


class Yard:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.slots = Slots(tuple(range(8)))
        self.ports = Ports()
        around: Any = SimpleNamespace(
            agent_id=AgentId("agent1"),
            streams=None,
            gateway=None,
            storage=None,
            cap=None,
            files_wait_seconds=0.0,
            reserve_bytes=0,
            gpus=SimulatedGpus(count=8),
            stuck_seconds=1.0,
        )
        services = cast("Services", around)
        self.attempts = Attempts(folder=folder, slots=self.slots, ports=self.ports, services=services)

    def assignment(self) -> Assignment:
        return Assignment(
            job_id=JobId(new_id()),
            attempt=1,
            project_id=ASSIGNMENT.project_id,
            spec=ASSIGNMENT.spec,
            gpu_count=1,
            lease_seconds=600,
        )


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path)


async def test_an_attempt_that_is_launched_while_others_are_given_back_stays(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Attempt] = []

    async def run(self: Attempt, fate: Fate | None) -> None:
        begun.append(self)
        try:
            await asyncio.Event().wait()
        finally:
            if self is begun[-1]:  # what ends it comes a moment after its launch
                self._write(phase=Phase.LAUNCHED)

    monkeypatch.setattr(Attempt, "run", run)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(2):
            yard.attempts.start(yard.assignment(), claimed_at=0.0, tasks=tasks)
        await until(lambda: len(begun) == 2)
        assert await yard.attempts.hand_back()
    assert yard.attempts.held == [begun[1].ref]
    assert [path.name for path in yard.folder.iterdir()] == [journal.folder_name(begun[1].ref)]


async def test_an_attempt_that_cannot_be_taken_on_holds_nothing(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal, "write", full)
    async with asyncio.TaskGroup() as tasks:
        with pytest.raises(OSError, match="No space"):
            yard.attempts.start(yard.assignment(), claimed_at=0.0, tasks=tasks)
    assert len(yard.slots.free) == 8
    assert not yard.ports._taken
    assert list(yard.folder.iterdir()) == []
    assert yard.attempts.held == []


def test_a_message_speaks_of_so_many_finished_attempts_and_then_of_others(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = [AttemptRef(job_id=JobId(new_id()), attempt=1) for _ in range(1200)]
    monkeypatch.setattr(Attempts, "finished", every)
    asked = [yard.attempts.finished_in_turn() for _ in range(4)]
    assert [len(refs) for refs in asked] == [500, 500, 200, 500]
    assert [ref for refs in asked[:3] for ref in refs] == every
