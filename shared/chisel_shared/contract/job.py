"""A job: what it is, the states it goes through, and how it ends.

Rules. Everything that decides a job's state lives in this file. A final state is a state with no
way out. The wish to cancel is a fact beside the state, not a state: CANCEL is the confirmed end.
A job is held by one attempt at a time; every event but CLAIM and the cancel of a queued job comes
from that attempt, and whoever speaks for an older one is stale. The scheduler's SQL guard is
`sources(event)`: the same table, asked backwards.

    QUEUED ──CLAIM──► ASSIGNED ──PREPARE──► PREPARING ──START──► RUNNING ──► a final state
       ▲                 │                      │                   │
       └──── REQUEUE ────┴──────────────────────┴───────────────────┘
"""

from enum import StrEnum

import msgspec

from chisel_shared.contract.ids import AgentId, Digest, JobId


class JobState(StrEnum):
    QUEUED = "queued"
    """Committed and waiting. The scheduler moves it out when an agent claims it; a crash of
    anything leaves it here."""
    ASSIGNED = "assigned"
    """Given to an agent that has not yet said it began. If the agent's next session does not know
    the attempt, nothing ran and the job goes back to the queue."""
    PREPARING = "preparing"
    """The agent fetches the bundle and builds the environment; no user code has run."""
    RUNNING = "running"
    """User code runs under a shim that outlives the agent. Only the attempt's end, or proof that
    the machine is gone, moves it out."""
    SUCCEEDED = "succeeded"
    """The script exited with 0 and every byte of its output was stored before this was said."""
    FAILED = "failed"
    """The script, its requirements or its start failed; the reason says which."""
    CANCELLED = "cancelled"
    """Somebody asked for the end and it came before the job's own."""
    TIMED_OUT = "timed_out"
    """The time limit of the job ran out and the agent stopped it."""
    LOST = "lost"
    """The agent is known to be gone, and the job was not to be run again."""


class JobEvent(StrEnum):
    CLAIM = "claim"
    PREPARE = "prepare"
    START = "start"
    SUCCEED = "succeed"
    FAIL = "fail"
    CANCEL = "cancel"
    TIME_OUT = "time_out"
    LOSE = "lose"
    REQUEUE = "requeue"


_S, _E = JobState, JobEvent

TRANSITIONS: dict[JobState, dict[JobEvent, JobState]] = {
    _S.QUEUED: {_E.CLAIM: _S.ASSIGNED, _E.CANCEL: _S.CANCELLED},
    _S.ASSIGNED: {
        _E.PREPARE: _S.PREPARING,
        _E.FAIL: _S.FAILED,
        _E.CANCEL: _S.CANCELLED,
        _E.LOSE: _S.LOST,
        _E.REQUEUE: _S.QUEUED,
    },
    _S.PREPARING: {
        _E.START: _S.RUNNING,
        _E.FAIL: _S.FAILED,
        _E.CANCEL: _S.CANCELLED,
        _E.TIME_OUT: _S.TIMED_OUT,
        _E.LOSE: _S.LOST,
        _E.REQUEUE: _S.QUEUED,
    },
    _S.RUNNING: {
        _E.SUCCEED: _S.SUCCEEDED,
        _E.FAIL: _S.FAILED,
        _E.CANCEL: _S.CANCELLED,
        _E.TIME_OUT: _S.TIMED_OUT,
        _E.LOSE: _S.LOST,
        _E.REQUEUE: _S.QUEUED,
    },
    _S.SUCCEEDED: {},
    _S.FAILED: {},
    _S.CANCELLED: {},
    _S.TIMED_OUT: {},
    _S.LOST: {},
}

HELD = (JobState.ASSIGNED, JobState.PREPARING, JobState.RUNNING)
"""States in which an attempt holds GPUs of an agent."""
FINAL = tuple(state for state, ways in TRANSITIONS.items() if not ways)


class IllegalTransition(Exception):
    """An event that the state does not allow: the sender is stale or wrong."""


