"""`chisel admin agents`: which agents there are, and which of them are given jobs."""

import select
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from chisel.cli import agent_listing
from chisel.cli.backend import api
from chisel.cli.interrupts import Interrupts
from chisel.cli.render import Screen
from chisel.cli.values import UsageError, duration
from chisel.fleet import Fleet
from chisel_shared.contract.errors import Conflict, Unavailable

if TYPE_CHECKING:
    from chisel_shared.contract.messages import AgentView

_POLL_SECONDS = 1.0


def ls(json: bool) -> int:
    screen = Screen()
    with api(screen) as backend:
        found = Fleet(backend).agents()
    if json:
        screen.json(found)
    elif found:
        screen.result(agent_listing.table(found, now=time.time(), width=screen.columns))
    else:
        screen.say("no agent has ever joined")
    return 0


def cordon(agent: str, reason: str | None, json: bool) -> int:
    screen = Screen()
    with api(screen) as backend:
        view = Fleet(backend).cordon(agent, reason=reason or "")
    return _said(screen, view, agent_listing.cordoned(view), json)


def drain(agent: str, deadline: str | None, reason: str | None, wait: bool, json: bool) -> int:
    seconds = until(deadline, now=time.time()) if deadline is not None else None
    screen = Screen()
    with api(screen) as backend:
        fleet = Fleet(backend)
        view = fleet.drain(agent, reason=reason or "", deadline_seconds=seconds)
        if wait:
            with Interrupts() as interrupts:
                waiting = Waiting(fleet=fleet, screen=screen, interrupts=interrupts)
                if not waiting.empty(view):
                    return interrupts.status
            view = waiting.view
    return _said(screen, view, agent_listing.draining(view, now=time.time()), json)


def uncordon(agent: str, json: bool) -> int:
    screen = Screen()
    with api(screen) as backend:
        view = Fleet(backend).uncordon(agent)
    return _said(screen, view, agent_listing.uncordoned(view), json)


def _said(screen: Screen, view: "AgentView", text: str, json: bool) -> int:
    screen.say(text)
    if json:
        screen.json(view)
    return 0


class Waiting:
    """Waits for a drain to empty an agent."""

    def __init__(
        self, *, fleet: Fleet, screen: Screen, interrupts: Interrupts, clock: Callable[[], float] = time.time
    ) -> None:
        self._fleet, self._screen, self._interrupts, self._clock = fleet, screen, interrupts, clock
        self._said = ""
        self._heard = True
        self.view: AgentView

    def empty(self, view: "AgentView") -> bool:
        """Whether nothing runs on the agent of `view` any more; False when a signal came first. `Conflict`
        when somebody called the drain off."""
        self.view = view
        while self.view.jobs:
            if self.view.cordon is None or not self.view.cordon.drain:
                raise Conflict(f"somebody called the drain of {view.name} off: chisel admin agents ls")
            self._tell()
            if select.select([self._interrupts.wake], [], [], _POLL_SECONDS)[0]:
                self._screen.say(f"{view.name} goes on to drain: chisel admin agents ls", last=True)
                return False
            self._look()
        return True

    def _look(self) -> None:
        try:
            found = {agent.id: agent for agent in self._fleet.agents()}
        except Unavailable as error:
            if self._heard:
                self._screen.say(f"{str(error).rstrip('.')}; still waiting")
            self._heard = False
            return
        self._heard = True
        if self.view.id not in found:
            raise Conflict(f"{self.view.name} is no agent of this backend any more")
        self.view = found[self.view.id]

    def _tell(self) -> None:
        """How many jobs are left, whenever that has changed."""
        stands = f"{self.view.jobs} {self.view.state}"
        if stands != self._said:
            self._said = stands
            self._screen.say(agent_listing.left(self.view, now=self._clock()))


def until(text: str, *, now: float) -> float:
    """How many seconds there are until the deadline `text`: a duration, or a time, by this machine's
    clock."""
    try:
        return duration(text)
    except UsageError:
        pass
    from datetime import datetime

    try:
        at = datetime.fromisoformat(text).timestamp()  # without a zone: the user's own
    except (ValueError, OverflowError):
        raise UsageError(
            f"{text!r} is no deadline: write how long what runs may go on, as 30m or 02:00:00, or until"
            " when, as 2030-01-31T12:00"
        ) from None
    if at <= now:
        raise UsageError(f"{text} is over; a deadline lies ahead")
    return at - now
