"""`chisel pull`, and the return of a job's outputs at the end of `chisel python`."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from chisel.cli import wording
from chisel.cli.backend import connect
from chisel.cli.render import Screen
from chisel_shared.contract.errors import ChiselError, NotFound, UserError
from chisel_shared.contract.files import FOLDER
from chisel_shared.contract.job import OWN_FAILURE, JobView

if TYPE_CHECKING:
    from chisel.cli.interrupts import Interrupts
    from chisel.client import Client
    from chisel.pulling import Pulled
    from chisel_shared.contract.messages import Outputs

_NAMED = 5


class FolderIsLink(UserError):
    """The folder for outputs is a link: nothing is written through it."""


def pull(job: str, path: str | None, output: str, force: bool, json: bool) -> int:
    screen = Screen()
    with connect(screen) as client:
        outputs = _stored(client, job)
        if not outputs.ended and not outputs.files:
            raise NotFound(f"job {outputs.job_id} has not ended; its outputs are collected when it has")
        from chisel.pulling import chosen

        files = chosen(outputs.files, path or "")
        if path and not files:
            raise NotFound(f"job {outputs.job_id} wrote no {path} into ./{FOLDER}")
        found = list(client.pull(outputs, files, _checked(output), force=force))
    whole = _tell(screen, outputs, found, output, named=bool(path))
    if json:
        screen.json(_as_json(outputs, found, output))
    else:
        for one in found:
            if one.path:
                screen.result(os.path.join(output, *one.path.split("/")))
    if not outputs.count and not outputs.left_out:
        screen.say(f"job {outputs.job_id} wrote nothing into ./{FOLDER}")
    return 0 if whole else OWN_FAILURE


def end_of_run(
    *,
    client: "Client",
    screen: Screen,
    job: JobView,
    folder: str | None,
    interrupts: "Interrupts",
    status: int,
) -> int:
    """Save what an ended job wrote below `folder`, the working directory; None leaves it where it is.

    The exit status of the command: `status`, the job's own, unless that is 0 and not all files came.
    Never raises: the job has its end whatever becomes of its files.
    """
    if folder is None:
        _tell_later(screen, job)
        return status
    cancelled = interrupts.number is not None
    if _bring_back(
        client, screen, job, os.path.normpath(os.path.join(folder, FOLDER)),
        stopped=lambda: interrupts.number is not None and not cancelled,
    ):  # fmt: skip
        return status
    if interrupts.number is not None and not cancelled:
        return interrupts.status
    return status or OWN_FAILURE


def _tell_later(screen: Screen, job: JobView) -> None:
    end = job.end
    if end is not None and end.outputs:
        files = wording.files(end.outputs)
        screen.say(f"{files}, {wording.size(end.outputs_bytes)}, kept: chisel pull {job.id}", last=True)
    for line in end.outputs_left_out.splitlines() if end is not None else ():
        screen.say(f"left out: {line}", last=True)


def _bring_back(
    client: "Client", screen: Screen, job: JobView, folder: str, stopped: Callable[[], bool]
) -> bool:
    """Whether all of it is there."""
    from chisel.pulling import Stopped

    later = f"chisel pull {job.id}"
    found: list[Pulled] = []
    try:
        outputs = _stored(client, job.id)
        found.extend(client.pull(outputs, outputs.files, _checked(folder), stopped=stopped))
    except Stopped:
        screen.say(f"not all files came back; they are kept: {later}", last=True)
        return False
    except (ChiselError, OSError) as error:
        screen.error(f"not all files came back ({str(error).rstrip('.')}); they are kept: {later}")
        return False
    return _tell(screen, outputs, found, folder)


def _stored(client: "Client", job: str) -> "Outputs":
    from chisel.pulling import wait_until_stored

    job_id = client.resolve(job)
    return wait_until_stored(lambda: client.outputs(job_id))


def _checked(folder: str) -> str:
    """`folder`, unless somebody made it a link: a tree from elsewhere could bring one."""
    if os.path.basename(os.path.normpath(folder)) == FOLDER and os.path.islink(folder):
        raise FolderIsLink(
            f"{folder} is a link, and nothing is written through it:"
            " name another folder with chisel pull --output DIR"
        )
    return folder


def _tell(
    screen: Screen, outputs: "Outputs", found: "Sequence[Pulled]", folder: str, *, named: bool = False
) -> bool:
    """Say what came back and what did not; whether everything did that was to."""
    from chisel.pulling import BESIDE, REFUSED

    where = _shown(folder)
    came = [one for one in found if one.outcome != REFUSED]
    if came:
        total = wording.size(sum(one.file.size_bytes for one in came))
        screen.say(f"{wording.files(len(came))}, {total}, came back into {where}", last=True)
    beside = [one for one in came if one.outcome == BESIDE]
    for one in beside[:_NAMED]:
        screen.say(f"{where}{one.file.path} is yours and stays; the job's is {where}{one.path}", last=True)
    if len(beside) > _NAMED:
        screen.say(f"and {len(beside) - _NAMED} more like these", last=True)
    refused = [one for one in found if one.outcome == REFUSED]
    for one in refused[:_NAMED]:
        screen.error(f"{one.file.path!r} did not come back: it {one.why}")
    if len(refused) > _NAMED:
        screen.error(f"and {len(refused) - _NAMED} more like these")
    if not named:
        for line in outputs.left_out.splitlines():
            screen.say(f"left out: {line}", last=True)
    missing = max(0, outputs.count - len(outputs.files))
    if missing:
        screen.error(f"{missing} of {outputs.count} files are not stored yet: chisel pull {outputs.job_id}")
    return not refused and not missing


def _shown(folder: str) -> str:
    """`folder` as people write it from where they are."""
    try:
        near = os.path.relpath(folder)
    except ValueError:  # another drive
        near = folder
    return (folder if near.startswith(os.pardir) else near).rstrip(os.sep) + os.sep


def _as_json(outputs: "Outputs", found: "Sequence[Pulled]", folder: str) -> object:
    return {
        "job_id": outputs.job_id,
        "attempt": outputs.attempt,
        "folder": os.path.abspath(folder),
        "left_out": outputs.left_out.splitlines(),
        "missing": max(0, outputs.count - len(outputs.files)),
        "files": [
            {
                "path": one.file.path,
                "saved_as": one.path or None,
                "outcome": one.outcome,
                "why": one.why,
                "mode": one.file.mode,
                "size_bytes": one.file.size_bytes,
                "sha256": one.file.sha256,
            }
            for one in found
        ],
    }
