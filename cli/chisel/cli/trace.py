"""`chisel trace ls` and `download`: which traces a job saved, and saving them here."""

import os

from chisel.cli import trace_sources as sources
from chisel.cli.legible import legible
from chisel.cli.render import Screen
from chisel.cli.trace_copy import copy_as
from chisel.cli.trace_desk import Desk, load, local, parse, statuses, whole
from chisel.cli.trace_slice import save_as
from chisel.cli.trace_sources import Local, NotWhole, OfJob
from chisel.cli.values import UsageError
from chisel_shared.contract.traces import STORED, TraceState
from chisel_shared.traces import words

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is
if TYPE_CHECKING:
    from chisel_shared.contract.messages import TraceView


def ls(job: str, json: bool) -> int:
    from chisel.cli import trace_listing

    screen = Screen()
    with statuses(), Desk(screen) as desk:
        source = parse(job)
        if isinstance(source, Local):
            file = local(source.path)
            found = [trace_listing.of_file(file.name, os.path.getsize(file.path), load(file).summary)]
        else:
            every = desk.client.traces(source.job)
            found = sorted(every, key=lambda trace: (trace.attempt, *sources.order(trace)))
            if source.name:
                found = sources.named(found, source)
    if json:
        screen.json(found)
    elif found:
        screen.result(trace_listing.traces(legible(found), width=screen.columns))
    else:
        screen.say(f"job {job} has saved no trace; decorate a function with @capture_trace")
    return NotWhole.exit_code if isinstance(source, Local) and found[0].state is TraceState.PARTIAL else 0


def download(
    job: str, name: str | None, output: str, raw: bool, gz: bool, speedscope: bool, folded: bool, quiet: bool,
    json: bool,
) -> int:  # fmt: skip
    if raw + gz + speedscope + folded > 1:
        raise UsageError("one of --raw, --gz, --speedscope and --folded, not several")
    flames = speedscope or folded
    screen = Screen(quiet=quiet)
    saved: list[dict[str, object]] = []

    def tell(name: str, attempt: int, path: str) -> None:
        saved.append({"name": name, "attempt": attempt, "saved_as": path})
        if not json and not quiet:
            screen.result(path)

    with statuses(), Desk(screen) as desk:
        source = parse(f"{job}/{name}" if name else job)
        if isinstance(source, Local):
            file = local(source.path)
            if flames:
                tell(file.name, 0, save_as(file, output, folded=folded))
            else:
                tell(file.name, 0, copy_as(file, output, gz=gz))
        else:
            for trace in _wanted(desk, source):
                whole(trace)
                if flames:
                    path = save_as(desk.file(trace), output, folded=folded)
                else:
                    path = desk.client.download_trace(trace, output, gz=gz)
                tell(trace.name, trace.attempt, path)
    if json:
        screen.json(saved)
    return 0


def _wanted(desk: Desk, source: OfJob) -> "list[TraceView]":
    """Those that are meant, of equal names the newest: those that are stored, unless one is named."""
    # By attempt, ascending: of equal names the newest stays.
    every = desk.client.traces(source.job)
    stored = {trace.name: trace for trace in every if trace.state in STORED}
    newest = {trace.name: trace for trace in every} | stored
    found = sources.named(sorted(newest.values(), key=sources.order), source)
    exact = [one for one in found if words.stem(one.name) == words.stem(source.name)]
    return exact or [one for one in found if one.state in STORED] or found[:1]
