"""Messages own their subjects, and survive newer and older peers."""

import inspect
import re

import msgspec
import pytest

from chisel_shared.contract import messages
from chisel_shared.contract.ids import AgentId, JobId, SessionId
from chisel_shared.contract.job import JobState, JobView
from chisel_shared.contract.messages import (
    MESSAGES,
    Claim,
    Claimed,
    JobChanged,
    Message,
    Request,
    Wake,
    pattern,
    reply_type,
    tokens,
)
from chisel_shared.contract.subjects import said_on

KINDS = sorted(MESSAGES.values(), key=lambda kind: kind.__name__)
CLAIM = Claim(agent_id=AgentId("a1"), session=SessionId("s1"), key="k", gpus_free=3)


def declared() -> set[type[Message]]:
    """Every message class of the module but the two bases."""
    classes = {kind for _, kind in inspect.getmembers(messages, inspect.isclass) if issubclass(kind, Message)}
    return classes - {Message, Request}


def test_every_declared_message_has_a_subject() -> None:
    assert declared() == set(KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_subject_is_made_of_plain_words_and_own_fields(kind: type[Message]) -> None:
    for part in kind.SUBJECT.split("."):
        assert re.fullmatch(r"[a-z][a-z-]*|\{\w+\}", part), kind.SUBJECT
    for name in re.findall(r"\{(\w+)\}", kind.SUBJECT):
        assert name in kind.__struct_fields__
    assert not kind.SUBJECT.startswith("{")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_message_is_frozen_and_documented(kind: type[Message]) -> None:
    assert kind.__struct_config__.frozen
    assert kind.__doc__


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_request_says_what_it_is_answered_with(kind: type[Message]) -> None:
    if issubclass(kind, Request):
        answer = reply_type(kind)
        assert issubclass(answer, msgspec.Struct)
        assert answer.__struct_config__.frozen
        msgspec.json.Decoder(answer)  # every field can be read back
    msgspec.json.Decoder(kind)


def test_no_two_patterns_catch_the_same_subject() -> None:
    patterns = [pattern(kind) for kind in KINDS]
    assert len(set(patterns)) == len(patterns)


def test_tokens_come_and_go() -> None:
    assert CLAIM.subject() == "rpc.sched.a1.claim"
    assert pattern(Claim) == "rpc.sched.*.claim"
    assert pattern(Claim, agent_id="a1") == "rpc.sched.a1.claim"
    assert tokens(Claim, "rpc.sched.a1.claim") == {"agent_id": "a1"}
    assert tokens(Wake, "wake.default") == {"pool": "default"}
    with pytest.raises(ValueError, match="zip"):
        tokens(Claim, "rpc.sched.a1")


def test_a_subject_that_names_no_field_is_refused_at_import() -> None:
    class Odd(Message, frozen=True):
        pool: str

    with pytest.raises(TypeError, match="no field 'nobody'"):
        said_on("odd.{nobody}")(Odd)
    with pytest.raises(TypeError, match="belongs to Wake"):
        said_on("wake.{pool}")(Odd)
    assert "odd.{nobody}" not in MESSAGES


def test_a_newer_writer_is_understood() -> None:
    newer = {**msgspec.to_builtins(CLAIM), "colour": "green"}
    assert msgspec.json.decode(msgspec.json.encode(newer), type=Claim) == CLAIM


def test_an_older_writer_is_understood() -> None:
    assert msgspec.json.decode(b'{"assignment": null}', type=Claimed) == Claimed(None)


def test_an_event_carries_the_whole_view() -> None:
    job = JobView(
        id=JobId("j1"),
        app_name="train",
        state=JobState.QUEUED,
        version=1,
        gpu="A100-80GB:1",
        argv=("python", "train.py"),
        attempt=0,
        submitted_at=1.5,
    )
    event = JobChanged(job_id=job.id, job=job)
    assert event.subject() == "ev.job.j1"
    assert msgspec.json.decode(msgspec.json.encode(event), type=JobChanged) == event
