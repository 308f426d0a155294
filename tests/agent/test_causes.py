"""Why a job ended, told apart by real processes: what it did itself, what the kernel did, what its machine
had too little of.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chisel_agent import places
from chisel_agent.shim_end import FULL_BYTES, verdict
from chisel_shared.contract.job import EndReason, JobEvent, end_event
from tests.agent.conftest import find_places
from tests.agent.shims import Job
from tests.agent.world import World

EAT = "import time; eaten = []\nwhile True: eaten.append(b'x' * (8 << 20))"
LIMIT_BYTES = 128 << 20


def limit_memory(found: tuple[str, ...]) -> None:
    """Give all jobs below `found` little memory; skips the test where the kernel lets us not."""
    for place in found:
        for name in ("memory.max", "memory.limit_in_bytes"):
            file = Path(place, name)
            if file.exists():
                file.write_text(str(LIMIT_BYTES))
                return
    pytest.skip("this machine lets us limit no memory")


@pytest.fixture
def small(job: Job) -> Job:
    limit_memory(job.places)
    return job


in_groups = pytest.mark.parametrize("job", [places.KILL, places.FREEZE], indirect=True)


@in_groups
def test_a_script_that_eats_all_memory(small: Job) -> None:
    end = small.run(EAT)
    assert (end.reason, end.signal) == ("oom", 9)
    assert end.detail == "it had 0.1 GiB at most"


@in_groups
def test_a_child_that_eats_all_memory_is_a_warning_when_the_script_succeeds(small: Job) -> None:
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {EAT!r}]); print('done')"
    end = small.run(code)
    assert (end.reason, end.exit_code) == ("exit", 0)
    assert end.detail == "the kernel killed one of its processes for want of memory"


@in_groups
def test_a_shells_word_for_it(small: Job) -> None:
    end = small.run(argv=("/bin/sh", "-c", f'python3 -c "{EAT}"; exit $?'))
    assert (end.reason, end.exit_code) == ("oom", 137)


@in_groups
def test_what_another_job_ate_is_not_this_ones_cause(small: Job, tmp_path: Path) -> None:
    other = Job(tmp_path, small.places)
    small.start("print('ready'); import time; time.sleep(60)")
    small.printed(b"ready\n")
    assert other.run(EAT).reason == "oom"
    os.kill(int(subprocess.check_output(["pgrep", "-P", str(small.process.pid)])), 9)  # type: ignore[union-attr]
    end = small.end()
    assert (end.reason, end.signal, end.detail) == ("signal", 9, "")


def test_the_verdict_is_a_table() -> None:
    def said(
        reason: str = "",
        code: int | None = None,
        signal: int | None = None,
        kills: int | None = 0,
        machine_kills: int = 0,
        room: int | None = None,
    ) -> tuple[str, str]:
        found, hints = verdict(
            reason, code, signal, kills=kills, machine_kills=machine_kills, room_bytes=room
        )
        return found, "; ".join(hints)

    assert said(code=0) == ("exit", "")
    assert said(code=3) == ("exit", "")
    assert said(signal=11) == ("signal", "")
    assert said(signal=9) == ("signal", "")
    assert said(signal=9, kills=1) == ("oom", "")
    assert said(code=137, kills=2) == ("oom", "")
    assert said(code=137) == ("exit", "")
    assert said(code=1, kills=1) == ("exit", "the kernel killed one of its processes for want of memory")
    assert said(signal=11, kills=2) == ("signal", "the kernel killed 2 of its processes for want of memory")
    assert said(signal=9, kills=0, machine_kills=1) == ("signal", ""), "it was somebody else's"
    counted_not = "this machine does not count a job's memory: it may have run out"
    assert said(signal=9, kills=None) == ("signal", counted_not)
    likely = "memory ran out on its machine meanwhile: it is likely that this was the cause"
    assert said(signal=9, kills=None, machine_kills=1) == ("signal", likely)
    assert said(signal=15, kills=None, machine_kills=1) == ("signal", "")
    assert said("user", signal=9) == ("user", "")
    assert said("time_limit", signal=9, kills=None, machine_kills=1) == ("time_limit", "")
    full = "the disk of its agent is full: 4 KiB are free"
    assert said(code=1, room=4096) == ("exit", full)
    assert said(code=1, room=FULL_BYTES) == ("exit", "")
    assert said(code=0, room=4096) == ("exit", "")


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    made = shutil.which("mount") and os.geteuid() == 0
    if not made or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(place)]).returncode:
        pytest.skip("a disk of one's own takes root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_is_too_small_for_the_output(tiny_disk: Path) -> None:
    job = Job(tiny_disk, ())
    end = job.run("while True: print('x' * 1000)")
    assert (end.reason, end.signal) == ("disk", 9)
    assert end.detail == "its output could not be kept: No space left on device"


FILL = "file = open({place!r}, 'wb')\nwhile True: file.write(bytes(1 << 16)); file.flush()"


def test_a_script_that_fills_the_disk_of_its_output(tiny_disk: Path) -> None:
    end = Job(tiny_disk, ()).run(FILL.format(place="big"))
    assert end.reason == "disk", "there was no room for its traceback"


def test_a_script_that_fills_another_disk_fails_itself_and_hears_why(job: Job, tiny_disk: Path) -> None:
    end = job.run(FILL.format(place="big"), cwd=tiny_disk)
    assert (end.reason, end.exit_code) == ("exit", 1)
    assert end.detail == "the disk of its agent is full: 0 KiB are free"


@pytest.mark.parametrize(
    ("code", "fields", "reason", "event", "detail"),
    [
        ("import os; os.kill(os.getpid(), 11)", {}, EndReason.SIGNAL, JobEvent.FAIL, ""),
        (
            "import time; time.sleep(60)",
            {"time_limit_seconds": 0.3},
            EndReason.TIME_LIMIT,
            JobEvent.TIME_OUT,
            "",
        ),
        ("", {"requirements": "none.txt"}, EndReason.DEPS, JobEvent.FAIL, "none.txt"),
        ("raise SystemExit(3)", {}, EndReason.EXIT, JobEvent.FAIL, ""),
    ],
    ids=["signal", "time_limit", "deps", "exit"],
)
async def test_the_scheduler_hears_the_cause(
    world: World, code: str, fields: dict[str, Any], reason: EndReason, event: JobEvent, detail: str
) -> None:
    async with world.agent():
        ref = await world.scheduler.submit(world.python(code, **fields))
        end = await world.scheduler.end_of(ref)
    assert (end.reason, end_event(end)) == (reason, event)
    assert detail in end.detail


async def test_the_scheduler_hears_that_memory_ran_out(world: World, tmp_path: Path) -> None:
    async with world.agent():
        limit_memory(find_places(world.data_dir, places.AUTO))
        ref = await world.scheduler.submit(world.python(EAT))
        end = await world.scheduler.end_of(ref)
    assert (end.reason, end.signal) == (EndReason.OOM, 9)
    assert "GiB at most" in end.detail
