"""A world for an agent, one per test."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from chisel_agent import sandbox
from chisel_agent.launch import request_stop
from tests.agent.shims import Job
from tests.agent.world import World, make_world
from tests.support.backends import Nats


@pytest.fixture
async def world(nats_server: Nats, tmp_path: Path) -> AsyncIterator[World]:
    async with make_world(nats_server, tmp_path) as made:
        yield made


@pytest.fixture(params=["cgroup", "no cgroup"])
def job(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Job]:
    parent = sandbox.cgroup_parent(tmp_path) if request.param == "cgroup" else ""
    if request.param == "cgroup" and not parent:
        pytest.skip("this machine gives us no control groups")
    made = Job(tmp_path, parent)
    yield made
    if made.process is not None and made.process.poll() is None:
        request_stop(made.folder, "user", at_once=True)
        made.process.wait(20)
    if parent:
        sandbox.release(parent)
        assert not Path(parent).exists(), "a control group is left"
