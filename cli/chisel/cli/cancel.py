"""`chisel cancel`: ask for the end of jobs."""

from typing import TYPE_CHECKING

from chisel.cli.backend import connect
from chisel.cli.render import Screen
from chisel.cli.values import UsageError
from chisel_shared.contract.errors import ChiselError

if TYPE_CHECKING:
    from chisel_shared.contract.job import JobView


def cancel(
    jobs: tuple[str, ...], signal: str | None, grace: str | None, reason: str | None, json: bool
) -> int:
    first = signal_name(signal) if signal is not None else "INT"
    seconds = None
    if grace is not None:
        from chisel.cli.values import duration

        seconds = duration(grace)
    screen = Screen()
    status = 0
    asked: list[JobView] = []
    with connect(screen) as client:
        for name in jobs:
            try:
                job = client.cancel(name, signal=first, grace_seconds=seconds, reason=reason or "")
            except ChiselError as error:
                screen.error(f"{name}: {error}" if len(jobs) > 1 else str(error))
                status = status or error.exit_code
                continue
            asked.append(job)
            if job.end is None:
                screen.say(f"job {job.id} is being cancelled")
            else:
                from chisel_shared.contract.job import label

                screen.say(f"job {job.id} has ended: {job.state} ({label(job.end)})")
    if json:
        screen.json(asked)
    return status


def signal_name(text: str) -> str:
    """`INT` for `int`, `SIGINT` or `2`; `UsageError` names those a job can be sent."""
    from chisel_shared.contract.stops import SIGNALS

    wanted = text.upper().removeprefix("SIG")
    for name, number in SIGNALS.items():
        if wanted in (name, str(number)):
            return name
    raise UsageError(f"a job can be sent {', '.join(SIGNALS)}, not {text}")
