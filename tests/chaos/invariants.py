"""The invariants of the service, each a pure function from facts to what contradicts it."""

import hashlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from chisel_shared.contract.job import FINAL, TRANSITIONS, JobEnd, JobEvent, JobState, exit_status
from chisel_shared.contract.job import EndReason as Reason
from tests.chaos.facts import Attempt, Facts, JobFacts, Life
from tests.chaos.ledger import overcommitted, shared_gpus

CLOCK_SECONDS = 0.05
"""How far two readings of the same clock may seem apart: the wall clock of the books is slewed, and read
a moment before or after."""
NOTICED_SECONDS = 5.0
"""An expired lease is acted on in the next round of the reaper, which a busy machine delays."""
HEALTHY_SECONDS = 2.0
"""After everything answers again the scheduler counts a whole lease before it ends any: its count begins
within this."""
_BY_ITSELF = (Reason.EXIT, Reason.SIGNAL)
_ENDS = {event.value for event in (
    JobEvent.SUCCEED, JobEvent.FAIL, JobEvent.CANCEL, JobEvent.TIME_OUT, JobEvent.LOSE,
)}  # fmt: skip
_MOVES = {event.value for event in JobEvent}


class Violation(NamedTuple):
    """`invariant` does not hold for `subject`."""

    invariant: str
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.invariant} {self.subject}: {self.text}"


Found = Iterator[tuple[str, str]]


def one_end(facts: Facts) -> Found:
    """I1. Every accepted job reaches exactly one final state, by legal moves, and it is the true one."""
    for stranger in facts.strangers:
        yield stranger, "nobody submitted it"
    for job in facts.jobs:
        name = f"{job.plan.name} {job.found}".strip()
        if job.accepted and set(job.accepted) != {job.found}:
            yield name, f"accepted as {sorted(set(job.accepted))}, in the books as {job.found or 'nothing'}"
        if not job.found:
            continue
        if job.state not in {state.value for state in FINAL}:
            yield name, f"is {job.state} at rest"
        ends = [event for event in job.events if event.event in _ENDS]
        if len(ends) > 1:
            yield name, f"ended {len(ends)} times: {[event.event for event in ends]}"
        if [event.version for event in job.events] != list(range(1, job.version + 1)):
            yield name, f"has the versions {[event.version for event in job.events]} of {job.version}"
        state = JobState.QUEUED
        for event in job.events:
            if event.event in _MOVES:
                after = TRANSITIONS[state].get(JobEvent(event.event))
                if after is None:
                    yield name, f"a {state} job had the event {event.event}"
                    break
                state = after
            if event.state != state:
                yield name, f"is {event.state} after {event.event}, not {state}"
                break
        if ends and (wrong := _untrue_end(facts, job)):
            yield name, wrong


def _untrue_end(facts: Facts, job: JobFacts) -> str:
    """ "" when the end is one that this job, after what was done to it, may have."""
    script, retried = job.plan.script, job.plan.retries > 0
    label = f"{job.state} ({job.reason}, exit code {job.exit_code}, signal {job.signal})"
    lost = f"{job.found}.{job.attempt}" in facts.unwatched
    match job.reason:
        case Reason.EXIT if job.plan.time_limit is None and not script.signal:
            # Asked to end, a script that does not ignore it says 130 itself; then nobody sent a signal.
            allowed = job.exit_code == script.exit_code
        case Reason.SIGNAL:
            allowed = bool(script.signal) and job.signal == script.signal
        case Reason.USER:
            allowed = job.cancelled
        case Reason.TIME_LIMIT:
            allowed = job.plan.time_limit is not None
        case Reason.LEASE_EXPIRED:
            allowed = retried
        case Reason.AGENT_LOST:
            allowed = lost
        case Reason.DISK:
            allowed = facts.full_disks
        case _:
            allowed = False
    return "" if allowed else f"ended as {label}, and was a {job.plan.shape} job"


def never_twice_at_once(facts: Facts) -> Found:
    """I2. No two executions of one job are alive at one instant."""
    for job in facts.jobs:
        scripts = sorted((life for life in job.lives if not life.child), key=lambda life: life.first)
        for attempt in sorted({life.attempt for life in scripts}):
            pids = {life.pid for life in scripts if life.attempt == attempt}
            if len(pids) > 1:
                yield job.plan.name, f"attempt {attempt} ran {len(pids)} times"
        last: Life | None = None
        for life in sorted(job.lives, key=lambda life: life.first):
            if last is not None and life.attempt != last.attempt and life.first < last.last:
                over = last.last - life.first
                yield (
                    job.plan.name,
                    f"attempts {last.attempt} and {life.attempt} were both alive for {over:.3f} s",
                )
            if last is None or life.last > last.last:
                last = life


def output_is_exact(facts: Facts) -> Found:
    """I3. What is stored, and what a follower was told, is what the job wrote: all of it when it ended by
    itself, else a beginning of it."""
    for job in facts.jobs:
        for attempt in job.attempts:
            if attempt.ended is not None and not attempt.archived:
                yield job.plan.name, f"the output of attempt {attempt.number} is not archived"
                continue
            yield from ((job.plan.name, text) for text in _inexact(job, attempt))
        if job.state:
            yield from ((job.plan.name, text) for text in _misfollowed(job))