def advance(state: JobState, event: JobEvent) -> JobState:
    """The state after `event`; `IllegalTransition` when the table has no such way."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTransition(f"a {state} job cannot {event}") from None


def sources(event: JobEvent) -> tuple[JobState, ...]:
    """The states `event` is legal from: the SQL guard of whoever applies it."""
    return tuple(state for state, ways in TRANSITIONS.items() if event in ways)


def mermaid() -> str:
    """The table as a Mermaid state diagram, for the documentation."""
    lines = ["stateDiagram-v2", "    [*] --> queued"]
    for state, ways in TRANSITIONS.items():
        lines += [f"    {state} --> {target}: {event}" for event, target in ways.items()]
        lines += [f"    {state} --> [*]"] if not ways else []
    return "\n".join(lines)


class EndReason(StrEnum):
    """Why an attempt ended. `end_event` says where that leads, `sentence` how it reads."""

    EXIT = "exit"
    """The script ended by itself; `exit_code` is its status."""
    SIGNAL = "signal"
    """A signal that Chisel did not send ended the script; `signal` is its number."""
    OOM = "oom"
    """The kernel killed the script for want of memory, by its own count for this job. A child that was killed
    so is a warning in `detail`; where nobody counts it is `signal:9` with a hint."""
    DEPS = "deps"
    """The requirements could not be installed; `detail` has the installer's last lines."""
    START = "start"
    """The script could not be started: bundle, interpreter or working directory."""
    TIME_LIMIT = "time_limit"
    """The job's own time limit."""
    OUTPUT_LIMIT = "output_limit"
    """The job printed more than it may. Agents of before could end a job for that; today they leave out
    what is too much, and the reason is there for what they have recorded."""
    DISK = "disk"
    """The agent's disk was full: preparing failed, or output could not be kept. A script that fails itself on
    a full disk ends with its own status and a hint."""
    USER = "user"
    """Somebody cancelled it."""
    DRAIN = "drain"
    """The operator emptied the agent it ran on, and the job was not to be run again."""
    LEASE_EXPIRED = "lease_expired"
    """The agent lost contact for longer than the lease of a job that may be run again."""
    AGENT_LOST = "agent_lost"
    """The agent came back without the attempt, or was declared gone, or the job's shim was killed."""


class JobEnd(msgspec.Struct, frozen=True):
    """How an attempt ended: its totals, its trace files, and what it wrote into `./outputs` that comes
    back. `outputs_left_out` says what does not, a line for each reason. Of the traces, `traces` are stored,
    `traces_late` follow the end, and `traces_lost` never come.

    `stdout_bytes` and `stderr_bytes` are what is kept and can be read, `stdout_omitted` and
    `stderr_omitted` how many bytes of a stream that was too long are left out of its middle; a line in the
    output says so where they would be.
    """

    reason: EndReason
    exit_code: int | None = None
    signal: int | None = None
    detail: str = ""
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    stdout_sha256: str = ""
    stderr_sha256: str = ""
    traces: int = 0
    outputs: int = 0
    outputs_bytes: int = 0
    outputs_left_out: str = ""
    stdout_omitted: int = 0
    stderr_omitted: int = 0
    traces_late: int = 0
    traces_lost: int = 0


_END_EVENTS = {
    EndReason.SIGNAL: JobEvent.FAIL,
    EndReason.OOM: JobEvent.FAIL,
    EndReason.DEPS: JobEvent.FAIL,
    EndReason.START: JobEvent.FAIL,
    EndReason.OUTPUT_LIMIT: JobEvent.FAIL,
    EndReason.DISK: JobEvent.FAIL,
    EndReason.TIME_LIMIT: JobEvent.TIME_OUT,
    EndReason.USER: JobEvent.CANCEL,
    EndReason.DRAIN: JobEvent.CANCEL,
    EndReason.LEASE_EXPIRED: JobEvent.LOSE,
    EndReason.AGENT_LOST: JobEvent.LOSE,
}


def end_event(end: JobEnd) -> JobEvent:
    """The event an attempt's end is for its job."""
    if end.reason is EndReason.EXIT:
        return JobEvent.SUCCEED if end.exit_code == 0 else JobEvent.FAIL
    return _END_EVENTS[end.reason]


SENTENCES = {
    EndReason.EXIT: "the script exited with {exit_code}",
    EndReason.SIGNAL: "the script was ended by signal {signal}",
    EndReason.OOM: "the script ran out of memory and was killed",
    EndReason.DEPS: "its requirements could not be installed",
    EndReason.START: "the script could not be started",
    EndReason.TIME_LIMIT: "it reached its time limit",
    EndReason.OUTPUT_LIMIT: "it printed more than a job may",
    EndReason.DISK: "the agent's disk is full",
    EndReason.USER: "it was cancelled",
    EndReason.DRAIN: "its agent was drained",
    EndReason.LEASE_EXPIRED: "its agent was out of contact for longer than its lease",
    EndReason.AGENT_LOST: "its agent, or the process that watched over it, is gone",
}


