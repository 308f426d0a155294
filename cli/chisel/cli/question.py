"""What Ctrl-C means, asked on the terminal and answered by one key."""

import os
import select

from chisel.cli.interrupts import Interrupts
from chisel.cli.render import Screen
from chisel_shared.contract.job import JobState, JobView

CANCEL, DETACH, WATCH = "cancel", "detach", "keep watching"

_KEYS = {
    b"c": CANCEL, b"C": CANCEL, b"d": DETACH, b"D": DETACH, b"\n": WATCH, b"\r": WATCH, b" ": WATCH,
    b"": DETACH,  # the terminal is gone
}  # fmt: skip


def can_ask(screen: Screen) -> bool:
    """Whether somebody sits there: input and our own lines are on a terminal that reads single keys."""
    if not (screen.is_terminal and os.isatty(0)):
        return False
    try:
        import termios  # noqa: F401 - not on every system
    except ImportError:
        return False
    return True


def ask(job: JobView, screen: Screen, interrupts: Interrupts) -> str:
    """`CANCEL`, `DETACH` or `WATCH`. Another signal, while this waits, is CANCEL."""
    import termios
    import tty

    try:
        before = termios.tcgetattr(0)
    except termios.error:
        return DETACH

    def put_back() -> None:
        termios.tcsetattr(0, termios.TCSANOW, before)

    interrupts.before_leaving = put_back
    try:
        # What was typed before the question is no answer to it.
        tty.setcbreak(0, termios.TCSAFLUSH)
        does = "waits in the queue" if job.state is JobState.QUEUED else "still runs"
        screen.ask(
            f"chisel: job {job.id} {does}\n[c]ancel [d]etach [Enter] keep watching (^C again = cancel) "
        )
        answer = _answer(interrupts)
    finally:
        put_back()
        interrupts.before_leaving = None
    screen.ask(f"{answer}\n")
    return answer


def _answer(interrupts: Interrupts) -> str:
    while True:
        ready, _, _ = select.select([0, interrupts.wake.fileno()], [], [])
        if interrupts.wake.fileno() in ready:
            interrupts.drain()
            if interrupts.unheeded:
                return CANCEL
        elif (key := os.read(0, 1)) in _KEYS:
            return _KEYS[key]
