"""`chisel trace ls` and `download`: which traces a job saved, and saving them here."""

from chisel.cli import trace_sources as sources
from chisel.cli.legible import legible
from chisel.cli.render import Screen
from chisel.cli.trace_desk import Desk, parse, statuses, whole
from chisel.cli.trace_sources import Local
from chisel.cli.values import UsageError
from chisel_shared.contract.traces import STORED
from chisel_shared.traces import words


def ls(job: str, json: bool) -> int:
    from chisel.cli import trace_listing

    screen = Screen()
    with statuses(), Desk(screen) as desk:
        source = parse(job)
        if isinstance(source, Local):
            raise UsageError(f"{job} is a file; chisel trace summary {job} shows what is in it")
        every = desk.client.traces(source.job)
        found = sorted(every, key=lambda trace: (trace.attempt, *sources.order(trace)))
        if source.name:
            found = sources.named(found, source)
    if json:
        screen.json(found)
    elif found:
        screen.result(trace_listing.traces(legible(found), width=screen.columns))
    else:
        screen.say(f"job {source.job} has saved no trace; decorate a function with @capture_trace")
    return 0


def download(
    job: str, name: str | None, output: str, raw: bool, gz: bool, speedscope: bool, folded: bool, quiet: bool,
    json: bool,
) -> int:  # fmt: skip
    if raw + gz + speedscope + folded > 1:
        raise UsageError("one of --raw, --gz, --speedscope and --folded, not several")
    screen = Screen(quiet=quiet)
    with statuses(), Desk(screen) as desk:
        source = parse(f"{job}/{name}" if name else job)
        if isinstance(source, Local):
            raise UsageError(f"{job} is a file of this machine already")
        # By attempt, ascending: of equal names the newest stays.
        every = desk.client.traces(source.job)
        stored = {trace.name: trace for trace in every if trace.state in STORED}
        newest = {trace.name: trace for trace in every} | stored
        found = sources.named(sorted(newest.values(), key=sources.order), source)
        exact = [one for one in found if words.stem(one.name) == words.stem(source.name)]
        chosen = exact or [one for one in found if one.state in STORED] or found[:1]
        saved = []
        for trace in chosen:
            whole(trace)
            if speedscope or folded:
                from chisel.cli.trace_slice import save_as

                path = save_as(desk.file(trace), output, folded=folded)
            else:
                path = desk.client.download_trace(trace, output, gz=gz)
            saved.append({"name": trace.name, "attempt": trace.attempt, "saved_as": path})
            if not json and not quiet:
                screen.result(path)
    if json:
        screen.json(saved)
    return 0
