"""Which ends are repeated, and how often."""

import pytest

from chisel_shared.contract.errors import BadRequest
from chisel_shared.contract.job import EndReason, JobEnd, JobEvent, end_event
from chisel_shared.contract.retries import ANY, CAUSES, MOST_STARTS_LOST, check_cause, is_cause, may_run_again
from tests.support.source import ROOT

R = EndReason


@pytest.mark.parametrize("word", [*CAUSES, "exit:1", "exit:255", "signal:9", "signal:64"])
def test_a_cause(word: str) -> None:
    assert check_cause(word) == word


@pytest.mark.parametrize(
    "word",
    [
        "",
        "exits",
        "exit:",
        "exit:0",
        "exit:256",
        "exit:01",
        "exit:-1",
        "signal:65",
        "signal:x",
        "oom:1",
        "user",
        "output",
        "EXIT",
        "exit:1:2",
        "exit: 1",
        "exit:\u0661",
    ],
)
def test_no_cause(word: str) -> None:
    with pytest.raises(BadRequest, match="exit:N with N from 1 to 255"):
        check_cause(word)


@pytest.mark.parametrize(
    ("end", "causes", "not_causes"),
    [
        (JobEnd(reason=R.EXIT, exit_code=75), ("exit", "exit:75", ANY), ("exit:7", "signal", "")),
        (JobEnd(reason=R.SIGNAL, signal=9), ("signal", "signal:9", ANY), ("signal:11", "exit", "oom")),
        (JobEnd(reason=R.OOM, signal=9), ("oom", ANY), ("signal", "signal:9")),
        (JobEnd(reason=R.TIME_LIMIT), ("time_limit", ANY), ("exit",)),
        (JobEnd(reason=R.DEPS), ("deps", ANY), ("start",)),
        (JobEnd(reason=R.DISK), ("disk", ANY), ("deps",)),
        (JobEnd(reason=R.EXIT, exit_code=0), (), ("exit", "exit:0", ANY)),
        (JobEnd(reason=R.USER), (), ("user", ANY)),
    ],
)
def test_what_is_a_cause(end: JobEnd, causes: tuple[str, ...], not_causes: tuple[str, ...]) -> None:
    assert all(is_cause(end, (cause,)) for cause in causes)
    assert not any(is_cause(end, (cause,)) for cause in not_causes)
    assert not is_cause(end, ())


def test_the_guide_has_every_cause() -> None:
    guide = (ROOT / "docs" / "howto" / "retries.md").read_text(encoding="utf-8")
    assert [f"| `{cause}` | {meaning} |" for cause, meaning in CAUSES.items()] == [
        line for line in guide.splitlines() if line.startswith("| `")
    ]


def test_a_lost_machine_is_always_a_cause() -> None:
    lost = [reason for reason in R if end_event(JobEnd(reason=reason)) is JobEvent.LOSE]
    assert len(lost) == 2
    assert all(is_cause(JobEnd(reason=reason), ()) for reason in lost)


@pytest.mark.parametrize(
    ("ran", "attempt", "repeated", "retries", "again"),
    [
        (False, 1, 0, 0, True),
        (False, MOST_STARTS_LOST - 1, 0, 0, True),
        (False, MOST_STARTS_LOST, 0, 0, False),
        (False, MOST_STARTS_LOST + 1, 2, 5, True),
        (True, 1, 1, 0, False),
        (True, 1, 1, 1, True),
        (True, 2, 2, 1, False),
        (True, 5, 1, 1, True),
    ],
)
def test_running_again(ran: bool, attempt: int, repeated: int, retries: int, again: bool) -> None:
    assert may_run_again(ran=ran, attempt=attempt, repeated=repeated, retries=retries) is again
