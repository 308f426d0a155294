"""`chisel login`, `logout`, `whoami` and `admin` against a real auth service and a real gateway."""

import asyncio
import fcntl
import json
import os
import pty
import re
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.accounts.test_login import logged_in
from tests.accounts.world import Browser, World
from tests.support.waiting import until

FAILED = "❌ Authentication failed. Unable to get valid API key."
_CODE = re.compile(r"/login\?code=([A-Z]{4}-[A-Z]{4})")


class Shell:
    """A user's shell: a home of its own, and none of the test's settings."""

    def __init__(self, world: World, home: Path) -> None:
        self.world = world
        self.home = home
        self.credentials = home / ".chisel" / "credentials.json"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CHISEL_")}
        for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION", "BROWSER"):
            kept.pop(name, None)
        self.env = {**kept, "HOME": str(home), "CHISEL_LOCAL_DIR": str(home / "no-stack")}

    async def start(self, *words: str, stdin: str = "", **env: str) -> "Started":
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "chisel",
            *words,
            env={**self.env, **env},
            cwd=self.home,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        if stdin:
            process.stdin.write(stdin.encode())
        process.stdin.close()
        return Started(process)

    async def run(self, *words: str, stdin: str = "", **env: str) -> "Done":
        return await (await self.start(*words, stdin=stdin, **env)).finish()

    @property
    def stored(self) -> dict[str, Any]:
        return dict(json.loads(self.credentials.read_text()))


class Done:
    def __init__(self, status: int, stdout: str, stderr: str) -> None:
        self.status, self.stdout, self.stderr = status, stdout, stderr


class Started:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._said = ""

    async def code(self) -> str:
        """The code that it shows, as soon as it does."""
        assert self._process.stderr is not None
        while not (found := _CODE.search(self._said)):
            line = await self._process.stderr.readline()
            assert line, self._said
            self._said += line.decode()
        return found[1]

    async def finish(self) -> Done:
        stdout, stderr = await self._process.communicate()
        return Done(self._process.returncode or 0, stdout.decode(), self._said + stderr.decode())


@pytest.fixture
def shell(world: World, tmp_path: Path) -> Shell:
    home = tmp_path / "home"
    home.mkdir()
    return Shell(world, home)


async def allowed(world: World, ada: Browser, started: Started, answer: str = "allow") -> Done:
    """Answer on the page, and let the services' time pass as the command's does."""
    await ada.answer(await started.code(), answer)

    async def ticks() -> None:
        while True:
            world.clock.advance(2)
            await asyncio.sleep(0.2)

    ticking = asyncio.create_task(ticks())
    try:
        return await started.finish()
    finally:
        ticking.cancel()


async def test_a_login_without_a_terminal(world: World, ada: Browser, shell: Shell) -> None:
    done = await allowed(world, ada, await shell.start("login", world.url, "--json"))
    assert done.status == 0, done.stderr
    assert "left" not in done.stderr
    who = json.loads(done.stdout)
    assert (who["user"], who["project"], who["backend"]) == ("ada", "default", world.url)
    assert who["key_source"] == str(shell.credentials)
    assert shell.stored["backend"] == world.url
    assert (shell.credentials.stat().st_mode & 0o777, shell.credentials.parent.stat().st_mode & 0o777) == (
        0o600,
        0o700,
    )
    told = await shell.run("whoami")
    assert told.status == 0
    assert re.search(r"user +ada \(admin\)\nproject +default\nbackend +" + world.url, told.stdout)
    assert str(shell.credentials) in told.stdout


async def test_a_second_login_takes_the_place_of_the_first(world: World, ada: Browser, shell: Shell) -> None:
    keys = []
    for _ in range(2):
        await allowed(world, ada, await shell.start("login", world.url))
        keys.append(shell.stored["keys"][world.url])
    statuses = [(await world.call("GET", "/api/v1/whoami", key=key))[0] for key in keys]
    assert statuses == [401, 200]


