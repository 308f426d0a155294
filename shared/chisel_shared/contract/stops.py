"""How a job is asked to end. Pure; the shim carries it out."""

import msgspec

from chisel_shared.contract.errors import BadRequest

SIGNALS = {"HUP": 1, "INT": 2, "QUIT": 3, "KILL": 9, "USR1": 10, "USR2": 12, "TERM": 15}
"""What a job can be sent, with Linux's numbers: jobs run there, wherever the one who asks is."""

LONGEST_GRACE_SECONDS = 86_400.0
MAX_REASON_CHARS = 200


class Stop(msgspec.Struct, frozen=True):
    """The first signal, and how long the job has afterwards.

    INT, TERM, HUP and QUIT go to everything the script started, USR1 and USR2 to the script alone,
    because they would end whatever does not expect them. A job that goes on gets SIGTERM after
    `grace_seconds` and SIGKILL a little later; after TERM comes KILL, and KILL waits for nothing.
    None: as long as its agent gives every job.
    """

    signal: str = "INT"
    grace_seconds: float | None = None


def check_stop(stop: Stop) -> None:
    """`BadRequest` names what would do."""
    if stop.signal not in SIGNALS:
        raise BadRequest(f"a job can be sent {', '.join(SIGNALS)}, not {stop.signal[:20]!r}")
    grace = stop.grace_seconds
    if grace is not None and not 0 <= grace <= LONGEST_GRACE_SECONDS:
        raise BadRequest(f"the grace may be at most {LONGEST_GRACE_SECONDS:.0f} seconds")
