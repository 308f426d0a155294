"""What is known after a campaign has come to rest: all that a checker decides by. Pure data.

Times are seconds on CLOCK_BOOTTIME, which all processes of a machine share.
"""

import msgspec

from tests.chaos.plan import Job, Times


class Life(msgspec.Struct, frozen=True):
    """A process of a job as its witness tells: from its first word to its last."""

    attempt: int
    pid: int
    child: bool
    """Left behind by the script; else the script itself."""
    first: float
    last: float
    gpus: tuple[int, ...] = ()
    ended: str = ""
    """How it said it would end: `exit 0`, `signal 9`; "" when it was ended."""


class Event(msgspec.Struct, frozen=True):
    """A row of the job's events."""

    version: int
    attempt: int
    event: str
    state: str
    committed: float
    """When its transaction committed: the order of events of different jobs is told by this alone."""


class Stored(msgspec.Struct, frozen=True):
    """What storage holds of one stream of an attempt, and what the script prints at first."""

    size: int
    sha256: str
    expected: str
    """The sha256 of the first `size` bytes the script prints."""


class Attempt(msgspec.Struct, frozen=True):
    number: int
    agent: str
    gpus: int
    claimed: float
    lease_until: float
    ended: float | None
    ended_by: str
    reason: str
    archived: bool
    stored: dict[str, Stored] = {}
    """By stream; empty where nothing was kept."""


class Followed(msgspec.Struct, frozen=True):
    """What a command that followed the job to its end printed, and its status."""

    status: int | None
    size: int
    sha256: str


class JobFacts(msgspec.Struct, frozen=True):
    """A job that was planned. `accepted` are the ids its client was told, each time; `found` is the one in
    the books, "" for none."""

    plan: Job
    accepted: tuple[str, ...] = ()
    found: str = ""
    state: str = ""
    attempt: int = 0
    reason: str = ""
    exit_code: int | None = None
    signal: int | None = None
    ended: float | None = None
    """When it came into its last state."""
    version: int = 0
    said_version: int | None = None
    """The newest version that the event stream tells; None where that was wiped since, or unknown."""
    cancelled: bool = False
    """Its end was asked for."""
    events: tuple[Event, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    lives: tuple[Life, ...] = ()
    followed: tuple[Followed, ...] = ()
    files: tuple[tuple[int, str], ...] = ()
    """Its stored outputs: the attempt, and the sha256 that the books tell."""
    traces: tuple[tuple[int, str], ...] = ()
    """The same of its stored traces; of packed ones the sha256 of what is in them."""


class Blob(msgspec.Struct, frozen=True):
    """Something storage said it keeps, and the sha256 of what it has; "" for nothing."""

    name: str
    sha256: str
    found: str


class Agent(msgspec.Struct, frozen=True):
    name: str
    total: int
    held: int
    open: int
    """GPUs of its open attempts."""


class Overdue(msgspec.Struct, frozen=True):
    """A lease of a job that may run again, seen to be over although its attempt was not."""

    job: str
    attempt: int
    overdue: float
    """For so long."""
    calm: float
    """For so long nothing that leases stand on had been struck."""


class Facts(msgspec.Struct, frozen=True):
    """All of it."""

    times: Times
    at_rest: bool
    jobs: tuple[JobFacts, ...] = ()
    strangers: tuple[str, ...] = ()
    """Jobs in the books that nobody submitted."""
    blobs: tuple[Blob, ...] = ()
    agents: tuple[Agent, ...] = ()
    outbox: int = 0
    alive: tuple[str, ...] = ()
    """Processes of jobs that run now."""
    overdue: tuple[Overdue, ...] = ()
    unwatched: frozenset[str] = frozenset()
    """Attempts (`job.attempt`) whose shim or whole machine was killed: only these may be lost."""
    full_disks: bool = False
    """Some agent's disk was full at some time."""
    complaints: tuple[str, ...] = ()
    """Errors that services logged, and what ended by itself."""
    leaked: tuple[str, ...] = ()
    """Where a secret was found that nobody may write down."""
