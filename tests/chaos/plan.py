"""A campaign as data: which jobs, which uploads, which faults, and when. Pure.

Everything is drawn from one `random.Random(seed)` before anything runs, so the same seed and profile
are the same plan. Times are seconds since the beginning of the campaign.
"""

import hashlib
from enum import StrEnum

import msgspec

CANARY = "CANARY"


class Client(StrEnum):
    """How a job is submitted, and who reads its output."""

    POST = "post"
    """One HTTP request, repeated until it is answered; nobody follows."""
    TWICE = "twice"
    """The same request several times at once and once more later, all with one idempotency key."""
    COMMAND = "command"
    """`chisel python`, which follows the job to its end."""
    REATTACHED = "reattached"
    """`chisel python`, killed while it follows; `chisel logs -f` reads from the beginning."""


class Script(msgspec.Struct, frozen=True):
    """What a job does: `job/witness.py` reads it, and everybody can compute what it prints."""

    name: str
    key: str
    stdout: int = 0
    stderr: int = 0
    pieces: int = 1
    """In so many equal parts it prints both, spread over `seconds`."""
    seconds: float = 0.1
    exit_code: int = 0
    signal: int = 0
    """The signal it ends itself with after all that; 0 for none."""
    children: bool = False
    """It leaves processes behind that ignore INT and TERM, one of them in a session of its own."""
    stubborn: bool = False
    """It ignores INT and TERM itself."""
    secret: bool = False
    """It is to find the secret `CANARY`, and exits with 99 when it does not."""
    outputs: int = 0
    """Bytes of the file it leaves in `./outputs`, and of the trace it saves; 0 for neither."""

    def printed(self, stream: str, size: int | None = None) -> bytes:
        """The first `size` bytes of what it prints, all of them by default: each size is a prefix of
        every larger one."""
        number, whole = (1, self.stdout) if stream == "stdout" else (2, self.stderr)
        return hashlib.shake_128(f"{self.key} {number}".encode()).digest(whole if size is None else size)

    def left(self) -> bytes:
        """What the file in `./outputs` holds."""
        return hashlib.shake_128(f"{self.key} outputs".encode()).digest(self.outputs)


class Job(msgspec.Struct, frozen=True):
    """One job: submitted at `at` by `client`."""

    at: float
    shape: str
    script: Script
    gpus: int = 1
    retries: int = 0
    time_limit: float | None = None
    """The script runs longer than that when there is one."""
    cancel_after: float | None = None
    client: Client = Client.POST
    killed_after: float = 0.0
    """When the command that follows it is killed, counted from its start."""

    @property
    def name(self) -> str:
        return self.script.name


class Upload(msgspec.Struct, frozen=True):
    """A pack of bytes that storage is to keep. `torn` of its bytes are sent first, and then nothing."""

    at: float
    key: str
    size: int
    torn: int = 0

    def data(self) -> bytes:
        return hashlib.shake_128(self.key.encode()).digest(self.size)


class Kind(StrEnum):
    """What is done to a target."""

    KILL = "kill"
    """kill -9; started again after `pause`."""
    QUIT = "quit"
    """Postgres ends at once, as on SIGQUIT; started again after `pause`."""
    STOP = "stop"
    """SIGSTOP for `seconds`, then SIGCONT."""
    SHIM_KILL = "shim kill"
    """kill -9 of a shim of this agent."""
    SHIM_STOP = "shim stop"
    """SIGSTOP of a shim of this agent, SIGCONT after `seconds`."""
    HOST = "host death"
    """The agent, its shims and its jobs are killed; the agent comes back after `seconds`."""
    CUT = "cut"
    """All connections are reset, and new ones for `seconds`."""
    HOLE = "hole"
    """Nothing comes through for `seconds`, in both directions or in one (`mode`); then all of it does."""
    SLOW = "slow"
    """Everything comes late, by `delay`, for `seconds`."""
    WIPE = "wipe"
    """NATS is killed and its store is deleted; started again after `pause`."""
    FULL = "disk full"
    """The disk has no byte left for `seconds`."""


class Fault(msgspec.Struct, frozen=True):
    """One fault. What it hits is known when it strikes: `pick` chooses among the shims there are then."""

    at: float
    kind: Kind
    target: str
    seconds: float = 0.0
    pause: float = 0.0
    mode: str = "both"
    link: str = "nats"
    delay: float = 0.0
    pick: float = 0.0


class Times(msgspec.Struct, frozen=True):
    """The waits that the services of a campaign are set to, in seconds."""

    lease: float = 6.0
    grace: float = 2.0
    renew: float = 1.0
    reap: float = 1.0


class Plan(msgspec.Struct, frozen=True):
    """A whole campaign."""

    seed: int
    profile: str
    times: Times
    agents: dict[str, int]
    jobs: tuple[Job, ...] = ()
    uploads: tuple[Upload, ...] = ()
    faults: tuple[Fault, ...] = ()
    rest: float = 120.0
    """How long after the last fault everything may take to come to rest."""

    @property
    def canary(self) -> str:
        """The value of a secret that jobs are given and nobody may write down."""
        return "canary-" + hashlib.sha256(f"{self.seed} canary".encode()).hexdigest()
