"""Ending a job by its shim: the ladder of signals, and what the job leaves behind."""

import signal
import time

import pytest

from chisel_agent import sandbox
from chisel_agent.launch import (
    Exit,
    is_running,
    read_exit,
    request_stop,
)
from chisel_shared.contract.ids import JobId
from chisel_shared.contract.messages import AttemptRef
from chisel_shared.contract.stops import SIGNALS
from tests.agent.facts import alive, eventually, processes_of
from tests.agent.shims import Job


def test_a_stop_interrupts_first_and_is_quick(job: Job) -> None:
    code = (
        "import time\nprint('ready')\n"
        "try: time.sleep(60)\n"
        "except KeyboardInterrupt: print('interrupted'); raise SystemExit(5)"
    )
    job.start(code)
    job.printed(b"ready\n")
    began = time.monotonic()
    request_stop(job.folder, "user")
    end = job.end()
    assert (end.reason, end.exit_code) == ("user", 5)
    assert job.spool() == b"ready\ninterrupted\n"
    assert time.monotonic() - began < 5.0


def test_what_ignores_being_interrupted_is_terminated(job: Job) -> None:
    code = "import signal, time; signal.signal(2, signal.SIG_IGN); print('ready'); time.sleep(60)"
    job.start(code)
    job.printed(b"ready\n")
    request_stop(job.folder, "user")
    assert job.end() == Exit(reason="user", signal=signal.SIGTERM, stdout_bytes=6)


def test_what_ignores_everything_is_killed(job: Job) -> None:
    code = (
        "import signal, time\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\nprint('ready')\n"
        "while True: time.sleep(60)"
    )
    job.start(code)
    job.printed(b"ready\n")
    began = time.monotonic()
    request_stop(job.folder, "user")
    assert job.end() == Exit(reason="user", signal=signal.SIGKILL, stdout_bytes=6)
    assert time.monotonic() - began >= 0.4


def test_a_stop_at_once_does_not_ask(job: Job) -> None:
    job.start("import signal, time; signal.signal(2, signal.SIG_IGN); print('ready'); time.sleep(60)")
    job.printed(b"ready\n")
    request_stop(job.folder, "gone", at_once=True)
    assert job.end() == Exit(reason="gone", signal=signal.SIGKILL, stdout_bytes=6)


HEARS = """
import os, signal, sys, time
def heard(number, frame): os.write(1, signal.Signals(number).name.encode() + b'\\n')
for number in (1, 2, 3, 10, 12, 15): signal.signal(number, heard)
child = os.fork()
if child == 0: signal.signal(10, lambda *_: os.write(1, b'the child\\n'))
os.write(1, b'ready\\n')
end = time.monotonic() + 60
while time.monotonic() < end: time.sleep(0.01)
"""


@pytest.mark.parametrize("name", ["HUP", "QUIT", "INT", "TERM"])
def test_a_stop_begins_with_the_signal_asked_for(job: Job, name: str) -> None:
    job.start(HEARS)
    eventually(lambda: job.spool().count(b"ready") == 2)
    request_stop(job.folder, "user", signal=SIGNALS[name])
    assert job.end().signal == signal.SIGKILL  # it never ended by itself
    heard = job.spool().split()[2:]
    expected = [f"SIG{name}", "SIGTERM"] if name != "TERM" else ["SIGTERM"]
    assert sorted(set(heard)) == sorted(word.encode() for word in expected)
    assert heard.count(f"SIG{name}".encode()) == 2  # the script and what it started


def test_signals_of_the_scripts_own_reach_nothing_else(job: Job) -> None:
    job.start(HEARS)
    eventually(lambda: job.spool().count(b"ready") == 2)
    request_stop(job.folder, "user", signal=SIGNALS["USR1"])
    job.end()
    assert job.spool().count(b"SIGUSR1") == 1
    assert b"the child" not in job.spool()


