"""The real stack under the real command: it starts, it stays, it stops."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from chisel.local import jobs, processes, stack, starting, stopping
from chisel.local.errors import LocalStackError
from tests.local.conftest import LocalStack

HELLO = 'import os\nprint("gpus", os.environ["CUDA_VISIBLE_DEVICES"])\n'
FOREVER = 'import time\nprint("on", flush=True)\ntime.sleep(600)\n'


def submit(local: LocalStack, script: str, *, gpus: int = 1) -> subprocess.CompletedProcess[str]:
    (local.home / "job.py").write_text(script)
    return local.chisel("python", "job.py", "-a", "test", "-g", str(gpus))


def test_a_job_runs_on_the_shared_stack(shared: LocalStack) -> None:
    done = submit(shared, HELLO, gpus=4)
    assert (done.returncode, done.stdout) == (0, "gpus 0,1,2,3\n"), done.stderr
    assert done.stderr.count(f"chisel: using the local stack at {shared.state.url}\n") == 1
    assert "local stack" not in shared.chisel("ps").stderr


def test_a_second_up_changes_nothing_and_says_so(shared: LocalStack) -> None:
    before = shared.left()
    assert "running already" in shared.up()
    assert shared.left() == before


def test_status_names_every_process(shared: LocalStack) -> None:
    report = shared.status()
    assert report["running"]
    assert report["ready"]
    assert report["url"] == shared.state.url
    assert {part["name"] for part in report["processes"]} == set(stopping.NAMES)
    assert all(part["pid"] for part in report["processes"])
    said = shared.chisel("status")
    assert said.returncode == 0
    assert "8 x A100-80GB" in said.stdout


def test_its_own_key_needs_no_login(shared: LocalStack) -> None:
    who = json.loads(shared.chisel("whoami", "--json").stdout)
    assert (who["user"], who["project"], who["backend"]) == ("local", "default", shared.state.url)
    assert who["key_source"] == "the local stack"
    done = shared.chisel("login")
    assert done.returncode == 0
    assert "needs no login" in done.stderr


def test_its_first_admin_comes_by_an_address_that_is_told_on_request(shared: LocalStack) -> None:
    done = shared.chisel("admin", "init")
    assert done.returncode == 0
    page = done.stdout.strip()
    assert page.startswith(f"{shared.state.url}/welcome?token=")
    with urllib.request.urlopen(page, timeout=10) as answer:
        assert b"Open your account as an admin" in answer.read()
    assert page.partition("token=")[2] not in shared.up()


def test_find_gives_address_and_key(shared: LocalStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHISEL_LOCAL_DIR", str(shared.folder))
    found = stack.find()
    assert found is not None
    assert (found.url, found.key) == (shared.state.url, shared.key)
    lines: list[str] = []
    assert stack.ensure(lines.append).key == found.key
    assert len(lines) == 1


@pytest.mark.parametrize("name", ["nats", "postgres"])
def test_a_server_knows_nothing_of_the_users_environment(shared: LocalStack, name: str) -> None:
    environment = Path(f"/proc/{shared.process(name).pid}/environ").read_bytes()
    assert b"PATH=" in environment
    assert b"secret" not in environment


@pytest.mark.parametrize(
    ("variable", "belongs"),
    [
        ("CHISEL_LOCAL_STACK={}", True),
        ("CHISEL_TRACE_DIR={}/agent/jobs/x/traces", True),
        ("CHISEL_LOCAL_DIR={}/other", False),
        ("CHISEL_TRACE_DIR={}-2/agent/jobs/x/traces", False),
        ("PWD={}", False),
    ],
)
def test_what_belongs_to_a_stack_is_told_by_what_only_its_own_carry(
    tmp_path: Path, variable: str, belongs: bool
) -> None:
    name, _, value = variable.format(tmp_path).partition("=")
    with subprocess.Popen(["sleep", "60"], env={"PATH": os.environ["PATH"], name: value}) as process:
        try:
            found = [left.pid for left in jobs.leftovers(tmp_path)]
        finally:
            process.kill()
    assert found == ([process.pid] if belongs else [])


def test_nothing_of_it_is_anybody_elses_to_read(shared: LocalStack) -> None:
    for path in (shared.folder, *shared.folder.iterdir()):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o077 == 0, f"{path} has mode {mode:o}"
    for name in ("gateway", "auth", "postgres", "nats"):
        words = Path(f"/proc/{shared.process(name).pid}/cmdline").read_bytes()
        assert shared.state.service_password.encode() not in words


@pytest.mark.parametrize("name", stopping.NAMES)
def test_kill_9_of_any_process_is_healed(shared: LocalStack, name: str) -> None:
    old = shared.kill(name)
    shared.until(lambda: shared.alive(name) and shared.process(name).pid != old)
    shared.until(shared.is_ready)
    done = submit(shared, HELLO)
    # Which one is not said: the GPU of the job before may be given back a moment after its end.
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"gpus [0-7]\n", done.stdout), done.stdout


def test_up_heals_what_is_left_when_both_watchers_were_killed(shared: LocalStack) -> None:
    keeper, supervisor = shared.process("keeper"), shared.process("supervisor")
    keeper.signal(signal.SIGSTOP)  # or it would be quicker than the second kill
    supervisor.signal(signal.SIGKILL)
    keeper.signal(signal.SIGKILL)
    agent = shared.process("agent").pid
    shared.kill("gateway")
    shared.up()
    assert shared.is_ready()
    assert shared.process("agent").pid == agent, "what ran on was adopted"


def test_kill_9_of_everything_at_once_is_healed_by_up(shared: LocalStack) -> None:
    for name in stopping.NAMES:
        if shared.alive(name):
            shared.process(name).signal(signal.SIGKILL)
    shared.up()
    assert submit(shared, HELLO).returncode == 0


def test_down_cancels_what_runs_and_leaves_nothing(fresh: LocalStack) -> None:
    fresh.up()
    (fresh.home / "job.py").write_text(FOREVER)
    running = fresh.spawn("python", "job.py", "-a", "forever")
    assert running.stdout is not None
    assert running.stdout.readline() == "on\n"
    said = fresh.down()
    assert "Cancelling 1 running job" in said
    running.communicate(timeout=60)
    assert running.returncode != 0
    assert "not running" in fresh.down()
    assert fresh.chisel("status").returncode == 3
    fresh.up()
    assert [job["state"] for job in fresh.get("/api/v1/jobs")["jobs"]] == ["cancelled"]


def test_two_ups_at_once_make_one_stack(fresh: LocalStack) -> None:
    both = [fresh.spawn("up"), fresh.spawn("up")]
    said = [process.communicate(timeout=90) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert len({out.partition(" with ")[0] for out, _ in said}) == 1
    supervisors = [pid for pid in fresh.left() if _name(pid) == "chisel:super"]
    assert len(supervisors) == 1


def test_a_taken_port_moves_the_gateway_and_is_remembered(fresh: LocalStack) -> None:
    fresh.up()
    old = fresh.state.gateway_port
    fresh.down()
    with socket.create_server(("127.0.0.1", old)):
        fresh.up()
        new = fresh.state.gateway_port
        assert new != old
    fresh.down()
    fresh.up()
    assert fresh.state.gateway_port == new
    assert submit(fresh, HELLO).returncode == 0


def test_records_of_reused_pids_do_not_fool_it(fresh: LocalStack) -> None:
    fresh.up()
    fresh.down()
    for name in stopping.NAMES:
        processes.record(str(fresh.folder), name, processes.Process(os.getpid(), "another boot/1"))
    (fresh.folder / "postgres" / "postmaster.pid").write_text(f"{os.getpid()}\n/nowhere\n")
    assert fresh.chisel("status").returncode == 3
    fresh.up()
    assert submit(fresh, HELLO).returncode == 0


def test_a_killed_postgres_that_nobody_reaps_is_not_taken_for_alive(fresh: LocalStack) -> None:
    fresh.up()
    fresh.down()
    with subprocess.Popen([sys.executable, "-c", "open('/proc/self/comm', 'w').write('postgres')"]) as dead:
        fresh.until(lambda: processes.identify(dead.pid) is None)
        (fresh.folder / "postgres" / "postmaster.pid").write_text(f"{dead.pid}\n/nowhere\n")
        fresh.up()


def test_a_part_that_cannot_start_is_named_with_its_last_words(fresh: LocalStack) -> None:
    fresh.folder.mkdir()
    (fresh.folder / "storage").write_text("in the way")
    done = fresh.chisel("up")
    assert done.returncode != 0
    assert "storage does not start" in done.stderr
    assert str(fresh.folder / "logs" / "storage.log") in done.stderr
    assert fresh.left() == []


def test_the_foreground_ends_with_its_process(fresh: LocalStack) -> None:
    running = fresh.spawn("up", "--foreground")
    assert running.stdout is not None
    assert "Chisel runs at" in running.stdout.readline()
    assert fresh.process("supervisor").pid == running.pid
    assert not fresh.alive("keeper")
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 0
    assert fresh.left() == []


def test_a_long_path_gets_a_short_folder_for_its_socket(
    fresh: LocalStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh.folder = fresh.folder.with_name("a-name-that-is-long-" * 6)
    fresh.up()
    assert len(fresh.state.sockets) < 60
    assert stat.S_IMODE(Path(fresh.state.sockets).stat().st_mode) == 0o700
    assert submit(fresh, HELLO).returncode == 0
    fresh.end()
    Path(fresh.state.sockets).rmdir()


def test_without_the_extra_both_ways_out_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "_NEEDED", ("a_package_nobody_has",))
    with pytest.raises(LocalStackError, match=r"pip install 'chisel-gpu\[local\]'.*CHISEL_BACKEND_URL"):
        starting.check_installed()


def test_finding_nothing_is_cheap_and_harmless(tmp_path: Path) -> None:
    code = (
        "import sys; from chisel.local import stack; assert stack.find() is None;"
        "print(*{'asyncio', 'subprocess', 'dataclasses', 'msgspec', 'aiohttp'} & set(sys.modules))"
    )
    folder = tmp_path / "never"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "CHISEL_LOCAL_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "\n"
    assert not folder.exists()


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()
