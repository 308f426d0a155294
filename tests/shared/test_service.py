"""The life of a service: ready, stop, drain, crash, bad settings."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chisel_shared.runtime.logs import Log
from chisel_shared.runtime.service import Service, every, supervise
from tests.support.processes import die_with_parent
from tests.support.waiting import until

PROGRAM = """\
import asyncio, sys
from contextlib import AsyncExitStack
from pydantic_settings import SettingsConfigDict
from chisel_shared.runtime.service import Service, serve
from chisel_shared.runtime.settings import ServiceSettings

class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="CHISEL_TOY_")
    way: str

class Toy(Service):
    def __init__(self, way: str) -> None:
        self.way = way
    async def run(self, ready: asyncio.Event) -> None:
        if self.way == "crash":
            raise RuntimeError("boom")
        ready.set()
        if self.way == "return":
            return
        await asyncio.Event().wait()
    async def drain(self) -> None:
        if self.way == "stuck":
            await asyncio.Event().wait()

async def build(settings: Settings, stack: AsyncExitStack) -> Service:
    stack.callback(lambda: sys.stderr.write('{"event": "closed"}\\n'))
    return Toy(settings.way)

serve("toy", Settings, build)
"""


def start(tmp_path: Path, **settings: str) -> subprocess.Popen[str]:
    program = tmp_path / "toy.py"
    program.write_text(PROGRAM)
    environment = {**os.environ, **{f"CHISEL_TOY_{name.upper()}": value for name, value in settings.items()}}
    return subprocess.Popen(
        [sys.executable, str(program)],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=die_with_parent,
    )


def wait_for(toy: subprocess.Popen[str], event: str) -> None:
    assert toy.stderr is not None
    for line in toy.stderr:
        if json.loads(line)["event"] == event:
            return
    pytest.fail(f"the service ended without saying {event}")


def rest(toy: subprocess.Popen[str]) -> list[str]:
    _, text = toy.communicate(timeout=20)
    return [json.loads(line)["event"] for line in text.splitlines()]


def test_asked_to_stop_it_drains_closes_and_exits_0(tmp_path: Path) -> None:
    toy = start(tmp_path, way="work")
    wait_for(toy, "ready")
    toy.send_signal(signal.SIGTERM)
    assert rest(toy) == ["stopping", "closed", "stopped"]
    assert toy.returncode == 0


def test_a_drain_that_hangs_is_cut_off(tmp_path: Path) -> None:
    toy = start(tmp_path, way="stuck", drain_seconds="0.1")
    wait_for(toy, "ready")
    toy.send_signal(signal.SIGTERM)
    assert rest(toy) == ["stopping", "drain_cut_off", "closed", "stopped"]
    assert toy.returncode == 0


def test_a_second_signal_forces_the_end(tmp_path: Path) -> None:
    toy = start(tmp_path, way="stuck", drain_seconds="60")
    wait_for(toy, "ready")
    toy.send_signal(signal.SIGTERM)
    wait_for(toy, "stopping")
    toy.send_signal(signal.SIGTERM)
    toy.communicate(timeout=20)
    assert toy.returncode == 1


@pytest.mark.parametrize("way", ["crash", "return"])
def test_an_end_nobody_asked_for_is_a_crash(tmp_path: Path, way: str) -> None:
    toy = start(tmp_path, way=way)
    assert rest(toy)[-2:] == ["closed", "crashed"]
    assert toy.returncode == 1


def test_bad_settings_are_named_and_exit_2(tmp_path: Path) -> None:
    toy = start(tmp_path)
    _, text = toy.communicate(timeout=20)
    assert toy.returncode == 2
    assert "CHISEL_TOY_WAY" in text


class Counting(Service):
    """Counts its lives and refuses to live twice at once."""

    def __init__(self) -> None:
        self.lives = 0
        self.alive = False
        self.drained = 0

    async def run(self, ready: asyncio.Event) -> None:
        assert not self.alive
        self.alive = True
        self.lives += 1
        ready.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.alive = False

    async def drain(self) -> None:
        self.drained += 1


async def test_starting_and_stopping_many_times_leaves_nothing() -> None:
    services = [Counting() for _ in range(10)]

    async def live(service: Counting) -> None:
        for _ in range(50):
            stop = asyncio.Event()
            asyncio.get_running_loop().call_soon(stop.set)
            await supervise(service, stop, drain_seconds=1)

    await asyncio.gather(*(live(service) for service in services))
    assert [(s.lives, s.drained, s.alive) for s in services] == [(50, 50, False)] * 10
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_periodic_work_survives_its_failures() -> None:
    from chisel_shared.runtime.logs import Log

    turns = 0
    thrice = asyncio.Event()

    async def work() -> None:
        nonlocal turns
        turns += 1
        if turns == 3:
            thrice.set()
        raise OSError("away")

    task = asyncio.create_task(every(0.001, work, log=Log("test"), name="work"))
    await thrice.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_failure_that_goes_on_is_said_once_and_another_at_once() -> None:
    outcomes = iter([OSError("away"), OSError("away"), ValueError("other"), None, ValueError("other")])

    async def work() -> None:
        if (outcome := next(outcomes, None)) is not None:
            raise outcome

    said: list[str] = []

    class Spy(Log):
        def warning(self, event: str, **fields: object) -> None:
            said.append(str(fields["error"]))

    task = asyncio.create_task(every(0.001, work, log=Spy("test"), name="work"))
    await until(lambda: len(said) == 3)
    task.cancel()
    assert said == ["OSError('away')", "ValueError('other')", "ValueError('other')"]
