"""`chisel wait`: the end of jobs, and nothing else."""

from typing import TYPE_CHECKING

from chisel.cli.backend import connect
from chisel.cli.interrupts import Interrupts
from chisel.cli.render import Screen
from chisel.following import Wanted
from chisel_shared.contract.errors import ChiselError
from chisel_shared.contract.job import exit_status

if TYPE_CHECKING:
    from chisel.client import Client
    from chisel_shared.contract.job import JobView


def wait(jobs: tuple[str, ...], json: bool) -> int:
    screen = Screen()
    status = 0
    ended: list[JobView] = []
    with connect(screen) as client, Interrupts() as interrupts:
        for name in jobs:
            try:
                job = _end_of(client, name, interrupts)
            except ChiselError as error:
                screen.error(f"{name}: {error}" if len(jobs) > 1 else str(error))
                status = status or error.exit_code
                continue
            if job is None:
                return interrupts.status
            ended.append(job)
            if job.end is not None:
                status = status or exit_status(job.end)
    if json:
        screen.json(ended)
    return status


def _end_of(client: "Client", name: str, interrupts: Interrupts) -> "JobView | None":
    """The job once it has ended; None when a signal came first."""
    following = client.follow(name, wanted=Wanted(output=False), wake=interrupts.wake)
    try:
        for _ in following:
            if interrupts.unheeded:
                return None
    finally:
        following.close()
    return following.job
