"""`chisel rerun`: the same job once more, as a new one."""

from chisel.cli.backend import connect
from chisel.cli.interrupts import Interrupts
from chisel.cli.render import Screen
from chisel.cli.watch import Watch


def rerun(job: str, detach: bool, json: bool) -> int:
    screen = Screen(payload=json)
    with connect(screen) as client:
        again = client.rerun(job)
        if detach:
            if json:
                screen.json(again)
            else:
                screen.result(again.id)
            screen.say(f"follow it with chisel logs -f {again.id}, end it with chisel cancel {again.id}")
            return 0
        with Interrupts() as interrupts:
            following = client.follow(again.id, wake=interrupts.wake)
            screen.say(f"job {again.id} runs {job} again")
            watch = Watch(
                following=following, screen=screen, interrupts=interrupts, cancels=True, client=client
            )
            status = watch.run()
            if json and following.job is not None:
                screen.json(following.job)
            return status