OWN_FAILURE = 125
"""Exit status of a command whose job never got as far as a status of its own."""


FIXED_STATUSES = {
    EndReason.TIME_LIMIT: 124,  # as timeout(1) says it
    EndReason.USER: 130,
    EndReason.OOM: 137,  # as the kernel's SIGKILL shows in a shell
}

EXIT_STATUSES = (
    ("the script's own", "it ended by itself"),
    ("128 + N", "signal N ended the script"),
    *((str(status), SENTENCES[reason]) for reason, status in FIXED_STATUSES.items()),
    (
        str(OWN_FAILURE),
        "Chisel failed before the script had a status of its own: no backend, no key, no such job,"
        " requirements that cannot be installed, a full disk, an agent that is gone or was drained",
    ),
    ("2", "the command line makes no sense, or the script is not where it should be"),
    (
        "1",
        "`chisel doctor` found a fault, `chisel status` that the backend of this machine lacks a part, or"
        " `chisel trace diff --fail-over` that B is slower",
    ),
    (
        "3",
        "no backend runs on this machine, where `chisel status` asks for one, or there is no such trace,"
        " where `chisel trace` does",
    ),
    ("4", "the trace is cut off, lost, not there yet or cannot be read; what could be read is shown"),
    ("130, 143", "Ctrl-C or SIGTERM ended the command"),
    ("141", "nobody reads its output any more"),
)
"""Every status of the command with its meaning: the documentation prints it."""


def exit_status(end: JobEnd) -> int:
    """What `chisel python`, `logs -f`, `attach`, `wait` and `rerun` exit with after such an end."""
    match end.reason:
        case EndReason.EXIT:
            return end.exit_code or 0
        case EndReason.SIGNAL:
            return 128 + (end.signal or 0)
        case reason:
            return FIXED_STATUSES.get(reason, OWN_FAILURE)


def label(end: JobEnd) -> str:
    """The reason in one word, as the API and `chisel ps` show it: `exit:1`, `signal:9`, `deps`."""
    if end.reason is EndReason.EXIT:
        return f"exit:{end.exit_code}"
    if end.reason is EndReason.SIGNAL:
        return f"signal:{end.signal}"
    return end.reason.value


def sentence(end: JobEnd) -> str:
    """The end as a clause for people, without a full stop; details on further lines."""
    text = SENTENCES[end.reason].format(exit_code=end.exit_code, signal=end.signal)
    return f"{text}:\n{end.detail}" if end.detail else text


class JobSpec(msgspec.Struct, frozen=True):
    """What a user asks for; never changes after submission.

    `argv[0]` is `"python"`, which the agent replaces by the environment's interpreter; `workdir` and
    `requirements` are POSIX paths relative to the bundle's root. `gpu` is a `GPUType` value. `secrets`
    gives variables the names of the project's secrets; their values are never part of a spec.
    `exact_argv` is there when an argument is not UTF-8: the bytes of all, which `argv` then only shows.
    `retries` more attempts are made after a lost machine and after what `retry_on` names (see `retries.py`);
    `lease_seconds` is how long the agent of a job with retries may be out of contact first.
    """

    app_name: str
    argv: tuple[str, ...]
    gpu: str
    bundle: Digest
    workdir: str = "."
    requirements: str | None = None
    env: dict[str, str] = {}
    priority: int = 0
    retries: int = 0
    time_limit_seconds: float | None = None
    secrets: dict[str, str] = {}
    exact_argv: tuple[bytes, ...] = ()
    retry_on: tuple[str, ...] = ()
    lease_seconds: float | None = None


class JobView(msgspec.Struct, frozen=True):
    """A job as its owner sees it. Times are seconds since the epoch by the server's clock.

    `version` grows with every change, so of two views the larger is the newer. `waiting` says why a
    queued job waits; `unreachable` that the agent has not been heard of for a while. `user` submitted it,
    `since` is when it came into its state, `cancelled_by` and `cancel_reason` are who asked for its end
    and why.
    """

    id: JobId
    app_name: str
    state: JobState
    version: int
    gpu: str
    argv: tuple[str, ...]
    attempt: int
    submitted_at: float
    agent_id: AgentId | None = None
    agent_name: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    end: JobEnd | None = None
    cancel_requested: bool = False
    unreachable: bool = False
    waiting: str = ""
    archived: bool = False
    user: str = ""
    since: float = 0.0
    cancelled_by: str = ""
    cancel_reason: str = ""
