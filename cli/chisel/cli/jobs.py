"""`chisel ps` and `chisel cancel`."""

from typing import TYPE_CHECKING

from chisel.cli.backend import connect
from chisel.cli.render import Screen
from chisel_shared.contract.errors import ChiselError

if TYPE_CHECKING:
    from chisel_shared.contract.job import JobView


def ps(all: bool, limit: int, json: bool) -> int:
    screen = Screen()
    with connect(screen) as client:
        jobs = client.jobs(unfinished=not all, limit=limit)
        if not jobs and not all:
            jobs = client.jobs(limit=1)
    if json:
        import msgspec

        screen.result(msgspec.json.format(msgspec.json.encode(jobs), indent=2).decode())
    elif jobs:
        screen.result(_table(jobs))
    else:
        screen.say("there is no job yet")
    return 0


def cancel(jobs: tuple[str, ...]) -> int:
    screen = Screen()
    status = 0
    with connect(screen) as client:
        for name in jobs:
            try:
                job = client.cancel(name)
            except ChiselError as error:
                screen.error(f"{name}: {error}" if len(jobs) > 1 else str(error))
                status = error.exit_code
                continue
            if job.end is None:
                screen.say(f"job {job.id} is being cancelled")
            else:
                from chisel_shared.contract.job import label

                screen.say(f"job {job.id} has ended: {job.state} ({label(job.end)})")
    return status


def _table(jobs: "tuple[JobView, ...]") -> str:
    import time

    from chisel.cli import wording
    from chisel_shared.contract.job import label

    now = time.time()
    rows = [("JOB", "NAME", "GPUS", "STATE", "WHERE", "TIME")]
    for job in jobs:
        state = f"{job.state} ({label(job.end)})" if job.end else str(job.state)
        if job.end is None and job.cancel_requested:
            state += ", cancelling"
        if job.waiting and job.end is None:
            state += f": {job.waiting}"
        rows.append(
            (job.id, job.app_name, wording.gpus(job.gpu), state, job.agent_name, wording.age(job, now))
        )
    return wording.table(rows)
