"""The local stack on disks that fill up: nobody has to restart anything. `pytest -s` tells how it went."""

import asyncio
import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg

from chisel.local import servers
from chisel.local.children import SERVICES
from tests.local.conftest import LocalStack
from tests.support.backends import short_folder
from tests.support.full_disk import SmallDisk, small_disk
from tests.support.ordeal import tell
from tests.support.reaper import reaped

MIB = 1 << 20
SCRIPT = """
import pathlib, time
n = 0
while not pathlib.Path({go!r}).exists() or n < 20:
    print("line", n, flush=True)
    n += 1
    time.sleep(0.1)
"""


@contextmanager
def stack_on(folder_name: str, size_bytes: int) -> Iterator[tuple[LocalStack, SmallDisk]]:
    """A stack that runs, one folder of which is a file system of its own."""
    with short_folder() as folder, reaped(folder):
        local = LocalStack(folder)
        local.up()
        local.down()
        place = local.folder / folder_name
        kept = place.rename(folder / "kept")
        with small_disk(place, size_bytes=size_bytes) as disk:
            shutil.copytree(kept, place, dirs_exist_ok=True, symlinks=True)
            local.up()
            try:
                yield local, disk
            finally:
                local.end()


@contextmanager
def counts(local: LocalStack, go: Path) -> Iterator[subprocess.Popen[str]]:
    """The command that watches a job which prints until there is `go`, and has begun to."""
    (local.home / "job.py").write_text(SCRIPT.format(go=str(go)))
    running = local.spawn("python", "job.py", "-a", "counter")
    try:
        assert running.stdout is not None
        assert running.stdout.readline() == "line 0\n"
        yield running
    finally:
        running.kill()
        running.wait()


def is_whole(local: LocalStack, running: subprocess.Popen[str], go: Path) -> None:
    """The job, told to end, has printed everything once."""
    go.touch()
    stdout, stderr = running.communicate(timeout=90)
    assert running.returncode == 0, stderr
    assert stdout == "".join(f"line {n}\n" for n in range(1, 1 + stdout.count("\n")))
    (job,) = (job for job in local.get("/api/v1/jobs")["jobs"] if job["app_name"] == "counter")
    assert job["attempt"] == 1
    local.until(lambda: local.chisel("logs", job["id"]).stdout == "line 0\n" + stdout)


def works(local: LocalStack) -> bool:
    (local.home / "after.py").write_text("print('after')\n")
    return local.chisel("python", "after.py", "-a", "after").stdout == "after\n"


def test_nats_is_restarted_once_its_disk_has_room_again(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with stack_on("nats", 64 * MIB) as (local, disk), counts(local, go) as running:
        nats = local.process("nats").pid
        others = {name: local.process(name).pid for name in (*SERVICES, "postgres")}
        disk.fill()
        local.until(lambda: '"bus_cannot_store"' in (local.folder / "logs" / "scheduler.log").read_text())
        time.sleep(5)  # long enough for a supervisor that does not look at the disk to have restarted it
        assert local.process("nats").pid == nats, "a restart could not have helped"
        disk.clear()
        began = time.monotonic()
        local.until(lambda: local.process("nats").pid != nats and local.is_ready())
        assert works(local)
        tell(f"the disk of nats full, local stack: healed after {time.monotonic() - began:.2f} s")
        is_whole(local, running, go)
        assert {name: local.process(name).pid for name in others} == others


def test_postgres_comes_back_by_itself_and_is_not_started_over_and_over(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with stack_on("postgres", 160 * MIB) as (local, disk), counts(local, go) as running:
        others = {name: local.process(name).pid for name in (*SERVICES, "nats")}
        disk.fill()
        asyncio.run(_use_up_log_files(servers.postgres_url(Path(local.state.sockets))))
        # Its pauses have grown to the longest: so often, and no more often, it is started from now on.
        local.until(lambda: any(end["restart_seconds"] == 3.0 for end in ends(local, "postgres")), seconds=60)
        assert len(ends(local, "postgres")) == 5
        disk.clear()
        began = time.monotonic()
        local.until(local.is_ready)
        assert works(local)
        tell(f"the disk of postgres full, local stack: healed after {time.monotonic() - began:.2f} s")
        is_whole(local, running, go)
        assert {name: local.process(name).pid for name in others} == others


async def _use_up_log_files(url: str) -> None:
    """Begin new files of Postgres' log until there is none left, and no room for another."""
    connection = await asyncpg.connect(url)
    try:
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            for _ in range(100):
                await connection.execute("select pg_logical_emit_message(true, 'test', '')")
                await connection.execute("select pg_switch_wal()")
    finally:
        connection.terminate()


def ends(local: LocalStack, name: str) -> list[dict[str, Any]]:
    """What the supervisor said of each unasked end of `name`."""
    lines = (local.folder / "logs" / "supervisor.log").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["event"] == "ended" and line["child"] == name]
