"""Starting shims from the factory, and what happens when somebody kills it."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chisel_agent import places, sandbox
from chisel_agent.launch import (
    ColdLauncher,
    Exit,
    Plan,
    is_running,
    make_spools,
    read_exit,
    request_stop,
    write_exit,
    write_plan,
)
from chisel_shared.contract.ids import new_id
from tests.agent.facts import alive, until
from tests.support import hydra


class Yard:
    """A launcher and folders to launch."""

    def __init__(self, root: Path, found: tuple[str, ...]) -> None:
        self.root = root
        self.launcher = ColdLauncher(python=Path(sys.executable), env={}, places=found, log_file=root / "log")

    def folder(self, code: str) -> Path:
        folder = self.root / "attempts" / f"{new_id()}.1"
        folder.mkdir(parents=True)
        argv = (sys.executable, "-c", code)
        write_plan(folder, Plan(argv=argv, env={"PATH": "/usr/bin:/bin"}, cwd=folder))
        make_spools(folder)
        return folder

    def factory_and_spare(self) -> list[int]:
        """The factory's process, and its forks that have no job."""
        factory = self.launcher._pid
        stats = {int(n): Path(f"/proc/{n}/stat") for n in os.listdir("/proc") if n.isdigit()}
        children = [pid for pid, stat in stats.items() if alive(pid) and parent_of(stat) == factory]
        return [factory, *(pid for pid in children if not os.readlink(f"/proc/{pid}/cwd").endswith(".1"))]


def parent_of(stat: Path) -> int:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


@pytest.fixture(params=[places.AUTO])
async def yard(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Yard]:
    found = places.find(tmp_path, wanted=request.param)
    made = Yard(tmp_path, found)
    made.launcher.open()
    yield made
    left = made.factory_and_spare()
    made.launcher.close()
    await until(lambda: not any(alive(pid) for pid in left))
    # A factory that had just begun may have forked a spare since we looked: it goes by itself.
    await until(lambda: swept(found))
    assert (tmp_path / "log").read_text() == ""


def swept(found: tuple[str, ...]) -> bool:
    """Clean up as the next agent does; whether nothing is left."""
    sandbox.sweep(found)
    sandbox.release(found)
    return not any(os.path.exists(place) for place in found)


async def test_many_at_once(yard: Yard) -> None:
    folders = [yard.folder(f"print({n})") for n in range(8)]
    for folder in folders:
        yard.launcher.launch(folder)
        assert is_running(folder)
    for n, folder in enumerate(folders):
        await until(lambda folder=folder: not is_running(folder))  # type: ignore[misc]
        assert read_exit(folder) == Exit(reason="exit", exit_code=0, stdout_bytes=2)
        assert (folder / "stdout").read_text() == f"{n}\n"


async def test_twice_starts_once(yard: Yard) -> None:
    folder = yard.folder("print('once')")
    yard.launcher.launch(folder)
    yard.launcher.launch(folder)
    await until(lambda: not is_running(folder))
    yard.launcher.launch(folder)
    await until(lambda: not is_running(folder))
    assert (folder / "stdout").read_text() == "once\n"


async def test_a_killed_factory_is_replaced(yard: Yard) -> None:
    for pid in yard.factory_and_spare():
        os.kill(pid, 9)
    await until(lambda: yard.launcher._factory is None)
    folder = yard.folder("print('again')")
    yard.launcher.launch(folder)
    await until(lambda: read_exit(folder) is not None)
    assert (folder / "stdout").read_text() == "again\n"
    await until(lambda: not is_running(folder))


async def test_a_killed_spare_is_replaced(yard: Yard) -> None:
    await until(lambda: len(yard.factory_and_spare()) == 2)
    spare = yard.factory_and_spare()[1]
    os.kill(spare, 9)
    await until(lambda: not alive(spare))
    folder = yard.folder("print('again')")
    yard.launcher.launch(folder)
    await until(lambda: read_exit(folder) is not None)
    assert (folder / "stdout").read_text() == "again\n"
    await until(lambda: not is_running(folder))


async def test_a_log_that_has_grown_is_set_aside_in_place(yard: Yard) -> None:
    await until(lambda: len(yard.factory_and_spare()) == 2)
    left = yard.factory_and_spare()
    yard.launcher.close()
    await until(lambda: not any(alive(pid) for pid in left))
    log = yard.root / "log"
    log.write_bytes(b"x" * (5 << 20))
    which = log.stat().st_ino
    yard.launcher.open()
    assert (log.stat().st_size, log.stat().st_ino) == (0, which)
    assert (yard.root / "log.old").stat().st_size == 5 << 20


@pytest.mark.parametrize("yard", [places.OFF], indirect=True)
async def test_without_control_groups_the_factory_ends_what_a_killed_shim_left(yard: Yard) -> None:
    folder = yard.folder(hydra.SCRIPT)
    yard.launcher.launch(folder)
    await until(lambda: b"ready" in (folder / "stdout").read_bytes())
    before = yard.factory_and_spare()
    os.kill(int((folder / "running").read_text()), 9)
    await asyncio.to_thread(hydra.until_dead, folder)
    assert yard.factory_and_spare() == before


@pytest.mark.parametrize("yard", [places.OFF], indirect=True)
async def test_it_does_so_even_after_its_agent_has_gone(yard: Yard) -> None:
    folder = yard.folder(hydra.SCRIPT)
    yard.launcher.launch(folder)
    await until(lambda: b"ready" in (folder / "stdout").read_bytes())
    factory = yard.factory_and_spare()[0]
    yard.launcher.close()
    os.kill(int((folder / "running").read_text()), 9)
    await asyncio.to_thread(hydra.until_dead, folder)
    await until(lambda: not alive(factory))


async def test_closing_ends_the_spare_and_no_job(yard: Yard) -> None:
    folder = yard.folder("import time; print('ready', flush=True); time.sleep(600)")
    yard.launcher.launch(folder)
    await until(lambda: (folder / "stdout").read_bytes() == b"ready\n")
    await until(lambda: len(yard.factory_and_spare()) == 2)
    factory, spare = yard.factory_and_spare()
    yard.launcher.close()
    await until(lambda: not alive(spare))
    assert is_running(folder)
    assert alive(factory), "who would end what is left if the shim were killed?"
    request_stop(folder, "user")
    await until(lambda: not is_running(folder))
    await until(lambda: not alive(factory))
    assert read_exit(folder) == Exit(reason="user", signal=2, stdout_bytes=6, stderr_bytes=_stderr(folder))


def _stderr(folder: Path) -> int:
    return (folder / "stderr").stat().st_size  # the traceback of the interrupt


@pytest.mark.parametrize("detail", ["", "one line", "several\nlines = with\tanything: é \udcff"])
def test_an_end_written_by_the_agent_reads_like_a_shims(tmp_path: Path, detail: str) -> None:
    write_exit(tmp_path, Exit(reason="deps", detail=detail))
    assert read_exit(tmp_path) == Exit(reason="deps", detail=detail)


def test_an_end_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert read_exit(tmp_path) is None
    assert not is_running(tmp_path)