def _inexact(job: JobFacts, attempt: Attempt) -> Iterator[str]:
    whole = attempt.number == job.attempt and job.reason in _BY_ITSELF
    began = any(life.attempt == attempt.number and not life.child for life in job.lives)
    for stream in ("stdout", "stderr"):
        wanted = len(job.plan.script.printed(stream))
        stored = attempt.stored.get(stream)
        size = stored.size if stored else 0
        told = f"{stream} of attempt {attempt.number}"
        if whole and size != wanted:
            yield f"{told} has {size} bytes stored, and the script wrote {wanted}"
        elif size > wanted and (began or stream == "stdout"):
            yield f"{told} has {size} bytes stored, and the script writes only {wanted}"
        elif stored and stored.sha256 != stored.expected and (began or stream == "stdout"):
            # Interrupted before its first word, the interpreter says so on stderr.
            yield f"{told} is not what the script wrote: sha256 {stored.sha256[:12]} of {size} bytes"


def _misfollowed(job: JobFacts) -> Iterator[str]:
    for followed in job.followed:
        if followed.status is None:
            yield "a command that followed it never ended"
            continue
        if job.plan.retries:
            continue  # it printed every attempt, of which only the last is compared
        wanted = job.plan.script.printed("stdout")
        expected = hashlib.sha256(job.plan.script.printed("stdout", followed.size)).hexdigest()
        if job.reason in _BY_ITSELF and followed.size != len(wanted):
            yield f"a command that followed it printed {followed.size} of {len(wanted)} bytes"
        elif followed.sha256 != expected:
            yield f"a command that followed it printed {followed.size} bytes that are not the script's"
        end = JobEnd(reason=Reason(job.reason), exit_code=job.exit_code, signal=job.signal)
        if followed.status != exit_status(end):
            yield f"a command that followed it exited with {followed.status}, not {exit_status(end)}"


def nothing_survives(facts: Facts) -> Found:
    """I4. No process of a job, whatever it did to get away, is alive after the end of its attempt."""
    for alive in facts.alive:
        yield alive, "is alive at rest"
    for job in facts.jobs:
        for attempt in job.attempts:
            for life in job.lives:
                if life.attempt == attempt.number and attempt.ended is not None:
                    longer = life.last - attempt.ended
                    if longer > CLOCK_SECONDS:
                        who = "what it left behind" if life.child else "the script"
                        yield job.plan.name, f"{who} was alive {longer:.3f} s after attempt {life.attempt}"


def uploads_are_kept(facts: Facts) -> Found:
    """I5. Whatever storage said it keeps reads again bit by bit."""
    for blob in facts.blobs:
        if blob.found != blob.sha256:
            yield blob.name, f"has the sha256 {blob.found[:12] or 'of nothing'}, not {blob.sha256[:12]}"
    for job in facts.jobs:
        if job.plan.script.outputs and job.reason in _BY_ITSELF:
            wanted = hashlib.sha256(job.plan.script.left()).hexdigest()
            if (job.attempt, wanted) not in job.files:
                yield job.plan.name, "the file it left in ./outputs is not stored"
            if (job.attempt, wanted) not in job.traces:
                yield job.plan.name, "the trace it saved is not stored"


def gpus_add_up(facts: Facts) -> Found:
    """I6. The ledger of GPUs is the sum of open attempts, at no moment above what an agent has, and no
    GPU ever belongs to two jobs."""
    for agent in facts.agents:
        if agent.held != agent.open:
            yield agent.name, f"{agent.held} GPUs are counted as held, open attempts have {agent.open}"
    yield from overcommitted(facts)
    yield from shared_gpus(facts)


def no_dead_leases(facts: Facts) -> Found:
    """I7. A lease that is over ends its attempt: no dead agent holds one for longer than lease and grace."""
    times = facts.times
    for seen in facts.overdue:
        noticed = times.grace + times.reap + NOTICED_SECONDS
        able = times.lease + HEALTHY_SECONDS
        if seen.overdue > noticed and seen.calm > able:
            yield f"{seen.job}.{seen.attempt}", f"its lease was over for {seen.overdue:.1f} s and it was open"


def everything_is_said(facts: Facts) -> Found:
    """I8. At rest the outbox is empty, and the last word of the stream about each job is the last."""
    if facts.outbox:
        yield "outbox", f"holds {facts.outbox} events"
    for job in facts.jobs:
        if job.said_version is not None and job.said_version != job.version:
            yield job.plan.name, f"the stream ends with its version {job.said_version}, not {job.version}"


def secrets_stay_secret(facts: Facts) -> Found:
    """I9. No secret is in any log, nor in what a job or a client was told."""
    for place in facts.leaked:
        yield place, "holds a secret"


def nobody_complains(facts: Facts) -> Found:
    """I0. No service logged an error, which is said of defects only, and everything came to rest."""
    if not facts.at_rest:
        yield "campaign", "did not come to rest"
    for complaint in facts.complaints:
        yield "log", complaint


INVARIANTS: dict[str, Callable[[Facts], Found]] = {
    "I0": nobody_complains,
    "I1": one_end,
    "I2": never_twice_at_once,
    "I3": output_is_exact,
    "I4": nothing_survives,
    "I5": uploads_are_kept,
    "I6": gpus_add_up,
    "I7": no_dead_leases,
    "I8": everything_is_said,
    "I9": secrets_stay_secret,
}


def check(facts: Facts) -> list[Violation]:
    """Everything that contradicts the invariants."""
    return [
        Violation(name, subject, text)
        for name, invariant in INVARIANTS.items()
        for subject, text in invariant(facts)
    ]