async def test_a_refused_login(world: World, ada: Browser, shell: Shell) -> None:
    done = await allowed(world, ada, await shell.start("login", world.url), "refuse")
    assert (done.status, done.stdout) == (125, "")
    assert FAILED in done.stderr
    assert "refused on the page" in done.stderr
    assert not shell.credentials.exists()


async def test_logging_out_revokes_the_key(world: World, ada: Browser, shell: Shell) -> None:
    await allowed(world, ada, await shell.start("login", world.url))
    key = shell.stored["keys"][world.url]
    done = await shell.run("logout")
    assert done.status == 0
    assert f"logged out of {world.url}" in done.stderr
    assert not shell.credentials.exists()
    assert (await world.call("GET", "/api/v1/whoami", key=key))[0] == 401
    assert "no API key is stored" in (await shell.run("logout")).stderr


@pytest.mark.parametrize("words", [("logout", "--all"), ("--logout",)])
async def test_logging_out_everywhere_says_where_it_could_not(
    world: World, ada: Browser, shell: Shell, words: tuple[str, ...]
) -> None:
    key = await logged_in(world, ada)
    shell.credentials.parent.mkdir(mode=0o700)
    keys = {world.url: key, "http://127.0.0.1:1": "gone"}
    shell.credentials.write_text(json.dumps({"backend": world.url, "keys": keys}))
    shell.credentials.chmod(0o600)
    done = await shell.run(*words)
    assert done.status == 0
    assert "the key for http://127.0.0.1:1 is forgotten here but may still be valid there" in done.stderr
    assert not shell.credentials.exists()
    assert (await world.call("GET", "/api/v1/whoami", key=key))[0] == 401


async def test_a_damaged_file_is_forgotten(shell: Shell) -> None:
    shell.credentials.parent.mkdir()
    shell.credentials.write_text("{")
    assert (await shell.run("whoami", CHISEL_BACKEND_URL=shell.world.url)).status != 0
    assert (await shell.run("--logout")).status == 0
    assert not shell.credentials.exists()


async def test_a_key_from_the_environment_wins(world: World, ada: Browser, shell: Shell) -> None:
    env = {"CHISEL_BACKEND_URL": world.url, "CHISEL_API_KEY": world.key}
    done = await shell.run("whoami", "--json", **env)
    who = json.loads(done.stdout)
    assert (who["user"], who["key_source"], who["key_name"]) == ("local", "CHISEL_API_KEY", "bootstrap")
    assert "goes on being used: unset it" in (await shell.run("logout", **env)).stderr


@pytest.mark.parametrize("command", [("whoami",), ("ps",)])
async def test_a_key_that_is_no_longer_accepted(world: World, shell: Shell, command: tuple[str, ...]) -> None:
    env = {"CHISEL_BACKEND_URL": world.url, "CHISEL_API_KEY": "chsl_usr_gone"}
    done = await shell.run(*command, **env)
    assert (done.status, done.stdout) == (125, "")
    assert "does not accept this API key: run `chisel login`" in done.stderr


async def test_without_a_key_and_a_terminal_nothing_waits(world: World, shell: Shell) -> None:
    done = await shell.run("ps", CHISEL_BACKEND_URL=world.url)
    assert (done.status, done.stdout) == (125, "")
    assert FAILED in done.stderr
    assert f"chisel login {world.url}" in done.stderr
    assert await world.fetch("select * from logins") == []
    assert "not logged in" in (await shell.run("whoami", CHISEL_BACKEND_URL=world.url)).stderr


async def test_a_key_from_stdin(world: World, ada: Browser, shell: Shell) -> None:
    key = await logged_in(world, ada)
    done = await shell.run("login", world.url, "--with-key", stdin=f"{key}\n")
    assert done.status == 0, done.stderr
    assert shell.stored["keys"] == {world.url: key}
    for wrong in ("", "chsl_usr_wrong\n", "schlüssel\n"):
        done = await shell.run("login", world.url, "--with-key", stdin=wrong)
        assert done.status == 125
        assert FAILED in done.stderr
        assert shell.stored["keys"] == {world.url: key}


