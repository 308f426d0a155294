"""A world for an agent, one per test."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from chisel_agent import places, sandbox
from chisel_agent.launch import request_stop
from tests.agent.shims import Job
from tests.agent.tracing import Backend
from tests.agent.world import World, make_world
from tests.support.backends import Nats


@pytest.fixture
async def world(nats_server: Nats, tmp_path: Path) -> AsyncIterator[World]:
    async with make_world(nats_server, tmp_path) as made:
        yield made


COUNTED = "counted"
"""No group that ends anything, but one that counts memory and so lists its processes."""


def find_places(data_dir: Path, way: str) -> tuple[str, ...]:
    """Places for control groups of one kind; skips the test where the machine has no such."""
    found = places.find(data_dir, wanted=places.KILL if way == COUNTED else way)
    if way == COUNTED:
        sandbox.release(found[:-1])
        found = found[-1:] if found and "memory" in found[-1] else ()
    if way != places.OFF and not found:
        pytest.skip(f"this machine gives us no control groups for {way!r}")
    return found


@pytest.fixture(params=[places.KILL, places.FREEZE, places.OFF])
def job(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Job]:
    """A job to be run by a shim, with each way of keeping its processes together."""
    found = find_places(tmp_path, request.param)
    made = Job(tmp_path, found)
    yield made
    if made.process is not None and made.process.poll() is None:
        request_stop(made.folder, "user", at_once=True)
        made.process.wait(20)
    sandbox.sweep(found)  # of a test that failed, when its shim was killed
    sandbox.release(found)
    assert not any(os.path.exists(place) for place in found), "a control group is left"


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    """The job's folder."""
    folder = tmp_path / "traces"
    folder.mkdir()
    return folder
