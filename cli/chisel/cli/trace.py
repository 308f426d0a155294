"""`chisel trace`: which traces a job saved, and saving them here."""

from chisel.cli import wording
from chisel.cli.backend import connect
from chisel.cli.render import Screen
from chisel_shared.contract.errors import NotFound
from chisel_shared.contract.traces import STORED


def ls(job: str, json: bool) -> int:
    screen = Screen()
    with connect(screen) as client:
        traces = client.traces(job)
    if json:
        screen.json(traces)
    elif traces:
        rows = [("TRACE", "ATTEMPT", "SIZE", "STATE")]
        rows += [
            (trace.name, str(trace.attempt), wording.size(trace.size_bytes), trace.state) for trace in traces
        ]
        screen.result(wording.table(rows))
    else:
        screen.say(f"job {job} has saved no trace; decorate a function with @capture_trace")
    return 0


def download(job: str, name: str | None, output: str, json: bool) -> int:
    screen = Screen()
    with connect(screen) as client:
        # By attempt, ascending: of equal names the newest stays.
        newest = {trace.name: trace for trace in client.traces(job) if trace.state in STORED}
        if name is not None:
            newest = {key: trace for key, trace in newest.items() if key in (name, f"{name}.json")}
        if not newest:
            raise NotFound(f"job {job} has no trace {name}" if name else f"job {job} has saved no trace")
        saved = []
        for trace in newest.values():
            path = client.download_trace(trace, output)
            saved.append({"name": trace.name, "attempt": trace.attempt, "saved_as": path})
            if not json:
                screen.result(path)
    if json:
        screen.json(saved)
    return 0