async def test_an_admin_from_init_to_a_colleague(
    world: World, shell: Shell, browser: Browser, new_browser: Callable[[], Browser]
) -> None:
    words = ("admin", "init", world.url, "--token-file", str(world.admin_token_file))
    page = (await shell.run(*words)).stdout.strip()
    assert page.startswith(f"{world.url}/welcome?token=")
    await browser.open_account(page.partition("token=")[2])
    done = await shell.run(*words)
    assert done.status == 125
    assert "there is an admin already" in done.stderr
    await allowed(world, browser, await shell.start("login", world.url))
    invited = (await shell.run("admin", "users", "add", "bob", "--project", "lab")).stdout.strip()
    await new_browser().open_account(invited.partition("token=")[2])
    listed = (await shell.run("admin", "users", "ls")).stdout
    assert re.search(r"bob +lab +member +active", listed)
    users = json.loads((await shell.run("admin", "users", "ls", "--json")).stdout)
    assert {user["name"] for user in users} == {"ada", "bob", "local"}
    assert (await shell.run("admin", "users", "rm", "bob")).status == 0
    done = await shell.run("admin", "users", "rm", "bob", "ada")
    assert done.status == 125
    assert "there is no account bob" in done.stderr
    assert "ada is the only admin" in done.stderr


class Terminal:
    """A command on a pseudo-terminal."""

    def __init__(self, shell: Shell, *words: str, **env: str) -> None:
        self.shown = ""
        self.ended = asyncio.Event()
        self._more = asyncio.Condition()
        self._ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "chisel", *words],
            cwd=shell.home,
            env={**shell.env, "TERM": "xterm", **env},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        self._reader = asyncio.create_task(self._read())

    async def until(self, pattern: str) -> str:
        """What it shows, once `pattern` is part of it."""
        async with self._more, asyncio.timeout(60):
            await self._more.wait_for(lambda: re.search(pattern, self.shown) or self.ended.is_set())
        assert re.search(pattern, self.shown), self.shown
        return self.shown

    def type(self, text: bytes) -> None:
        os.write(self._ours, text)

    async def status(self) -> int:
        await self._reader
        status = await asyncio.to_thread(self._process.wait)
        os.close(self._ours)
        return status

    async def _read(self) -> None:
        while True:
            try:
                part = await asyncio.to_thread(os.read, self._ours, 1 << 16)
            except OSError:
                part = b""
            async with self._more:
                self.shown += part.decode()
                if not part:
                    self.ended.set()
                self._more.notify_all()
            if not part:
                return


async def test_a_terminal_counts_down_and_opens_the_browser(
    world: World, ada: Browser, shell: Shell, tmp_path: Path
) -> None:
    opened, program = tmp_path / "opened", tmp_path / "browser"
    program.write_text(f'#!/bin/sh\nprintf %s "$1" > {opened}\n')
    program.chmod(0o755)
    terminal = Terminal(shell, "ps", CHISEL_BACKEND_URL=world.url, DISPLAY=":0", BROWSER=f"{program} %s")
    shown = await terminal.until(r"waiting for you, 10:00 left.*9:59 left")
    found = _CODE.search(shown)
    assert found
    assert "use the page that your browser opens" in shown
    await until(lambda: opened.exists() and opened.stat().st_size > 0)
    assert opened.read_text() == f"{world.url}/login?code={found[1]}"
    await ada.answer(found[1])
    world.clock.advance(2)
    await terminal.until("does not answer|there is no job yet|nobody answers|rpc")
    await terminal.status()
    assert world.url in shell.stored["keys"]
    assert terminal.shown.count("\n") < 12


async def test_ctrl_c_gives_up(world: World, shell: Shell) -> None:
    terminal = Terminal(shell, "login", world.url, SSH_CONNECTION="1 2 3 4", DISPLAY=":0")
    shown = await terminal.until("left .Ctrl-C gives up.")
    assert "open this page in a browser, on any machine" in shown
    terminal.type(b"\x03")
    assert await terminal.status() == 130
    assert "Traceback" not in terminal.shown
    assert not shell.credentials.exists()
