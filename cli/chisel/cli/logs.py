"""`chisel logs`: the output of a job, to now or to its end."""

from chisel.cli.backend import connect
from chisel.cli.interrupts import Interrupts
from chisel.cli.render import Screen
from chisel.cli.watch import Watch


def logs(job: str, follow: bool) -> int:
    screen = Screen()
    with Interrupts() as interrupts:
        following = connect(screen).follow(job, live=follow, wake=interrupts.wake)
        watch = Watch(following=following, screen=screen, interrupts=interrupts, cancels=False)
        status = watch.run()
    return status if follow or interrupts.number is not None else 0
