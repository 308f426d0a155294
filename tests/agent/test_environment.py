"""Environments: built once, by the real venv and pip, from wheels made here."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from chisel_agent.environment import Environment, Environments, leave_environment
from chisel_agent.installer import BuildFailed, Installer
from chisel_agent.requirements import Requirements, read_requirements
from chisel_shared.contract.ids import new_id
from tests.agent.wheels import make_wheel

PYTHON = Path(sys.executable)


class Shop:
    """Environments that install from a folder of wheels and nothing else."""

    def __init__(self, root: Path) -> None:
        self.wheels = root / "wheels"
        self.envs = root / "envs"
        self.work = root / "work"
        self.attempts = root / "attempts"
        for folder in (self.wheels, self.envs, self.work, self.attempts):
            folder.mkdir()
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "PIP_CONFIG_FILE": os.devnull,
        }
        self.installer = Installer(base_python=PYTHON, env=env, limit_seconds=60)

    def environments(self, *, python: Path = PYTHON, max_bytes: int = 1 << 40) -> Environments:
        """As a newly started agent has them."""
        made = Environments(
            folder=self.envs,
            used_in=self.attempts,
            max_bytes=max_bytes,
            base_python=python,
            installer=self.installer,
        )
        made.sweep()
        return made

    def user(self) -> Path:
        """The folder of a new attempt."""
        folder = self.attempts / new_id()
        folder.mkdir()
        return folder

    def require(self, text: str) -> Requirements:
        (self.work / "requirements.txt").write_text(text)
        return read_requirements(self.work, "requirements.txt")

    def folders(self) -> list[Path]:
        return [path for path in self.envs.iterdir() if path.is_dir()]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def said(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stdout.strip()


def run(environment: Environment, code: str) -> str:
    return said(environment.python, "-c", code)


def sleeping(name: str) -> subprocess.Popen[bytes]:
    """A process with `name` on its command line."""
    command = [str(PYTHON), "-c", "import time; print(flush=True); time.sleep(600)", name]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        process.stdout.readline()  # for a moment after its exec, a process has no command line at all
    return process


@pytest.mark.parametrize("text", [None, "", "# nothing\n"])
async def test_asking_for_nothing_is_the_base(shop: Shop, text: str | None) -> None:
    requirements = shop.require(text) if text is not None else None
    assert await shop.environments().get(requirements, user=shop.user()) == Environment(PYTHON)


async def test_what_the_base_satisfies_needs_no_environment(shop: Shop) -> None:
    requirements = shop.require("msgspec>=0.10\npytest\nno-such-thing; python_version < '3'\n")
    environments = shop.environments()
    assert await environments.get(requirements, user=shop.user()) == Environment(PYTHON)
    assert await shop.environments().get(requirements, user=shop.user()) == Environment(PYTHON)
    assert shop.folders() == []


async def test_a_missing_package_is_installed_beside_what_the_base_has(shop: Shop) -> None:
    make_wheel(shop.wheels, "chiseltiny")
    requirements = shop.require("chiseltiny\nmsgspec\n")
    environments = shop.environments()
    made = await environments.get(requirements, user=shop.user())
    assert made.folder is not None
    assert run(made, "import chiseltiny, msgspec; print(chiseltiny.version, msgspec.__file__)") == (
        "1.0 " + run(Environment(PYTHON), "import msgspec; print(msgspec.__file__)")
    )
    assert said(made.folder / "bin/chiseltiny-says") == "1.0"
    (shop.wheels / "chiseltiny-1.0-py3-none-any.whl").unlink()
    assert await environments.get(requirements, user=shop.user()) == made, "it is not built again"
    assert await shop.environments().get(requirements, user=shop.user()) == made, "nor by another agent"


async def test_another_version_than_the_bases_wins_and_leaves_the_base_alone(shop: Shop) -> None:
    make_wheel(shop.wheels, "iniconfig", "99.0")
    made = await shop.environments().get(shop.require("iniconfig==99.0"), user=shop.user())
    assert run(made, "import iniconfig; print(iniconfig.version)") == "99.0"
    assert run(Environment(PYTHON), "import iniconfig; print(hasattr(iniconfig, 'IniConfig'))") == "True"


async def test_a_package_that_does_not_exist_fails_with_the_installers_words(shop: Shop) -> None:
    with pytest.raises(BuildFailed, match="No matching distribution found for chisel-no-such-package"):
        await shop.environments().get(shop.require("chisel-no-such-package==1.2"), user=shop.user())
    assert list(shop.envs.iterdir()) == []


async def test_many_jobs_wait_for_one_build(shop: Shop) -> None:
    make_wheel(shop.wheels, "chiseltiny")
    requirements = shop.require("chiseltiny")
    environments = shop.environments()
    made = await asyncio.gather(*(environments.get(requirements, user=shop.user()) for _ in range(4)))
    assert len(set(made)) == 1
    assert len(shop.folders()) == 1


async def test_a_build_nobody_waits_for_any_more_is_ended(shop: Shop) -> None:
    make_wheel(shop.wheels, "chiseltiny")
    requirements = shop.require("chiseltiny")
    environments = shop.environments()
    first = asyncio.create_task(environments.get(requirements, user=shop.user()))
    second = asyncio.create_task(environments.get(requirements, user=shop.user()))
    async with asyncio.timeout(30):
        while not shop.folders():  # noqa: ASYNC110 - a fact on the disk
            await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.wait({first})
    assert len(shop.folders()) == 1, "the second still waits"
    second.cancel()
    await asyncio.wait({second})
    assert list(shop.envs.iterdir()) == []
    made = await environments.get(requirements, user=shop.user())
    assert run(made, "import chiseltiny; print(chiseltiny.version)") == "1.0"


async def test_what_a_killed_agent_left_half_built_is_swept_with_its_installer(shop: Shop) -> None:
    folder = shop.envs / "0123.abcd"
    (folder / "bin").mkdir(parents=True)
    sleeper = sleeping(str(folder))
    shop.environments()
    assert not folder.exists()
    assert sleeper.wait(20) == -9


async def test_a_build_that_takes_too_long_fails(shop: Shop) -> None:
    make_wheel(shop.wheels, "chiseltiny")
    shop.installer = Installer(base_python=PYTHON, env=shop.installer.env, limit_seconds=0.01)
    with pytest.raises(BuildFailed, match=r"longer than 0.01 s"):
        await shop.environments().get(shop.require("chiseltiny"), user=shop.user())
    assert list(shop.envs.iterdir()) == []


async def test_a_base_without_pip_brings_its_own(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    async def record(self: Installer, command: list[str], *, cwd: Path) -> None:
        commands.append(command)
        if "venv" in command:
            (Path(command[-1]) / "lib/python3/site-packages").mkdir(parents=True)

    monkeypatch.setattr(Installer, "_run", record)
    shop.require("chiseltiny")
    folder = shop.envs / "made"
    await shop.installer.build(folder, shop.work / "requirements.txt", (), pip=False)
    own = str(folder / "bin/python")
    assert [command[:3] for command in commands[1:]] == [[own, "-m", "ensurepip"], [own, "-m", "pip"]]


async def test_a_base_that_does_not_start_says_so(shop: Shop) -> None:
    missing = shop.work / "python"
    environments = shop.environments(python=missing)
    with pytest.raises(BuildFailed, match="does not start"):
        await environments.get(shop.require("x"), user=shop.user())


async def test_what_requirements_install_from_a_path_is_the_attempts_own(shop: Shop) -> None:
    make_wheel(shop.work, "chiseltiny")
    requirements = shop.require("chiseltiny-1.0-py3-none-any.whl")
    environments = shop.environments()
    user = shop.user()
    made = await environments.get(requirements, user=user)
    assert made.folder == user / "environment"
    assert run(made, "import chiseltiny; print(chiseltiny.version)") == "1.0"
    assert list(shop.envs.iterdir()) == []
    leave_environment(user)
    assert list(user.iterdir()) == []


async def test_the_longest_unused_environment_gives_way_but_none_in_use(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def build(self: Installer, folder: Path, *_: object, pip: bool) -> None:
        (folder / "bin").mkdir(parents=True)
        (folder / "bin/python").write_text("x" * 100_000)

    monkeypatch.setattr(Installer, "build", build)
    environments = shop.environments(max_bytes=250_000)
    user = shop.user()
    used = await environments.get(shop.require("chisel-a"), user=user)
    left = []
    for name in ("chisel-b", "chisel-c"):
        passing = shop.user()
        left.append((await environments.get(shop.require(name), user=passing)).folder)
        leave_environment(passing)
    assert set(shop.folders()) == {used.folder, left[1]}
    leave_environment(user)
    newest = await environments.get(shop.require("chisel-d"), user=shop.user())
    assert set(shop.folders()) == {left[1], newest.folder}
    assert len(list(shop.envs.glob("*.env"))) == 2


@pytest.mark.parametrize("wanted", [">=3.99", "<3.11", "==2.*", "no specifier"])
async def test_a_script_that_requires_another_python_is_told(shop: Shop, wanted: str) -> None:
    asked = Requirements(shop.work / "x.py", "", local=False, python=wanted)
    with pytest.raises(
        BuildFailed, match=f"requires Python {re.escape(wanted)}, and this agent runs jobs with 3"
    ):
        await shop.environments().get(asked, user=shop.user())


async def test_a_script_whose_python_this_is_runs_with_it(shop: Shop) -> None:
    asked = Requirements(shop.work / "x.py", "", local=False, python=">=3.11,<4")
    assert await shop.environments().get(asked, user=shop.user()) == Environment(PYTHON)
