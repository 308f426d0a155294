"""The invariants as tables: facts that are as they should be, each changed in one way."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from tests.chaos.facts import (
    Agent,
    Attempt,
    Blob,
    Event,
    Facts,
    Followed,
    JobFacts,
    Life,
    Overdue,
    Stored,
)
from tests.chaos.invariants import INVARIANTS, check
from tests.chaos.plan import Job, Script, Times
from tests.chaos.witness import lives

SCRIPT = Script(name="j", key="k", stdout=10, stderr=0)
STATES = ("queued", "assigned", "preparing", "running", "succeeded")
EVENTS = ("submit", "claim", "prepare", "start", "succeed")


def stored(script: Script, stream: str, size: int) -> Stored:
    digest = hashlib.sha256(script.printed(stream, size)).hexdigest()
    return Stored(size=size, sha256=digest, expected=digest)


def events(names: tuple[str, ...] = EVENTS, states: tuple[str, ...] = STATES) -> tuple[Event, ...]:
    return tuple(
        Event(version=number, attempt=int(number > 1), event=name, state=state, committed=float(number))
        for number, (name, state) in enumerate(zip(names, states, strict=True), 1)
    )


ATTEMPT = Attempt(
    number=1,
    agent="a",
    gpus=2,
    claimed=2.0,
    lease_until=8.0,
    ended=5.0,
    ended_by="agent",
    reason="exit",
    archived=True,
    stored={"stdout": stored(SCRIPT, "stdout", 10), "stderr": stored(SCRIPT, "stderr", 0)},
)
LIFE = Life(attempt=1, pid=7, child=False, first=3.0, last=4.9, gpus=(0, 1), ended="exit 0")
JOB = JobFacts(
    plan=Job(at=0.0, shape="quick", script=SCRIPT, gpus=2),
    accepted=("id1",),
    found="id1",
    state="succeeded",
    attempt=1,
    reason="exit",
    exit_code=0,
    ended=5.0,
    version=5,
    said_version=5,
    events=events(),
    attempts=(ATTEMPT,),
    lives=(LIFE,),
    followed=(Followed(status=0, size=10, sha256=hashlib.sha256(SCRIPT.printed("stdout")).hexdigest()),),
)
FACTS = Facts(times=Times(), at_rest=True, jobs=(JOB,), agents=(Agent(name="a", total=2, held=0, open=0),))


def job(**changes: Any) -> Facts:
    return replace(FACTS, jobs=(replace(JOB, **changes),))


def attempt(**changes: Any) -> Facts:
    return job(attempts=(replace(ATTEMPT, **changes),))


def plan(**changes: Any) -> Job:
    return replace(JOB.plan, **changes)


LEAVES = plan(script=replace(SCRIPT, outputs=5))
LEFT = hashlib.sha256(LEAVES.script.left()).hexdigest()


def another(**changes: Any) -> JobFacts:
    """A second job, on the same agent, that begins when the first has ended."""
    later = tuple(replace(event, committed=event.committed + 10) for event in JOB.events)
    script = replace(SCRIPT, name="j2")
    return replace(
        JOB,
        plan=plan(script=script),
        accepted=("id2",),
        found="id2",
        events=changes.pop("events", later),
        attempts=(replace(ATTEMPT, claimed=12.0, ended=15.0),),
        lives=(replace(LIFE, first=13.0, last=14.9),),
        **changes,
    )


def test_facts_as_they_should_be_contradict_nothing() -> None:
    assert check(FACTS) == []
    assert check(replace(FACTS, jobs=(JOB, another()))) == []


BROKEN: dict[str, tuple[str, Callable[[], Facts]]] = {
    "an error was logged": ("I0", lambda: replace(FACTS, complaints=("storage: oh",))),
    "it never came to rest": ("I0", lambda: replace(FACTS, at_rest=False)),
    "an accepted job is not in the books": ("I1", lambda: job(found="", state="", events=(), attempts=())),
    "a job was accepted under two ids": ("I1", lambda: job(accepted=("id1", "id2"))),
    "a job is in the books that nobody submitted": ("I1", lambda: replace(FACTS, strangers=("x",))),
    "a job is not over": ("I1", lambda: job(state="running", version=4, said_version=4, events=events()[:4])),
    "a job ended twice": (
        "I1",
        lambda: job(version=6, said_version=6, events=events((*EVENTS, "fail"), (*STATES, "failed"))),
    ),
    "a version is missing": ("I1", lambda: job(version=6, said_version=6)),
    "a move is illegal": (
        "I1",
        lambda: job(events=events(("submit", "claim", "start", "prepare", "succeed"), STATES)),
    ),
    "a script exited otherwise than is told": ("I1", lambda: job(exit_code=1, state="failed")),
    "a job nobody cancelled was cancelled": ("I1", lambda: job(reason="user", state="cancelled")),
    "a job was lost whose shim lived": ("I1", lambda: job(reason="agent_lost", state="lost")),
    "a job without retries lost its lease": ("I1", lambda: job(reason="lease_expired", state="lost")),
    "a disk was full and none was": ("I1", lambda: job(reason="disk", state="failed")),
    "a good bundle could not be started": ("I1", lambda: job(reason="start", state="failed")),
    "two attempts overlap": (
        "I2",
        lambda: job(lives=(LIFE, replace(LIFE, attempt=2, pid=8, first=4.8, last=4.85))),
    ),
    "two attempts overlap by a child": (
        "I2",
        lambda: job(
            lives=(
                replace(LIFE, pid=6, child=True, first=3.1, last=4.9, gpus=()),
                replace(LIFE, last=3.5),
                replace(LIFE, attempt=2, pid=8, first=4.8, last=4.85),
            )
        ),
    ),
    "one attempt ran twice": ("I2", lambda: job(lives=(LIFE, replace(LIFE, pid=8, first=4.95, last=4.99)))),
    "output is missing": (
        "I3",
        lambda: attempt(
            stored={"stdout": stored(SCRIPT, "stdout", 9), "stderr": stored(SCRIPT, "stderr", 0)}
        ),
    ),
    "output is not kept at all": ("I3", lambda: attempt(stored={})),
    "output is other bytes": (
        "I3",
        lambda: attempt(stored={"stdout": Stored(size=10, sha256="x", expected="y")}),
    ),
    "output is not archived": ("I3", lambda: attempt(archived=False)),
    "a cancelled job's output is no beginning": (
        "I3",
        lambda: replace(
            FACTS,
            jobs=(
                replace(
                    JOB,
                    cancelled=True,
                    reason="user",
                    state="cancelled",
                    attempts=(replace(ATTEMPT, stored={"stdout": Stored(size=4, sha256="x", expected="y")}),),
                ),
            ),
        ),
    ),
    "a follower was told too little": (
        "I3",
        lambda: job(followed=(Followed(status=0, size=3, sha256=hashlib.sha256(b"").hexdigest()),)),
    ),
    "a follower was told another status": ("I3", lambda: job(followed=(replace(JOB.followed[0], status=1),))),
    "a follower never ended": ("I3", lambda: job(followed=(replace(JOB.followed[0], status=None),))),
    "a script outlived its attempt": ("I4", lambda: job(lives=(replace(LIFE, last=5.2),))),
    "a child outlived its attempt": (
        "I4",
        lambda: job(lives=(LIFE, replace(LIFE, pid=8, child=True, last=5.2, gpus=()))),
    ),
    "a process is left": ("I4", lambda: replace(FACTS, alive=("process 7",))),
    "an upload is not what it was": (
        "I5",
        lambda: replace(FACTS, blobs=(Blob(name="p", sha256="a", found="b"),)),
    ),
    "an upload is gone": ("I5", lambda: replace(FACTS, blobs=(Blob(name="p", sha256="a", found=""),))),
    "what a job left is not stored": ("I5", lambda: job(plan=LEAVES, traces=((1, LEFT),))),
    "a trace that a job saved is not stored": ("I5", lambda: job(plan=LEAVES, files=((1, LEFT),))),
    "GPUs are held that nobody has": (
        "I6",
        lambda: replace(FACTS, agents=(Agent(name="a", total=2, held=1, open=0),)),
    ),
    "an agent held more than it has": (
        "I6",
        lambda: replace(
            FACTS,
            jobs=(
                JOB,
                another(events=tuple(replace(one, committed=one.committed + 0.5) for one in JOB.events)),
            ),
        ),
    ),
    "a GPU had two jobs": (
        "I6",
        lambda: replace(FACTS, jobs=(JOB, replace(another(), lives=(replace(LIFE, first=4.0, last=4.5),)))),
    ),
    "a dead agent kept its lease": (
        "I7",
        lambda: replace(FACTS, overdue=(Overdue(job="id1", attempt=1, overdue=60.0, calm=60.0),)),
    ),
    "the outbox is not empty": ("I8", lambda: replace(FACTS, outbox=1)),
    "the stream's last word is not the last": ("I8", lambda: job(said_version=4)),
    "a secret is in a log": ("I9", lambda: replace(FACTS, leaked=("gateway.log",))),
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_what_contradicts_an_invariant_is_found_by_it(name: str) -> None:
    invariant, facts = BROKEN[name]
    assert invariant in {violation.invariant for violation in check(facts())}


def test_each_invariant_has_a_row() -> None:
    assert {invariant for invariant, _ in BROKEN.values()} == set(INVARIANTS)


SOUND: dict[str, Callable[[], Facts]] = {
    "a lost job whose shim was killed, with a beginning of its output": lambda: replace(
        FACTS,
        unwatched=frozenset({"id1.1"}),
        jobs=(
            replace(
                JOB,
                reason="agent_lost",
                state="lost",
                exit_code=None,
                events=events((*EVENTS[:4], "lose"), (*STATES[:4], "lost")),
                attempts=(replace(ATTEMPT, stored={"stdout": stored(SCRIPT, "stdout", 3)}),),
                followed=(),
            ),
        ),
    ),
    "an expired lease that could not be noticed yet": lambda: replace(
        FACTS, overdue=(Overdue(job="id1", attempt=1, overdue=60.0, calm=3.0),)
    ),
    "an expired lease that is about to be": lambda: replace(
        FACTS, overdue=(Overdue(job="id1", attempt=1, overdue=2.0, calm=60.0),)
    ),
    "a stream that was wiped since": lambda: job(said_version=None),
    "a job that was never submitted": lambda: replace(FACTS, jobs=(JobFacts(plan=JOB.plan),)),
    "what an interpreter says that was interrupted before its first word": lambda: replace(
        FACTS,
        jobs=(
            replace(
                JOB,
                cancelled=True,
                reason="user",
                state="cancelled",
                exit_code=None,
                signal=2,
                lives=(),
                followed=(),
                events=events((*EVENTS[:4], "cancel"), (*STATES[:4], "cancelled")),
                attempts=(replace(ATTEMPT, stored={"stderr": Stored(size=318, sha256="x", expected="y")}),),
            ),
        ),
    ),
}


@pytest.mark.parametrize("name", list(SOUND))
def test_what_may_happen_contradicts_nothing(name: str) -> None:
    assert check(SOUND[name]()) == []


def test_a_witness_file_tells_who_lived_when() -> None:
    told = lives(
        [
            "start 1 7 3.000000 0,1\n",
            "child 1 8 3.100000 -\n",
            "beat 1 7 3.500000 -\n",
            "exit 1 7 4.900000 0\n",
            "child 1 8 4.950000 -\n",
            "beat 1 7 9",
        ]
    )
    assert told == (
        LIFE,
        Life(attempt=1, pid=8, child=True, first=3.1, last=4.95),
    )
