"""How large a campaign is, and what it is made of. Pure."""

from dataclasses import dataclass, field, replace

from tests.chaos.plan import Kind, Times

AGENTS = {"eight": 8, "four": 4, "two": 2}
"""Every agent of a campaign with its simulated GPUs."""

CONTROL = ("gateway", "scheduler", "storage", "auth", "nats", "postgres")
LEASES_STAND_ON = ("scheduler", "nats", "postgres")
"""Without any of these no lease can be renewed, nor be expired."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The size of a campaign."""

    name: str
    jobs: int
    faults: int
    seconds: float
    """Over so long both are spread."""
    largest: int
    """Bytes of the largest output of a job."""
    weights: dict[tuple[Kind, str], float]
    rest: float = 120.0
    submitting: float = 1.0
    """In this share of the time jobs are submitted: less leaves fewer to wait for at the end."""
    times: Times = field(default_factory=Times)


# Of a thousand kills 300 hit agents, 50 shims, 150 each of gateway, scheduler and NATS, 100 each of storage
# and Postgres; beside them stops, partitions, full disks and hosts that die.
_KILLS: dict[tuple[Kind, str], float] = {
    (Kind.KILL, "agent"): 18,
    (Kind.KILL, "gateway"): 9,
    (Kind.KILL, "scheduler"): 9,
    (Kind.KILL, "storage"): 6,
    (Kind.KILL, "auth"): 4,
    (Kind.KILL, "nats"): 8,
    (Kind.KILL, "postgres"): 3,
    (Kind.QUIT, "postgres"): 3,
    (Kind.SHIM_KILL, "agent"): 5,
}
_OTHERS: dict[tuple[Kind, str], float] = {
    (Kind.STOP, "agent"): 4,
    (Kind.STOP, "gateway"): 2,
    (Kind.STOP, "scheduler"): 2,
    (Kind.STOP, "storage"): 2,
    (Kind.STOP, "auth"): 1,
    (Kind.STOP, "nats"): 2,
    (Kind.STOP, "postgres"): 2,
    (Kind.SHIM_STOP, "agent"): 2,
    (Kind.HOLE, "agent"): 7,
    (Kind.CUT, "agent"): 3,
    (Kind.SLOW, "agent"): 2,
    (Kind.CUT, "clients"): 4,
    (Kind.HOLE, "clients"): 1,
    (Kind.HOST, "agent"): 1.5,
    (Kind.WIPE, "nats"): 1,
    (Kind.FULL, "storage"): 1,
    (Kind.FULL, "agent"): 1,
    (Kind.FULL, "nats"): 0.7,
    (Kind.FULL, "postgres"): 0.7,
}

_ALL = _KILLS | _OTHERS

PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            "smoke",
            jobs=60,
            faults=40,
            seconds=44.0,
            largest=300_000,
            rest=90.0,
            submitting=0.7,
            # More kills and no wiped store: filling it again takes its time.
            weights={key: 4 * weight for key, weight in _KILLS.items()}
            | {key: weight for key, weight in _OTHERS.items() if key[0] is not Kind.WIPE},
        ),
        Profile("small", jobs=40, faults=15, seconds=30.0, rest=60.0, largest=300_000, weights=_ALL),
        Profile("middle", jobs=240, faults=120, seconds=230.0, largest=3_000_000, weights=_ALL),
        Profile("full", jobs=2_100, faults=1_050, seconds=1_900.0, largest=3_000_000, weights=_ALL),
    )
}
"""By name. `full` is what `make chaos` runs."""

# No process of ours is killed: how it grows as it grows older is what is to be seen.
_GENTLE: dict[tuple[Kind, str], float] = {
    (kind, target): weight
    for (kind, target), weight in _ALL.items()
    if kind in (Kind.SHIM_KILL, Kind.SHIM_STOP, Kind.CUT, Kind.SLOW, Kind.HOLE)
}


def soak(hours: float) -> Profile:
    """Many jobs for so long, and faults that leave the services alone."""
    seconds = hours * 3600.0
    template = PROFILES["full"]
    return replace(
        template,
        name="soak",
        jobs=max(10, int(seconds * 0.7)),
        faults=max(5, int(seconds / 15)),
        seconds=seconds,
        largest=1_000_000,
        weights=_GENTLE,
    )
