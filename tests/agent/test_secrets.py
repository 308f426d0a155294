"""Secrets of a job: in its variables byte for byte, and in no file of the agent's."""

import hashlib
import json
from pathlib import Path

import pytest

from chisel_shared.contract.job import EndReason
from tests.agent.facts import until
from tests.agent.world import SLEEP, World, folder_of, ready

VALUE = b"canary-5f1c \xff\xfe\n=\xc3\xa9 'x'"
HASHES = (
    "import hashlib, json, os\n"
    "found = {n.decode(): hashlib.sha256(v).hexdigest() for n, v in os.environb.items() if n[:2] == b'S_'}\n"
    "print(json.dumps(found), flush=True)\n"
)


def files_with(folder: Path, text: bytes) -> list[str]:
    """Every file below `folder` that has `text` in it, or in its name."""
    found = []
    for path in folder.rglob("*"):
        if text in bytes(path) or (path.is_file() and not path.is_symlink() and text in path.read_bytes()):
            found.append(str(path))
    return found


def sha(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()


async def test_values_arrive_byte_for_byte_and_lie_in_no_file(world: World) -> None:
    world.gateway.secrets = {"S_BYTES": VALUE, "S_LARGE": b"canary-5f1c" * 4_000, "S_OTHER": b"x" * 80_000}
    async with world.agent():
        wanted = dict.fromkeys(world.gateway.secrets, "ANY")
        ref = await world.scheduler.submit(world.python(HASHES + SLEEP, secrets=wanted))
        await ready(world, ref)
        assert files_with(world.data_dir, b"canary-5f1c") == []
        await world.scheduler.ask_to_cancel(ref)
        await world.scheduler.end_of(ref)
        assert files_with(world.data_dir, b"canary-5f1c") == []
    printed = (await world.output(ref))[0].splitlines()[0]
    assert json.loads(printed) == {name: sha(value) for name, value in world.gateway.secrets.items()}
    assert world.gateway.sessions == [world.scheduler.session]


async def test_a_job_that_wants_none_is_not_asked_for(world: World) -> None:
    world.gateway.secrets = {"S_A": VALUE}
    async with world.agent():
        ref = await world.scheduler.submit(world.python(HASHES))
        await world.scheduler.end_of(ref)
    assert (await world.output(ref))[0] == b"{}\n"
    assert world.gateway.sessions == []


async def test_a_restart_of_the_agent_leaves_a_running_job_its_variables(world: World) -> None:
    world.gateway.secrets = {"S_A": VALUE}
    code = "import os, time\nprint('ready', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.01)\n"
    async with world.agent():
        ref = await world.scheduler.submit(world.python(code + HASHES, secrets={"S_A": "A"}))
        await ready(world, ref)
    async with world.agent():
        (folder_of(world, ref) / "work" / "go").touch()
        assert (await world.scheduler.end_of(ref)).exit_code == 0
    assert json.loads((await world.output(ref))[0].splitlines()[1]) == {"S_A": sha(VALUE)}
    assert files_with(world.data_dir, b"canary-5f1c") == []


async def test_a_gateway_that_is_away_is_waited_for(world: World) -> None:
    world.gateway.secrets = {"S_A": VALUE}
    async with world.agent():
        ref = await world.scheduler.submit(world.python(HASHES, secrets={"S_A": "A"}))
        await world.scheduler.end_of(ref)
        world.gateway.refuse = True
        other = await world.scheduler.submit(world.python(HASHES, secrets={"S_A": "A"}))
        asked = len(world.gateway.asked)
        await until(lambda: any("/secrets/" in path for path in world.gateway.asked[asked:]))
        world.gateway.refuse = False
        assert (await world.scheduler.end_of(other)).exit_code == 0
    assert (await world.output(other))[0] == (await world.output(ref))[0]


async def test_a_secret_that_cannot_be_had_ends_the_job_with_a_sentence(world: World) -> None:
    world.gateway.no_secret = "this project has no secret A: chisel secret set A"
    async with world.agent():
        ref = await world.scheduler.submit(world.python(HASHES, secrets={"S_A": "A"}))
        end = await world.scheduler.end_of(ref)
    assert end.reason is EndReason.START
    assert end.detail == "this project has no secret A: chisel secret set A"
    assert (await world.output(ref))[0] == b""


async def test_what_installs_requirements_sees_none(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    files = {"requirements.txt": "chiselnowhere\n"}
    async with world.agent():
        spec = world.python(HASHES, files=files, requirements="requirements.txt", secrets={"S_A": "A"})
        end = await world.scheduler.end_of(await world.scheduler.submit(spec))
    assert end.reason is EndReason.DEPS
    assert world.gateway.sessions == [], "they are asked for when everything else is ready"
