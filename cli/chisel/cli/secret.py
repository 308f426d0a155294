"""`chisel secret`: values for jobs, which go in here and come out in no command."""

import os
import sys

from chisel.cli import wording
from chisel.cli.backend import connect
from chisel.cli.render import Screen
from chisel.cli.values import UsageError
from chisel_shared.contract.errors import BadRequest
from chisel_shared.contract.variables import MAX_SECRET_BYTES, check_secret_name


def set(name: str, from_file: str | None, json: bool) -> int:
    screen = Screen()
    if "=" in name:
        raise UsageError(
            "a value on the command line would stay in the shell's history and in the list of processes:"
            f" chisel secret set {name.partition('=')[0]}, then type it, or pipe it in"
        )
    check_secret_name(name)
    value = _value(name, from_file)
    with connect(screen) as client:
        view = client.set_secret(name, value)
    what = "is set" if view.version == 1 else "has a new value; jobs that start from now on find it"
    screen.say(f"secret {name} {what} ({wording.size(len(value))})")
    if json:
        screen.json(view)
    return 0


def ls(json: bool) -> int:
    screen = Screen()
    with connect(screen) as client:
        secrets = client.secrets()
    if json:
        screen.json(secrets)
    elif secrets:
        import time

        rows = [("SECRET", "SET", "BY", "VERSION")]
        for view in secrets:
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(view.set_at))
            rows.append((view.name, when, view.set_by, str(view.version)))
        screen.result(wording.table(rows))
    else:
        screen.say("this project has no secret yet: chisel secret set NAME")
    return 0


def rm(names: tuple[str, ...], json: bool) -> int:
    screen = Screen()
    with connect(screen) as client:
        for name in names:
            client.remove_secret(name)
            screen.say(f"secret {name} is forgotten; jobs that run keep what they were given")
    if json:
        screen.json(names)
    return 0


def _value(name: str, from_file: str | None) -> bytes:
    if from_file is not None:
        try:
            with open(from_file, "rb") as file:
                return file.read(MAX_SECRET_BYTES + 1)
        except OSError as error:
            raise BadRequest(f"{from_file} cannot be read: {error.strerror}") from error
    if not os.isatty(0):
        read = sys.stdin.buffer.read(MAX_SECRET_BYTES + 3)
        return read.removesuffix(b"\n").removesuffix(b"\r") if read.endswith(b"\n") else read
    from getpass import getpass

    try:
        return os.fsencode(getpass(f"value of {name}, not shown: "))
    except EOFError:
        raise KeyboardInterrupt from None  # nobody is there to type it
