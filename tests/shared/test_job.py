"""The state machine of a job as a specification: every state, every event, every way to end."""

import re

import pytest

from chisel_shared.contract.job import (
    EXIT_STATUSES,
    FINAL,
    HELD,
    SENTENCES,
    TRANSITIONS,
    EndReason,
    IllegalTransition,
    JobEnd,
    JobEvent,
    JobState,
    advance,
    end_event,
    exit_status,
    label,
    mermaid,
    sentence,
    sources,
)

S, E = JobState, JobEvent

LEGAL = {
    (S.QUEUED, E.CLAIM): S.ASSIGNED,
    (S.QUEUED, E.CANCEL): S.CANCELLED,
    (S.ASSIGNED, E.PREPARE): S.PREPARING,
    (S.ASSIGNED, E.FAIL): S.FAILED,
    (S.ASSIGNED, E.CANCEL): S.CANCELLED,
    (S.ASSIGNED, E.LOSE): S.LOST,
    (S.ASSIGNED, E.REQUEUE): S.QUEUED,
    (S.PREPARING, E.START): S.RUNNING,
    (S.PREPARING, E.FAIL): S.FAILED,
    (S.PREPARING, E.CANCEL): S.CANCELLED,
    (S.PREPARING, E.TIME_OUT): S.TIMED_OUT,
    (S.PREPARING, E.LOSE): S.LOST,
    (S.PREPARING, E.REQUEUE): S.QUEUED,
    (S.RUNNING, E.SUCCEED): S.SUCCEEDED,
    (S.RUNNING, E.FAIL): S.FAILED,
    (S.RUNNING, E.CANCEL): S.CANCELLED,
    (S.RUNNING, E.TIME_OUT): S.TIMED_OUT,
    (S.RUNNING, E.LOSE): S.LOST,
    (S.RUNNING, E.REQUEUE): S.QUEUED,
}


@pytest.mark.parametrize("state", JobState)
@pytest.mark.parametrize("event", JobEvent)
def test_every_state_meets_every_event(state: JobState, event: JobEvent) -> None:
    expected = LEGAL.get((state, event))
    if expected is None:
        with pytest.raises(IllegalTransition, match=f"a {state} job cannot {event}"):
            advance(state, event)
    else:
        assert advance(state, event) is expected
    assert (state in sources(event)) is (expected is not None)


def test_every_state_is_waiting_held_or_final() -> None:
    assert set(TRANSITIONS) == set(JobState)
    assert {S.QUEUED, *HELD, *FINAL} == set(JobState)
    assert len({S.QUEUED, *HELD, *FINAL}) == 1 + len(HELD) + len(FINAL)


def test_a_final_state_has_no_way_out_and_every_other_one_has_a_way_there() -> None:
    for state in JobState:
        reached, edge = {state}, {state}
        while edge:
            edge = {target for one in edge for target in TRANSITIONS[one].values()} - reached
            reached |= edge
        assert reached == {state} if state in FINAL else set(FINAL) <= reached


def test_an_event_leads_to_the_same_state_from_everywhere() -> None:
    for event in JobEvent:
        assert len({advance(state, event) for state in sources(event)}) == 1


def test_the_diagram_is_the_table() -> None:
    drawn = re.findall(r"^    (\w+) --> (\w+): (\w+)$", mermaid(), flags=re.MULTILINE)
    assert {(S(a), E(event)): S(b) for a, b, event in drawn} == LEGAL
    ends = re.findall(r"^    (\w+) --> \[\*\]$", mermaid(), flags=re.MULTILINE)
    assert {S(state) for state in ends} == set(FINAL)
    assert "[*] --> queued" in mermaid()


# (how it ended, its event, what the command exits with, the word for it)
ENDS = [
    (JobEnd(reason=EndReason.EXIT, exit_code=0), E.SUCCEED, 0, "exit:0"),
    (JobEnd(reason=EndReason.EXIT, exit_code=1), E.FAIL, 1, "exit:1"),
    (JobEnd(reason=EndReason.EXIT, exit_code=255), E.FAIL, 255, "exit:255"),
    (JobEnd(reason=EndReason.SIGNAL, signal=9), E.FAIL, 137, "signal:9"),
    (JobEnd(reason=EndReason.SIGNAL, signal=15), E.FAIL, 143, "signal:15"),
    (JobEnd(reason=EndReason.OOM), E.FAIL, 137, "oom"),
    (JobEnd(reason=EndReason.DEPS), E.FAIL, 125, "deps"),
    (JobEnd(reason=EndReason.START), E.FAIL, 125, "start"),
    (JobEnd(reason=EndReason.TIME_LIMIT), E.TIME_OUT, 124, "time_limit"),
    (JobEnd(reason=EndReason.OUTPUT_LIMIT), E.FAIL, 125, "output_limit"),
    (JobEnd(reason=EndReason.DISK), E.FAIL, 125, "disk"),
    (JobEnd(reason=EndReason.USER), E.CANCEL, 130, "user"),
    (JobEnd(reason=EndReason.DRAIN), E.CANCEL, 125, "drain"),
    (JobEnd(reason=EndReason.LEASE_EXPIRED), E.LOSE, 125, "lease_expired"),
    (JobEnd(reason=EndReason.AGENT_LOST), E.LOSE, 125, "agent_lost"),
]


@pytest.mark.parametrize(("end", "event", "status", "word"), ENDS, ids=[row[3] for row in ENDS])
def test_how_a_job_ends(end: JobEnd, event: JobEvent, status: int, word: str) -> None:
    assert end_event(end) is event
    assert advance(S.RUNNING, event) in FINAL
    assert exit_status(end) == status
    told = [meaning for shown, meaning in EXIT_STATUSES if str(status) in shown.split(", ")]
    assert told or end.reason in (EndReason.EXIT, EndReason.SIGNAL)
    assert label(end) == word


@pytest.mark.parametrize("reason", EndReason)
def test_every_reason_is_mapped_and_worded(reason: EndReason) -> None:
    assert reason in {end.reason for end, *_ in ENDS}
    assert set(SENTENCES) == set(EndReason)
    text = sentence(JobEnd(reason=reason, exit_code=3, signal=9))
    assert text
    assert "{" not in text
    assert "None" not in text
    assert not text.endswith(".")
    assert (
        sentence(JobEnd(reason=reason, exit_code=3, signal=9, detail="last\nlines"))
        == f"{text}:\nlast\nlines"
    )


def test_only_success_exits_with_zero() -> None:
    for end, event, status, _ in ENDS:
        assert (status == 0) is (event is E.SUCCEED), end
