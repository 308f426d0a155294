"""`chisel logs` and `chisel attach`: the output of a job, as much of it as is wanted."""

from itertools import pairwise
from typing import TYPE_CHECKING

from chisel.cli.backend import connect
from chisel.cli.interrupts import Interrupts
from chisel.cli.render import Screen
from chisel.cli.values import UsageError
from chisel.cli.watch import Watch
from chisel.following import Output, Wanted
from chisel_shared.contract.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chisel.client import Client

LAUNCHERS = ("torch.distributed.run", "torch.distributed.launch", "accelerate.commands.launch")
"""Modules that start one process for each rank."""


def logs(
    job: str,
    follow: bool,
    tail: int | None,
    since: str | None,
    stderr: bool,
    timestamps: bool,
    rank: int | None,
    raw: bool,
    json: bool,
) -> int:
    wanted = Wanted(
        tail=tail,
        since=moment(since) if since is not None else None,
        streams=("stderr",) if stderr else (),
        timestamps=timestamps or json,
    )
    screen = Screen(raw=raw or json, together=json)
    with connect(screen) as client, Interrupts() as interrupts:
        if rank is not None:
            _check_rank(client, job, rank)
        following = client.follow(job, live=follow, wanted=wanted, wake=interrupts.wake)
        stamp: Stamper | Documents | None = None
        if json:
            stamp = Documents()
        elif timestamps:
            stamp = Stamper()
        watch = Watch(
            following=following,
            screen=screen,
            interrupts=interrupts,
            cancels=False,
            stamp=stamp,
            client=client,
        )
        status = watch.run()
        if isinstance(stamp, Documents):
            screen.output("stdout", stamp.rest())
    return status if follow or interrupts.number is not None else 0


def attach(job: str, tail: int, raw: bool) -> int:
    screen = Screen(raw=raw)
    with connect(screen) as client, Interrupts() as interrupts:
        following = client.follow(job, wanted=Wanted(tail=tail), wake=interrupts.wake)
        return Watch(
            following=following, screen=screen, interrupts=interrupts, cancels=True, client=client
        ).run()


def moment(text: str) -> float:
    """What `--since` means: a duration counts back from now and is negative, anything else is a time."""
    from chisel.cli.values import duration

    try:
        return -duration(text)
    except UsageError:
        pass
    from datetime import datetime

    try:
        return max(0.0, datetime.fromisoformat(text).timestamp())  # without a zone: the user's own
    except (ValueError, OverflowError):
        raise UsageError(
            f"{text!r} is no time: write how long ago, as 10m or 01:30:00, or when, as 2030-01-31T12:00"
        ) from None


def _check_rank(client: "Client", name: str, rank: int) -> None:
    job = client.view(name)
    if has_ranks(job.argv):
        raise NotFound(
            f"the ranks of job {job.id} share its stdout and stderr, so nobody can tell them apart: give the"
            " launcher --tee 3, which marks every line with its rank"
        )
    if rank:
        raise NotFound(
            f"job {job.id} has one process, which is rank 0; what that starts shares its stdout and stderr"
        )


def has_ranks(argv: "Sequence[str]") -> bool:
    """Whether a command line starts a process for each rank."""
    return any(option == "-m" and module in LAUNCHERS for option, module in pairwise(argv))


class Stamper:
    """Puts before each line when it came to the backend."""

    def __init__(self) -> None:
        self._begins = {"stdout": True, "stderr": True}

    def __call__(self, output: Output) -> bytes:
        from datetime import UTC, datetime

        if output.time:
            at = datetime.fromtimestamp(output.time, UTC)
            stamp = f"{at.strftime('%Y-%m-%dT%H:%M:%S')}.{at.microsecond // 1000:03}Z "
        else:
            stamp = "-".ljust(25)
        shown = b""
        for line in _lines(bytes(output.data)):
            shown += (stamp.encode() if self._begins[output.stream] else b"") + line
            self._begins[output.stream] = line.endswith(b"\n")
        return shown


class Documents:
    """Makes of each line a JSON document: its `stream`, its `text` without the line end, and the `time` when
    its end came to the backend, null where nobody knows. Bytes that are not UTF-8 are written as `\\xff`."""

    def __init__(self) -> None:
        self._begun = {"stdout": b"", "stderr": b""}

    def __call__(self, output: Output) -> bytes:
        shown = b""
        for line in _lines(bytes(output.data)):
            whole = self._begun[output.stream] + line
            self._begun[output.stream] = b"" if line.endswith(b"\n") else whole
            if line.endswith(b"\n"):
                shown += _document(output.stream, whole[:-1], output.time)
        return shown

    def rest(self) -> bytes:
        """The last lines, which nothing ended."""
        return b"".join(_document(stream, line, 0.0) for stream, line in self._begun.items() if line)


def _document(stream: str, line: bytes, time: float) -> bytes:
    import msgspec

    text = line.decode("utf-8", "backslashreplace")
    return msgspec.json.encode({"time": time or None, "stream": stream, "text": text}) + b"\n"


def _lines(data: bytes) -> list[bytes]:
    """Only newlines end a line: a progress bar's carriage returns are the script's business."""
    parts = data.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])
