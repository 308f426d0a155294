"""What the API reference promises to somebody who sits at a terminal."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

from tests.e2e.promises import Check, Reader, promise, rows
from tests.support.terminal import CTRL_C, Terminal, on_terminal
from tests.support.waiting import until

QUESTIONS = (
    "App name [train]: ",
    "Upload directory [.]: ",
    "Requirements file [none]: ",
    "GPUs, 1, 2, 4 or 8 (",
)


def _at_terminal(*words: str) -> Callable[[Reader], Terminal]:
    """Answer every question with Enter, the app name of a line without -i with one of its own."""

    def run(reader: Reader) -> Terminal:
        env = reader.cluster.environment({"HOME": str(reader.home)})
        command = [str(Path(sys.executable).with_name("chisel")), *words]
        with on_terminal(command, cwd=reader.project, env=env) as terminal:
            for number, question in enumerate(QUESTIONS):
                terminal.wait_for(question.encode())
                terminal.type(b"mine\n" if number == 0 else b"\n")
            assert terminal.finish() == 0, terminal.shown
        return terminal

    return run


def _forces(flag: str) -> Check:
    def check(reader: Reader) -> None:
        _at_terminal("python", "train.py", "-a", "train", flag)(reader)
        assert reader.job()["app_name"] == "mine"

    return check


for flag in ("--interactive", "-i"):
    rows(95, "Chisel CLI Options", {f"{flag}: force interactive mode": _forces(flag)}, f"`{flag}`")


@promise(98, "Interactive Mode", "app name, directory, requirements and GPUs are asked for when missing")
def _(reader: Reader) -> None:
    terminal = _at_terminal("python", "train.py")(reader)
    assert b"8 of 8 free now" in terminal.shown
    assert reader.job()["app_name"] == "mine"


@promise(290, "CLI Workflow", "2. check authentication: authenticate if needed, opens a browser")
def _(reader: Reader) -> None:
    opened = reader.project / "opened"
    reader.write("browser", f'#!/bin/sh\necho "$1" > {opened}.part\nmv {opened}.part {opened}\n')
    (reader.project / "browser").chmod(0o755)
    strange = {
        "HOME": str(reader.home), "CHISEL_API_KEY": "", "DISPLAY": ":0", "SSH_CONNECTION": "", "SSH_TTY": "",
        "BROWSER": f"{reader.project}/browser %s",
    }  # fmt: skip
    command = [str(Path(sys.executable).with_name("chisel")), "python", "train.py", "-a", "train"]
    with on_terminal(command, cwd=reader.project, env=reader.cluster.environment(strange)) as terminal:
        terminal.wait_for(b"use the page that your browser opens")
        terminal.wait_for(b"waiting for you")
        asyncio.run(until(opened.exists))
        terminal.type(CTRL_C)
        assert terminal.finish() == 130
    assert opened.read_text().startswith(f"{reader.cluster.url}/login?code=")
    assert not (reader.home / ".chisel" / "credentials.json").exists()


@promise(292, "CLI Workflow", "4. package code, 5. submit job: what there is is said before it is sent")
def _(reader: Reader) -> None:
    command = [str(Path(sys.executable).with_name("chisel")), "python", "train.py", "-a", "train"]
    env = reader.cluster.environment({"HOME": str(reader.home)})
    new = reader.project / "new.txt"
    new.write_text(os.urandom(16).hex())  # what the backend has is not sent again
    with on_terminal(command, cwd=reader.project, env=env) as terminal:
        assert terminal.finish() == 0
    new.unlink()
    steps = [b"packing 2 files, ", b"uploading ", b"job ", b"running on "]
    assert [terminal.shown.index(step) for step in steps] == sorted(
        terminal.shown.index(step) for step in steps
    )


@promise(95, "Chisel CLI Options", "interactive is detected: nothing is asked without a terminal")
def _(reader: Reader) -> None:
    assert b"App name" not in reader.chisel("python", "train.py").stderr
