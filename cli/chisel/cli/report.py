"""What programs read of a job that `chisel python` ran: its JSON, or the id of one that was detached."""

import os

import msgspec

from chisel.cli.choices import Choices
from chisel.cli.render import CannotWrite, Screen
from chisel_shared.contract.job import JobView


def report(job: JobView, choices: Choices, screen: Screen) -> None:
    """On stdout and into the file of `--result`, as wished. `CannotWrite` when that file cannot be."""
    shown = msgspec.json.format(msgspec.json.encode(job), indent=2)
    if choices.flag("json"):
        screen.result(shown.decode())
    elif choices.flag("detach"):
        screen.result(job.id)
    path = choices.text("result")
    if path is not None:
        _write(path, shown + b"\n")
    if choices.flag("detach"):
        screen.say(f"follow it with chisel logs -f {job.id}, end it with chisel cancel {job.id}")


def _write(path: str, content: bytes) -> None:
    """Whole or not at all: somebody may wait for the file."""
    aside = f"{path}.{os.getpid()}.part"
    try:
        with open(aside, "xb") as file:
            file.write(content)
        os.replace(aside, path)
    except OSError as error:
        raise CannotWrite(f"{path} cannot be written ({error.strerror}); the job is not affected") from error
