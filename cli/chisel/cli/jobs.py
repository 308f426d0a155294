"""`chisel ps`, `status`, `why` and `gpus`: what there is and how it stands."""

import time
from typing import TYPE_CHECKING

from chisel.cli import listing
from chisel.cli.backend import connect
from chisel.cli.render import Screen

if TYPE_CHECKING:
    from chisel.client import Client
    from chisel_shared.contract.job import JobView


def ps(all: bool, watch: bool, limit: int, json: bool) -> int:
    screen = Screen()
    with connect(screen) as client:
        if watch:
            from chisel.cli.psw import Watching

            return Watching(client=client, screen=screen, all=all, limit=limit, json=json).run()
        jobs = listed(client, all=all, limit=limit)
    if json:
        screen.json(jobs)
    elif jobs:
        screen.result(listing.jobs(jobs, now=time.time(), width=screen.columns))
    else:
        screen.say("there is no job yet")
    return 0


def listed(client: "Client", *, all: bool, limit: int) -> "tuple[JobView, ...]":
    """Jobs that have not ended, or the last one that has; with `all`, the newest of all."""
    jobs = client.views(unfinished=not all, limit=limit)
    return jobs or (() if all else client.views(limit=1))


def status(job: str | None, json: bool) -> int:
    if job is None:
        from chisel.cli import local

        return local.status(json)
    screen = Screen()
    with connect(screen) as client:
        view = client.view(job)
    if json:
        screen.json(view)
    else:
        screen.result(listing.status(view, now=time.time()))
    return 0


def why(job: str, json: bool) -> int:
    screen = Screen()
    with connect(screen) as client:
        told = client.why(job)
    if json:
        screen.json(told)
    else:
        screen.result(listing.why(told, now=time.time(), width=screen.columns))
    return 0


def gpus(json: bool) -> int:
    screen = Screen()
    with connect(screen) as client:
        kinds = client.gpus()
    if json:
        screen.json(kinds)
    elif kinds:
        screen.result(listing.gpus(kinds, width=screen.columns))
    else:
        screen.say("no machine with GPUs has ever joined")
    return 0
