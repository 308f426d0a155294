"""Show what a `Following` yields until it ends, and answer interrupts."""

from chisel.cli import wording
from chisel.cli.interrupts import Interrupts
from chisel.cli.render import OutputClosed, Screen
from chisel.following import Attempt, Back, Changed, Following, Lost, Output, Uploading, Woken
from chisel_shared.contract.job import EndReason, JobState, JobView, exit_status

BROKEN_PIPE = 141
"""What a shell shows for a filter whose reader went away: 128 + SIGPIPE."""


class Watch:
    """`cancels`: whether an interrupt is a wish to end the job, or only to stop watching."""

    def __init__(
        self, *, following: Following, screen: Screen, interrupts: Interrupts, cancels: bool
    ) -> None:
        self._following = following
        self._screen = screen
        self._interrupts = interrupts
        self._cancels = cancels
        self._said: set[str] = set()
        self._phase: tuple[JobState, bool] | None = None
        self._announced = not cancels
        self._uploaded = False
        self._asked = False

    def run(self) -> int:
        """Watch to the end; the exit status of the command."""
        try:
            for event in self._following:
                if self._interrupts.number is not None and not self._asked and not self._interrupt():
                    return self._interrupts.status
                self._show(event)
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

    def _interrupt(self) -> bool:
        """Answer the first signal; whether to go on watching."""
        self._asked = True
        self._interrupts.drain()
        following = self._following
        if not self._cancels or not following.submitted:
            if following.job is not None:
                job_id = following.job.id
                self._screen.say(f"job {job_id} goes on: chisel logs -f {job_id}", last=True)
            return False
        following.cancel()
        name = f"job {following.job.id}" if following.job else "the job as soon as the backend answers"
        self._screen.say(f"cancelling {name}; once more to leave at once")
        return True

    def _show(self, event: object) -> None:
        match event:
            case Output(stream, data):
                self._screen.output(stream, data)
            case Changed(job):
                self._changed(job)
            case Uploading(sent, total):
                if not self._uploaded:
                    self._uploaded = True
                    self._screen.say(f"uploading {wording.size(total)}")
                self._screen.upload(sent, total)
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
        self._screen.say(wording.ending(job), last=True)
        if job.end.reason is EndReason.USER and self._interrupts.number is not None:
            return self._interrupts.status
        return exit_status(job.end)
