"""Show what a `Following` yields until it ends, and answer interrupts."""

from collections.abc import Callable
from signal import SIGINT
from typing import TYPE_CHECKING

from chisel.cli import wording
from chisel.cli.interrupts import Interrupts
from chisel.cli.question import CANCEL, DETACH, ask, can_ask
from chisel.cli.render import OutputClosed, Screen
from chisel.following import Attempt, Back, Capped, Changed, Following, Lost, Output, Uploading, Woken
from chisel_shared.contract.job import EndReason, JobEnd, JobState, JobView, exit_status

if TYPE_CHECKING:
    from chisel.client import Client

BROKEN_PIPE = 141
"""What a shell shows for a filter whose reader went away: 128 + SIGPIPE."""


class Watch:
    """`cancels`: whether an interrupt is a wish to end the job, or only to stop watching; for the former
    `on_interrupt` says whether to `cancel` at once, to `detach`, or to `ask` where there is a terminal.
    With `detach`, the job is watched only until it is accepted. `stamp` makes of output what is shown.
    `client` asks what is to be said of traces at the end."""

    def __init__(
        self,
        *,
        following: Following,
        screen: Screen,
        interrupts: Interrupts,
        cancels: bool,
        on_interrupt: str = "ask",
        detach: bool = False,
        stamp: Callable[[Output], bytes] | None = None,
        client: "Client | None" = None,
    ) -> None:
        self._following = following
        self._client = client
        self._screen = screen
        self._interrupts = interrupts
        self._cancels = cancels
        self._on_interrupt = on_interrupt
        self._detach = detach
        self._stamp = stamp
        if cancels and on_interrupt == "ask" and can_ask(screen):
            interrupts.patience = 3
        elif on_interrupt == "ask":
            self._on_interrupt = "cancel"
        self._said: set[str] = set()
        self._phase: tuple[JobState, bool] | None = None
        self._announced = not cancels
        self._uploaded = False

    def run(self) -> int:
        """Watch to the end; the exit status of the command."""
        try:
            for event in self._following:
                if self._interrupts.unheeded and (status := self._interrupted()) is not None:
                    return status
                self._show(event)
                if self._detach and self._following.job is not None:
                    return 0
        except OutputClosed:
            job = self._following.job
            if job is not None and job.end is None:
                self._screen.say(
                    f"the output is closed; job {job.id} goes on: chisel logs -f {job.id}", last=True
                )
            return BROKEN_PIPE
        finally:
            self._following.close()
        return self._end()

    def _interrupted(self) -> int | None:
        """Answer signals; None to go on watching, or the status to leave with."""
        count = self._interrupts.heed()
        following = self._following
        if not self._cancels or not (following.submitted or following.job):
            self._say_it_goes_on()
            return self._interrupts.status
        means = self._on_interrupt
        if means == "ask":
            # Only Ctrl-C, once, is a question; before the backend has answered there is nothing to ask about.
            asks = self._interrupts.number == SIGINT and count == 1 and following.job is not None
            means = ask(following.job, self._screen, self._interrupts) if asks and following.job else CANCEL
        if means == DETACH:
            self._say_it_goes_on()
            return 0
        if means == CANCEL:
            self._interrupts.heed()
            following.cancel()
            self._interrupts.last_chance = True
            name = f"job {following.job.id}" if following.job else "the job as soon as the backend answers"
            self._screen.say(f"cancelling {name}; once more to leave at once")
        return None

    def _say_it_goes_on(self) -> None:
        job = self._following.job
        if job is not None:
            self._screen.say(f"job {job.id} goes on: chisel logs -f {job.id}", last=True)

    def _show(self, event: object) -> None:
        match event:
            case Output(stream, data) as output:
                self._screen.output(stream, data if self._stamp is None else self._stamp(output))
            case Capped(stream, shown):
                self._screen.say(wording.capped(stream, shown), last=True)
            case Changed(job):
                self._changed(job)
            case Uploading(sent, total):
                if not self._uploaded:
                    self._uploaded = True
                    self._screen.say(f"uploading {wording.size(total)}", detail=True)
                self._screen.progress("uploading", sent, total)
            case Lost(error):
                self._screen.say(f"connection lost ({str(error).rstrip('.')}), reconnecting")
            case Back():
                self._screen.say("reconnected")
            case Attempt(number):
                self._screen.say(f"the job runs again from its beginning, attempt {number}")
            case Woken():
                waited = self._following.job
                if waited is not None and waited.state in (JobState.ASSIGNED, JobState.PREPARING):
                    self._say_once(wording.preparing(waited))

    def _changed(self, job: JobView) -> None:
        if not self._announced:
            self._announced = True
            self._screen.say(wording.announcement(job))
        if (phase := (job.state, job.unreachable)) != self._phase:
            self._phase = phase
            self._said.clear()
        if job.end is None:
            text = wording.progress(job)
            if text is not None:
                self._say_once(text)

    def _say_once(self, text: str) -> None:
        """Nothing twice while the job's state stays: reasons to wait come and go, and come again."""
        if text not in self._said:
            self._said.add(text)
            self._screen.say(text)

    def _end(self) -> int:
        job = self._following.job
        if job is None or job.end is None:
            return 0
        asks = self._client is not None and not self._screen.is_quiet
        self._screen.say(wording.ending(job, traces=not asks), last=True)
        if asks:
            self._say_of_traces(job, job.end)
        if job.end.reason is EndReason.USER and self._interrupts.number is not None:
            return self._interrupts.status
        return exit_status(job.end)

    def _say_of_traces(self, job: JobView, end: JobEnd) -> None:
        if self._client is None or not (end.traces or end.traces_late or end.traces_lost):
            return
        from chisel.cli.traces_end import line_of

        client = self._client
        said = line_of(
            job,
            lambda seconds: client.traces(job.id, patience_seconds=seconds),
            lambda: bool(self._interrupts.unheeded),
        )
        if said:
            self._screen.say(said, last=True)
