"""How long the scheduler itself has been in touch. Pure.

Silence of an agent proves nothing while the scheduler could not have heard it. Whatever is done about
silence is therefore counted from when the scheduler last began to hear: after its own start, an outage
of the bus or the database, a stop of the process or a jump of the clock, everybody gets a whole new term.
"""

from datetime import datetime, timedelta


class Health:
    """Fed by every round of the reaper."""

    def __init__(self, *, longest_pause: timedelta) -> None:
        """A pause between two rounds longer than `longest_pause` counts as having been away."""
        self._longest_pause = longest_pause
        self._since: datetime | None = None
        self._last: datetime | None = None

    def observe(self, now: datetime, *, in_touch: bool) -> None:
        paused = self._last is not None and not timedelta(0) <= now - self._last <= self._longest_pause
        if not in_touch:
            self._since = None
        elif self._since is None or paused:
            self._since = now
        self._last = now

    def in_touch(self, now: datetime) -> timedelta:
        """For how long everybody who spoke has been heard without a break."""
        return now - self._since if self._since is not None else timedelta(0)

    def silent_before(self, now: datetime, seconds: float) -> datetime | None:
        """Whoever was last heard before this has been silent for `seconds` while it would have been
        heard; None when nobody can be said to."""
        term = timedelta(seconds=seconds)
        if self._since is None or now - self._since < term:
            return None
        return now - term
