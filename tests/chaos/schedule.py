"""When which fault strikes what: drawn so that faults overlap, but do not annul one another. Pure."""

import random

from tests.chaos.plan import Fault, Kind
from tests.chaos.profiles import AGENTS, CONTROL, LEASES_STAND_ON, Profile

_TRIES = 30
_SETTLED_SECONDS = 0.7
"""After the end of a fault its target is left alone for so long, to be hit while it starts as often as
when it has."""

_PROCESS = frozenset({Kind.KILL, Kind.QUIT, Kind.STOP, Kind.HOST, Kind.WIPE})
_SHIM = frozenset({Kind.SHIM_KILL, Kind.SHIM_STOP})
_NETWORK = frozenset({Kind.CUT, Kind.HOLE, Kind.SLOW})
_AGENT_AWAY = frozenset({Kind.STOP, Kind.HOST})
_SHIM_SECONDS = 2.5
"""After the death of a shim its agent ends what it left behind within this, if it is let."""


def clash(one: Kind, other: Kind) -> bool:
    """Whether two faults may not be on one target at once: they are of one sort, or nobody at all would be
    left to watch over a job. That somebody is, the agent or the shim, is what the promises rest on."""
    kinds = {one, other}
    same = any(kinds <= sort for sort in (_PROCESS, _SHIM, _NETWORK)) or one is other
    return same or bool(kinds & _SHIM and kinds & _AGENT_AWAY)


class Schedule:
    """One draw."""

    def __init__(self, dice: random.Random, profile: Profile) -> None:
        self._dice, self._profile = dice, profile
        self._times = profile.times
        self._drawn: list[tuple[float, float, Fault]] = []
        """With the time when it begins and when its target is itself again."""

    def faults(self) -> tuple[Fault, ...]:
        """As many as the profile wants, in the order in which they strike."""
        mean = self._profile.seconds / self._profile.faults
        at = 2.0
        for _ in range(self._profile.faults):
            at += mean * self._dice.uniform(0.3, 1.7)
            while not self._drawn_at(at):
                at += mean / 2
        return tuple(fault for _, _, fault in sorted(self._drawn, key=lambda drawn: drawn[0]))

    def _drawn_at(self, at: float) -> bool:
        """Draw one that strikes at `at`; False when so many faults are under way that none fits."""
        weights = self._profile.weights
        for _ in range(_TRIES):
            ((kind, sort),) = self._dice.choices(list(weights), list(weights.values()))
            target = f"agent:{self._dice.choice(list(AGENTS))}" if sort == "agent" else sort
            fault = self._of(kind, target, at)
            end = at + _lasts(fault)
            meeting = [other for begins, ends, other in self._drawn if begins < end and at < ends]
            if not any(disturbs(fault, other) for other in meeting):
                self._drawn.append((at, end, fault))
                return True
        return False

    def _of(self, kind: Kind, target: str, at: float) -> Fault:
        dice, lease = self._dice, self._times.lease
        agent = target.startswith("agent:")
        match kind:
            case Kind.KILL | Kind.QUIT | Kind.WIPE:
                return Fault(at=at, kind=kind, target=target, pause=dice.uniform(0.0, 3.0))
            case Kind.STOP if agent or (target in LEASES_STAND_ON and dice.random() < 0.2):
                longer = dice.random() < 0.5
                seconds = dice.uniform(1.1, 1.8) * lease if longer else dice.uniform(0.2, 2.5)
                return Fault(at=at, kind=kind, target=target, seconds=seconds)
            case Kind.STOP:
                return Fault(at=at, kind=kind, target=target, seconds=dice.uniform(0.2, 3.0))
            case Kind.SHIM_KILL | Kind.SHIM_STOP:
                return Fault(
                    at=at, kind=kind, target=target, seconds=dice.uniform(0.2, 1.5), pick=dice.random()
                )
            case Kind.HOST:
                waits = lease + self._times.grace + self._times.reap
                return Fault(at=at, kind=kind, target=target, seconds=waits + dice.uniform(8.0, 10.0))
            case Kind.HOLE if agent:
                long = dice.random() < 0.5
                return Fault(
                    at=at,
                    kind=kind,
                    target=target,
                    seconds=lease * (dice.uniform(1.0, 2.5) if long else dice.uniform(0.02, 0.7)),
                    mode=dice.choice(("both", "both", "up", "down")),
                    link=dice.choice(("nats", "nats", "gateway", "all")),
                )
            case Kind.HOLE | Kind.CUT:
                return Fault(
                    at=at,
                    kind=kind,
                    target=target,
                    seconds=dice.uniform(0.0, 2.0),
                    link=dice.choice(("nats", "gateway", "all")),
                )
            case Kind.SLOW:
                return Fault(
                    at=at,
                    kind=kind,
                    target=target,
                    seconds=dice.uniform(1.0, 4.0),
                    delay=dice.uniform(0.02, 0.3),
                    link="all",
                )
            case Kind.FULL:
                return Fault(at=at, kind=kind, target=target, seconds=dice.uniform(0.5, 3.0))


def disturbs(fault: Fault, other: Fault) -> bool:
    """Whether one must not begin while the other lasts."""
    if fault.target == other.target and clash(fault.kind, other.kind):
        return True
    # While a host is dead the leases of its jobs run out, which is to be seen: nothing may excuse it.
    targets = {fault.kind: other.target, other.kind: fault.target}
    return targets.get(Kind.HOST) in LEASES_STAND_ON


def _lasts(fault: Fault) -> float:
    """How long its target is not itself."""
    if fault.kind is Kind.SHIM_KILL:
        return _SHIM_SECONDS
    return fault.seconds + fault.pause + _SETTLED_SECONDS


def targets() -> frozenset[str]:
    """Everything a fault may strike."""
    return frozenset({*CONTROL, "clients", *(f"agent:{name}" for name in AGENTS)})
