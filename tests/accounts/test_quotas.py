"""`chisel admin quota` against a real auth service, a real gateway and a real scheduler."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from chisel_scheduler.service import build
from chisel_scheduler.settings import SchedulerSettings
from chisel_shared.contract.errors import OverQuota
from chisel_shared.contract.ids import AgentId, Digest, ProjectId, SessionId, UserId
from chisel_shared.contract.job import JobSpec
from chisel_shared.contract.messages import FindOwner, Hello, SubmitJob
from chisel_shared.runtime.bus import NatsBus
from tests.accounts.conftest import running
from tests.accounts.test_command import Shell
from tests.accounts.test_login import logged_in
from tests.accounts.world import Browser, World
from tests.support.backends import Nats


@pytest.fixture
async def scheduler(nats_server: Nats, world: World) -> AsyncIterator[None]:
    settings = SchedulerSettings(
        nats_url=nats_server.url,
        nats_user=nats_server.user,
        nats_password=nats_server.password,
        database_url=world.database_url,
        reap_seconds=3_600,
    )
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running(await build(settings, stack)))
        yield


@pytest.fixture
async def admin(world: World, ada: Browser, scheduler: None, tmp_path: Path) -> Shell:
    """A shell that has the key of an admin."""
    home = tmp_path / "home"
    home.mkdir()
    shell = Shell(world, home)
    shell.env |= {"CHISEL_BACKEND_URL": world.url, "CHISEL_API_KEY": await logged_in(world, ada)}
    return shell


async def test_an_admin_sets_lists_and_forgets(admin: Shell) -> None:
    done = await admin.run("admin", "quota", "set", "ada", "--gpus", "4")
    assert (done.status, done.stderr) == (0, "chisel: ada may have 4 GPUs at once and weighs 1\n"), (
        done.stderr
    )
    done = await admin.run("admin", "quota", "set", "default", "--project", "--weight", "2.5")
    assert done.stderr == "chisel: project default may have any number of GPUs and weighs 2.5\n"
    done = await admin.run("admin", "quota", "set", "ada", "--weight", "2")
    assert done.stderr == "chisel: ada may have 4 GPUs at once and weighs 2\n"
    listed = await admin.run("admin", "quota", "ls")
    assert [line.split() for line in listed.stdout.splitlines()[1:]] == [
        ["ada", "user", "4", "0", "2", "0.0"],
        ["default", "project", "-", "0", "2.5", "0.0"],
    ]
    done = await admin.run("admin", "quota", "rm", "ada")
    assert done.stderr == "chisel: ada may have any number of GPUs and weighs 1\n"
    assert "ada" not in (await admin.run("admin", "quota", "ls")).stdout
    done = await admin.run("admin", "quota", "rm", "default", "--project", "--json")
    assert done.stdout.split() == ["[", '"default"', "]"]
    done = await admin.run("admin", "quota", "rm", "ada")
    assert done.status == 125
    assert "nothing is set for user ada" in done.stderr


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["set", "eve", "--gpus", "4"], 125, "there is no account eve"),
        (["set", "vision", "--project", "--gpus", "4"], 125, "there is no project vision"),
        (["set", "ada"], 2, "nothing to set"),
        (["set", "ada", "--gpus", "many"], 2, "--gpus wants a whole number or none"),
        (["set", "ada", "--weight", "heavy"], 2, "--weight wants a number"),
        (["set", "ada", "--weight", "0"], 125, "weight must be between"),
    ],
)
async def test_what_cannot_be_set(admin: Shell, words: list[str], status: int, told: str) -> None:
    done = await admin.run("admin", "quota", *words)
    assert (done.status, done.stdout) == (status, "")
    assert told in done.stderr


async def test_a_member_sets_nothing(world: World, admin: Shell, new_browser: Callable[[], Browser]) -> None:
    bob = await admin.run("admin", "users", "add", "bob")
    browser = new_browser()
    shown = await browser.open_account(bob.stdout.strip().rpartition("token=")[2], "bob")
    assert shown.status == 200
    admin.env["CHISEL_API_KEY"] = await logged_in(world, browser)
    for words in (["ls"], ["set", "bob", "--gpus", "64"], ["rm", "ada"]):
        done = await admin.run("admin", "quota", *words)
        assert done.status == 125
        assert "this key may not do" in done.stderr


async def test_a_job_over_the_quota_is_refused(admin: Shell, bus: NatsBus) -> None:
    await bus.request(
        Hello(agent_id=AgentId("a1"), session=SessionId("s1"), name="box", pool="default",
              gpu_model="A100-80GB", gpus_total=8)
    )  # fmt: skip
    await admin.run("admin", "quota", "set", "ada", "--gpus", "4")
    ada = await bus.request(FindOwner(name="Ada", is_project=False))
    project = await bus.request(FindOwner(name="default", is_project=True))
    spec = JobSpec(app_name="x", argv=("python", "x.py"), gpu="A100-80GB:8", bundle=Digest("a" * 64))
    ask = SubmitJob(project_id=ProjectId(project.id), user_id=UserId(ada.id), idempotency_key="k", spec=spec)
    with pytest.raises(OverQuota, match="chisel admin quota set ada --gpus 8"):
        await bus.request(ask)
    await admin.run("admin", "quota", "set", "ada", "--gpus", "8")
    assert (await bus.request(ask)).created
