"""The supervisor with stand-in children: whatever is killed comes back, once."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from chisel.local import processes
from chisel.local.child import Backoff
from chisel.local.processes import Process
from chisel.local.supervisor import ALARM, KEEPER, SUPERVISOR, ends_of


class Standins:
    """A supervised folder and the questions the tests ask of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spawned: list[subprocess.Popen[bytes]] = []

    def supervise(self, *names: str) -> None:
        command = [sys.executable, "-m", "tests.local.standin", str(self.folder), *names]
        with (self.folder / "log").open("ab") as log:
            self.spawned.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))
        self.until(lambda: all(self.alive(name) for name in (*names, SUPERVISOR, KEEPER)))

    def alive(self, name: str) -> bool:
        return processes.is_recorded_alive(str(self.folder), name)

    def process(self, name: str) -> Process:
        found = processes.recorded(str(self.folder), name)
        assert found is not None
        return found

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        process = self.process(name)
        process.signal(number)
        self.until(lambda: not process.alive())
        return process.pid

    def comes_back(self, name: str, old: int) -> None:
        self.until(lambda: self.alive(name) and self.process(name).pid != old)

    def starts(self, name: str) -> list[int]:
        lines = (self.folder / "starts").read_text().splitlines()
        return [int(line.split()[1]) for line in lines if line.split()[0] == name]

    def until(self, fact: Callable[[], bool], *, seconds: float = 10.0) -> None:
        end = time.monotonic() + seconds
        while not fact():
            assert time.monotonic() < end, (self.folder / "log").read_text()
            time.sleep(0.005)

    def end(self) -> None:
        for name in (KEEPER, SUPERVISOR, KEEPER, SUPERVISOR):
            if self.alive(name):
                self.kill(name)
        for record in (self.folder / "run").glob("*.json"):
            if self.alive(record.stem):
                self.kill(record.stem)
        for process in self.spawned:
            process.wait(5)


@pytest.fixture
def standins(tmp_path: Path) -> Iterator[Standins]:
    made = Standins(tmp_path)
    yield made
    made.end()


def test_a_killed_child_comes_back_and_its_siblings_are_left_alone(standins: Standins) -> None:
    standins.supervise("one", "two")
    other = standins.process("two").pid
    standins.comes_back("one", standins.kill("one"))
    assert standins.process("two").pid == other
    assert ends_of(standins.folder, "one") == (1, "SIGKILL")


def test_a_killed_supervisor_is_replaced_and_its_children_are_adopted(standins: Standins) -> None:
    standins.supervise("one", "two")
    before = [standins.process(name).pid for name in ("one", "two")]
    for _ in range(2):
        standins.comes_back(SUPERVISOR, standins.kill(SUPERVISOR))
        standins.until(lambda: standins.alive(KEEPER))
    assert [standins.process(name).pid for name in ("one", "two")] == before
    standins.comes_back("one", standins.kill("one"))
    standins.until(lambda: len(standins.starts("one")) == 2)
    assert len(standins.starts("two")) == 1


def test_a_killed_keeper_is_replaced(standins: Standins) -> None:
    standins.supervise("one")
    supervisor = standins.process(SUPERVISOR).pid
    standins.comes_back(KEEPER, standins.kill(KEEPER))
    assert standins.process(SUPERVISOR).pid == supervisor


def test_after_both_were_killed_a_new_supervisor_adopts_what_runs(standins: Standins) -> None:
    standins.supervise("one")
    child = standins.process("one").pid
    standins.kill(KEEPER)
    standins.kill(SUPERVISOR)
    if standins.alive(KEEPER):  # the supervisor was quicker than the second kill
        standins.kill(KEEPER)
    standins.supervise("one")
    assert standins.process("one").pid == child


def test_a_second_supervisor_of_the_same_folder_ends_at_once(standins: Standins) -> None:
    standins.supervise("one")
    command = [sys.executable, "-m", "tests.local.standin", str(standins.folder), "one"]
    second = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert second.returncode == 0
    assert "already_supervised" in second.stderr
    assert len(standins.starts("one")) == 1


def test_a_record_of_a_reused_pid_is_not_believed(standins: Standins) -> None:
    standins.supervise("one")
    standins.end()
    processes.record(str(standins.folder), "one", Process(os.getpid(), "another boot/1"))
    standins.supervise("one")
    assert standins.process("one").pid != os.getpid()


def test_a_child_that_keeps_failing_is_started_ever_more_slowly(standins: Standins) -> None:
    with suppress(AssertionError):
        command = [sys.executable, "-m", "tests.local.standin", str(standins.folder), "crashes"]
        standins.spawned.append(subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL))
    standins.until(lambda: ends_of(standins.folder, "crashes")[0] >= 3)
    assert ends_of(standins.folder, "crashes")[1] == "exit status 3"
    assert len(standins.starts("crashes")) <= 5


def test_who_is_said_to_be_ill_is_restarted_once_that_can_help(standins: Standins) -> None:
    standins.supervise("one", "two")
    other, ill = standins.process("one").pid, standins.process("two").pid

    def raise_alarm() -> None:
        with (standins.folder / ALARM).open("a") as alarm:
            alarm.write("nobody\ntwo\n")

    def restarted() -> bool:
        raise_alarm()
        return standins.process("two").pid != ill

    (standins.folder / "no help for two").touch()
    standins.until(lambda: not restarted() and (standins.folder / "asked").exists())
    assert standins.process("two").pid == ill
    (standins.folder / "no help for two").unlink()
    standins.until(restarted)
    standins.comes_back("two", ill)
    assert standins.process("one").pid == other


def test_who_is_ill_and_does_not_end_is_killed(standins: Standins) -> None:
    standins.supervise("stubborn")
    ill = standins.process("stubborn").pid

    def killed() -> bool:
        with (standins.folder / ALARM).open("a") as alarm:
            alarm.write("stubborn\n")
        return not standins.alive("stubborn") or standins.process("stubborn").pid != ill

    standins.until(killed, seconds=20)
    standins.comes_back("stubborn", ill)


def test_a_stop_ends_everything_even_who_ignores_it(standins: Standins) -> None:
    standins.supervise("one", "stubborn")
    ended = [standins.process(name) for name in ("one", "stubborn", KEEPER, SUPERVISOR)]
    ended[-1].signal(signal.SIGTERM)
    standins.until(lambda: not any(process.alive() for process in ended))
    assert list((standins.folder / "run").glob("*.json")) == []


def test_children_hold_nothing_of_the_supervisor(standins: Standins) -> None:
    standins.supervise("one")
    pid = standins.process("one").pid
    assert sorted(os.listdir(f"/proc/{pid}/fd"), key=int) == ["0", "1", "2"]
    assert os.getpgid(pid) == pid
    assert Path(f"/proc/{pid}/comm").read_text() == "chisel:one\n"


def test_backoff_is_quick_first_and_forgives_after_a_steady_run() -> None:
    backoff = Backoff()
    delays = []
    for second in range(7):
        backoff.started(now=float(second))
        delays.append(backoff.ended(now=second + 0.5))
    assert delays == [0.0, 0.1, 0.3, 1.0, 3.0, 3.0, 3.0]
    backoff.started(now=100.0)
    assert backoff.ended(now=111.0) == 0.0
    assert backoff.failures == 1
