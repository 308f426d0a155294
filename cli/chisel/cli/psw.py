"""`chisel ps --watch`: the table drawn again and again on a terminal, a line for each change elsewhere."""

import select
import time

from chisel.address import Unreachable
from chisel.cli import listing
from chisel.cli.interrupts import Interrupts
from chisel.cli.jobs import listed
from chisel.cli.render import Screen
from chisel.client import Client
from chisel_shared.contract.errors import ChiselError, Unavailable
from chisel_shared.contract.job import JobView

_LOOK_SECONDS = 1.0


class Watching:
    """Until it is interrupted; whoever reads the lines may also just go away."""

    def __init__(self, *, client: Client, screen: Screen, all: bool, limit: int, json: bool) -> None:
        self._client = client
        self._screen = screen
        self._all = all
        self._limit = limit
        self._json = json
        self._draws = screen.columns > 0 and not json
        self._seen: dict[str, JobView] = {}
        self._lost = False

    def run(self) -> int:
        """The exit status: that of the signal which ended it."""
        with Interrupts() as interrupts:
            while not interrupts.unheeded:
                try:
                    self._look()
                except (Unavailable, Unreachable) as error:
                    self._tell_lost(error)
                select.select([interrupts.wake], [], [], _LOOK_SECONDS)
            return interrupts.status

    def _look(self) -> None:
        jobs = listed(self._client, all=self._all, limit=self._limit)
        self._lost = False
        if self._draws:
            self._screen.redraw(
                listing.jobs(jobs, now=time.time(), width=self._screen.columns) if jobs else "no job yet"
            )
            return
        current: dict[str, JobView] = {job.id: job for job in jobs}
        # Those that ended since the last look are in no list of unfinished jobs: their end is news.
        for gone in [job_id for job_id, job in self._seen.items() if job.end is None]:
            if gone not in current:
                current[gone] = self._client.view(gone)
        for job in reversed(current.values()):
            before = self._seen.get(job.id)
            if before is None or _told(before) != _told(job):
                self._tell(job)
        self._seen = current

    def _tell(self, job: JobView) -> None:
        if self._json:
            self._screen.json(job, lines=True)
        else:
            self._screen.result(listing.line(job))

    def _tell_lost(self, error: ChiselError) -> None:
        if not self._lost:
            self._screen.say(f"the backend does not answer ({str(error).rstrip('.')}), trying again")
        self._lost = True


def _told(job: JobView) -> tuple[object, ...]:
    """What of a job is worth a line when it changes."""
    return job.state, job.attempt, job.agent_name, job.waiting, job.cancel_requested, job.unreachable, job.end