def test_a_grace_is_the_time_after_the_first_signal(job: Job) -> None:
    code = (
        "import signal, sys, time\ndef end(*_): time.sleep(0.5); print('saved'); sys.exit(7)\n"
        "signal.signal(15, end); print('ready'); time.sleep(60)"
    )
    job.start(code, terminate_grace_seconds=0.01)
    job.printed(b"ready\n")
    request_stop(job.folder, "user", signal=SIGNALS["TERM"], grace_seconds=30.0)
    end = job.end()
    assert (end.reason, end.exit_code) == ("user", 7)
    assert job.spool() == b"ready\nsaved\n"


def test_a_kill_hastens_a_stop_under_way(job: Job) -> None:
    job.start(HEARS)
    eventually(lambda: job.spool().count(b"ready") == 2)
    request_stop(job.folder, "user", grace_seconds=600.0)
    job.printed(b"SIGINT")
    request_stop(job.folder, "user", at_once=True, signal=SIGNALS["KILL"])
    assert job.end().signal == signal.SIGKILL
    assert b"SIGTERM" not in job.spool()


def test_a_stop_before_the_start_prevents_it(job: Job) -> None:
    request_stop(job.folder, "user")
    assert job.run("print('never')") == Exit(reason="user")
    assert not (job.folder / "running").exists()


def test_a_stop_after_the_end_changes_nothing(job: Job) -> None:
    end = job.run("raise SystemExit(4)")
    request_stop(job.folder, "user")
    assert read_exit(job.folder) == end == Exit(reason="exit", exit_code=4)


LEAVE_BEHIND = """
import os, signal, sys, time
def leave(daemon):
    if os.fork() == 0:
        os.setsid()
        if daemon and os.fork():
            os._exit(0)
        for n in (1, 2, 15):
            signal.signal(n, signal.SIG_IGN)
        os.write(1, b"%d\\n" % os.getpid())
        time.sleep(600)
        os._exit(0)
leave(False)
leave(True)
if os.fork() == 0:
    os.write(1, b"%d\\n" % os.getpid())
    time.sleep(600)
"""


def test_nothing_the_job_left_behind_outlives_it(job: Job) -> None:
    wait = "while os.stat(1).st_size < 0 or len(os.listdir('.')) == 0: time.sleep(0.01)\n"
    job.start(LEAVE_BEHIND + wait)
    eventually(lambda: len(job.pids()) == 3)
    pids = job.pids()
    assert all(alive(pid) for pid in pids)
    (job.folder / "work" / "go").touch()
    assert job.end().exit_code == 0
    assert not any(alive(pid) for pid in pids)


def test_nothing_outlives_a_stop(job: Job) -> None:
    job.start(LEAVE_BEHIND + "time.sleep(600)")
    eventually(lambda: len(job.pids()) == 3)
    pids = job.pids()
    request_stop(job.folder, "user", at_once=True)
    assert job.end().reason == "user"
    assert not any(alive(pid) for pid in pids)


def test_what_hops_from_process_to_process_is_caught(job: Job) -> None:
    code = """
import os, time
if os.fork() == 0:
    os.setsid()
    os.write(1, b"hopping\\n")
    while True:
        if os.fork():
            os._exit(0)
time.sleep(0.3)
"""
    job.start(code)
    assert job.end().exit_code == 0
    assert processes_of(job.id) == []


def test_output_that_only_a_leftover_holds_open_does_not_delay_the_end(job: Job) -> None:
    code = "import os, time\nif os.fork() == 0:\n    os.setsid(); time.sleep(600)\nprint('bye')"
    began = time.monotonic()
    assert job.run(code) == Exit(reason="exit", exit_code=0, stdout_bytes=4)
    assert time.monotonic() - began < 10


def test_what_a_killed_shim_left_is_ended_by_the_agent(job: Job) -> None:
    job.start(LEAVE_BEHIND + "time.sleep(600)")
    eventually(lambda: len(job.pids()) == 3)
    pids = job.pids()
    assert job.process is not None
    job.process.kill()
    job.process.wait()
    assert not is_running(job.folder)
    assert read_exit(job.folder) is None
    ref = AttemptRef(job_id=JobId(job.id), attempt=1)
    assert not sandbox.end_leftovers(job.folder, ref, within_seconds=30)
    assert not any(alive(pid) for pid in pids)
