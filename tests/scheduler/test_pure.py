"""The scheduler's small pure parts: lifecycle, sentences, validation, health."""

from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from chisel_scheduler import validation
from chisel_scheduler.explain import MOST_COUNTED, Place, Standing, agent_state, no_such_gpus, why_waiting
from chisel_scheduler.health import Health
from chisel_scheduler.lifecycle import Tries, after_drain, after_end, after_loss, steps, target
from chisel_shared.contract.errors import BadRequest
from chisel_shared.contract.gpus import GPUType
from chisel_shared.contract.ids import AgentId, SessionId
from chisel_shared.contract.job import (
    FINAL,
    HELD,
    TRANSITIONS,
    EndReason,
    JobEnd,
    JobEvent,
    JobState,
    advance,
    end_event,
)
from chisel_shared.contract.messages import AttemptDone, DrainAgent, Renew
from tests.scheduler.actors import START, hello_of, spec

LOST = JobEnd(reason=EndReason.AGENT_LOST)

# Lifecycle


@pytest.mark.parametrize("event", JobEvent)
def test_every_event_leads_to_one_state(event: JobEvent) -> None:
    assert target(event) in JobState


@pytest.mark.parametrize("state", HELD)
@pytest.mark.parametrize("reason", EndReason)
@pytest.mark.parametrize("exit_code", [0, 1])
def test_every_end_can_be_reached_from_every_held_state(
    state: JobState, reason: EndReason, exit_code: int
) -> None:
    event = end_event(JobEnd(reason=reason, exit_code=exit_code))
    way = steps(state, event)
    assert way[-1] is event
    for step in way:
        state = advance(state, step)
    assert state in FINAL


def test_what_is_reached_already_takes_no_steps() -> None:
    assert steps(JobState.RUNNING, JobEvent.PREPARE) == ()
    assert steps(JobState.PREPARING, JobEvent.PREPARE) == ()
    assert steps(JobState.ASSIGNED, JobEvent.START) == (JobEvent.PREPARE, JobEvent.START)
    assert all(steps(state, JobEvent.START) == () for state in TRANSITIONS if state not in HELD)


@pytest.mark.parametrize(
    ("ran", "repeated", "retries", "cancelled", "event", "reason"),
    [
        (False, 0, 0, False, JobEvent.REQUEUE, None),
        (True, 0, 0, False, JobEvent.LOSE, EndReason.AGENT_LOST),
        (True, 0, 1, False, JobEvent.REQUEUE, None),
        (True, 1, 1, False, JobEvent.LOSE, EndReason.AGENT_LOST),
        (False, 0, 5, True, JobEvent.CANCEL, EndReason.USER),
        (True, 0, 5, True, JobEvent.CANCEL, EndReason.USER),
    ],
)
def test_what_a_loss_does(
    ran: bool, repeated: int, retries: int, cancelled: bool, event: JobEvent, reason: EndReason | None
) -> None:
    tries = Tries(attempt=1, repeated=repeated, retries=retries, cancel_requested=cancelled)
    outcome = after_loss(LOST, tries, ran=ran)
    assert (outcome.event, outcome.end and outcome.end.reason) == (event, reason)
    assert (outcome.end is not None) is (target(outcome.event) in FINAL)
    assert (outcome.waiting != "") is (event is JobEvent.REQUEUE)


EXIT_75 = JobEnd(reason=EndReason.EXIT, exit_code=75)


@pytest.mark.parametrize(
    ("end", "repeated", "retries", "retry_on", "cancelled", "event"),
    [
        (EXIT_75, 0, 1, ("exit:75",), False, JobEvent.REQUEUE),
        (EXIT_75, 1, 1, ("exit:75",), False, JobEvent.FAIL),
        (EXIT_75, 0, 1, (), False, JobEvent.FAIL),
        (EXIT_75, 0, 0, ("exit",), False, JobEvent.FAIL),
        (EXIT_75, 0, 1, ("exit",), True, JobEvent.FAIL),
        (JobEnd(reason=EndReason.EXIT, exit_code=0), 0, 1, ("any",), False, JobEvent.SUCCEED),
        (JobEnd(reason=EndReason.TIME_LIMIT), 0, 1, ("any",), False, JobEvent.REQUEUE),
        (JobEnd(reason=EndReason.TIME_LIMIT), 0, 1, ("exit",), False, JobEvent.TIME_OUT),
        (JobEnd(reason=EndReason.USER), 0, 1, ("any",), True, JobEvent.CANCEL),
    ],
)
def test_what_an_end_does(
    end: JobEnd, repeated: int, retries: int, retry_on: tuple[str, ...], cancelled: bool, event: JobEvent
) -> None:
    tries = Tries(
        attempt=1 + repeated,
        repeated=repeated,
        retries=retries,
        retry_on=retry_on,
        cancel_requested=cancelled,
    )
    outcome = after_end(end, tries)
    assert outcome.event is event
    assert outcome.end == (None if event is JobEvent.REQUEUE else end)


DRAINED = JobEnd(reason=EndReason.USER, exit_code=1, stdout_bytes=7)


@pytest.mark.parametrize(
    ("ran", "repeated", "retries", "event"),
    [
        (False, 0, 0, JobEvent.REQUEUE),
        (False, 3, 2, JobEvent.REQUEUE),
        (True, 0, 0, JobEvent.CANCEL),
        (True, 0, 1, JobEvent.REQUEUE),
        (True, 1, 1, JobEvent.CANCEL),
        (True, 1, 2, JobEvent.REQUEUE),
    ],
)
def test_what_a_drain_does(ran: bool, repeated: int, retries: int, event: JobEvent) -> None:
    tries = Tries(attempt=1 + repeated, repeated=repeated, retries=retries)
    outcome = after_drain(DRAINED, tries, ran=ran, drained="box is drained")
    assert outcome.event is event
    if event is JobEvent.REQUEUE:
        assert (outcome.end, outcome.waiting) == (None, "box is drained; it will run again")
    else:
        assert outcome.end == JobEnd(reason=EndReason.DRAIN, exit_code=1, stdout_bytes=7)


def test_drains_are_not_counted_as_lost_starts() -> None:
    tries = Tries(attempt=12, repeated=0, retries=0)
    assert after_loss(LOST, tries, ran=False).event is JobEvent.LOSE
    drained = Tries(attempt=12, repeated=0, retries=0, evicted=11)
    assert after_loss(LOST, drained, ran=False).event is JobEvent.REQUEUE


# Sentences


def place(
    name: str, total: int, free: int = 0, *, model: str = "A100-80GB", state: str = "online",
    by: str = "", reason: str = "", quarantined: int = 0,
) -> Place:  # fmt: skip
    return Place(
        name=name,
        gpu_model=model,
        gpus_total=total,
        gpus_free=free,
        state=state,
        gpus_quarantined=quarantined,
        by=by,
        reason=reason,
    )


@pytest.mark.parametrize(
    ("heard", "stopping", "cordoned", "drain", "held", "word"),
    [
        ("online", False, False, False, 3, "online"),
        ("online", True, False, False, 0, "stopping"),
        ("online", False, True, False, 3, "cordoned"),
        ("online", True, True, False, 3, "cordoned"),
        ("online", False, True, True, 3, "draining"),
        ("online", True, True, True, 0, "drained"),
        ("unreachable", False, True, True, 3, "unreachable"),
        ("offline", True, True, True, 0, "offline"),
    ],
)
def test_how_an_agent_stands(
    heard: str, stopping: bool, cordoned: bool, drain: bool, held: int, word: str
) -> None:
    assert agent_state(heard, stopping=stopping, cordoned=cordoned, drain=drain, gpus_held=held) == word


@pytest.mark.parametrize(
    ("agents", "expected"),
    [
        ([], "no agent has ever joined, so there are no GPUs to run on"),
        ([place("a", 1), place("b", 2)], "no agent has 4 A100-80GB GPUs; the largest has 2 (agent b)"),
        (
            [place("h", 8, model="H100")],
            "no agent has A100-80GB GPUs; the largest agent has 8 H100 (agent h)",
        ),
        ([place("a", 4, state="offline")], None),
    ],
)
def test_why_a_job_can_never_run(agents: list[Place], expected: str | None) -> None:
    assert no_such_gpus("A100-80GB", 4, agents) == expected


@pytest.mark.parametrize(
    ("gpus", "ahead", "best", "expected"),
    [
        (1, 0, place("a", 1, 1), ""),
        (1, 1, place("a", 1, 1), "1 job ahead"),
        (1, MOST_COUNTED + 1, place("a", 1, 1), "more than 100 jobs ahead"),
        (4, 2, place("a", 8, 3),
         "2 jobs ahead; no agent with 4 free A100-80GB GPUs; 3 of 8 are free on a"),
        (2, 0, place("a", 2, 1), "no agent with 2 free A100-80GB GPUs; 1 of 2 is free on a"),
        (1, 0, place("a", 8, 8, state="stopping"),
         "no agent with 1 free A100-80GB GPU; a, which has 8, is stopping"),
        (1, 0, place("a", 8, 8, state="cordoned", by="Ada", reason="new driver"),
         "no agent with 1 free A100-80GB GPU; a, which has 8, is cordoned by Ada: new driver"),
        (1, 0, place("a", 8, 8, state="drained", by="Ada"),
         "no agent with 1 free A100-80GB GPU; a, which has 8, is drained by Ada"),
        (1, 0, place("a", 8, 8, state="offline", by="Ada", reason="new driver"),
         "no agent with 1 free A100-80GB GPU; a, which has 8, is offline"),
        (8, 0, place("a", 8, 6, quarantined=2),
         "no agent with 8 free A100-80GB GPUs; 6 of 8 are free on a, 2 quarantined"),
        (8, 0, place("a", 4, 4), "no agent has 8 A100-80GB GPUs any more"),
        (8, 0, None, "no agent has 8 A100-80GB GPUs any more"),
    ],
)  # fmt: skip
def test_why_a_job_waits(gpus: int, ahead: int, best: Place | None, expected: str) -> None:
    assert why_waiting("A100-80GB", gpus, Standing(ahead=ahead, best=best)) == expected


# Validation


@pytest.mark.parametrize("gpu", GPUType)
def test_every_gpu_of_the_catalogue_is_accepted(gpu: GPUType) -> None:
    assert validation.check(spec(gpu.count)) is gpu


@pytest.mark.parametrize(
    "changes",
    [
        {"argv": ("python", "dir with space/train.py", "--name", "x;y|z", "ü")},
        {"workdir": "sub/dir", "requirements": "sub/requirements.txt"},
        {"workdir": "..hidden/a..b"},
        {"env": {"HF_TOKEN": "x\ny", "_A1": ""}},
        {"priority": -100, "retries": 100, "time_limit_seconds": 0.5},
        {"app_name": "Mein Lauf №1"},
        {"env": {"A": "", "PATH": "/opt/bin", "_": "é\n=", "LD_PRELOAD": "libx.so"}},
        {"secrets": {"HF_TOKEN": "HF_TOKEN", "WANDB_API_KEY": "WANDB_TEAM"}},
    ],
)
def test_good_specs(changes: dict[str, Any]) -> None:
    validation.check(spec(**changes))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"gpu": "A100-80GB:3"}, "a job can have 1, 2, 4, 8 A100-80GB GPUs, not 3"),
        ({"gpu": "H100:1"}, "gpu must be one of"),
        ({"gpu": ""}, "gpu must be one of"),
        ({"gpu": "A100-80GB:-1"}, "gpu must be one of"),
        ({"argv": ()}, "argv must be"),
        ({"argv": ("python",)}, "argv must be"),
        ({"argv": ("bash", "-c", "x")}, "argv must be"),
        ({"argv": ("python", "a\0b")}, "NUL"),
        ({"argv": ("python", "x" * 50_000)}, "KiB"),
        ({"argv": ("python", *["x"] * 5_000)}, "arguments"),
        ({"bundle": "A" * 64}, "sha256"),
        ({"bundle": "../../etc/passwd"}, "sha256"),
        ({"workdir": "/etc"}, "workdir must be a path inside the bundle"),
        ({"workdir": "a/../.."}, "workdir must be a path inside the bundle"),
        ({"workdir": ""}, "workdir must be"),
        ({"workdir": "a\nb"}, "workdir must be"),
        ({"requirements": "../requirements.txt"}, "requirements must be a path inside"),
        ({"requirements": ""}, "requirements must be"),
        ({"env": {"A=B": "1"}}, "'A=B' cannot name a variable"),
        ({"env": {"": "1"}}, "cannot name a variable"),
        ({"env": {"CHISEL_JOB_ID": "1"}}, "CHISEL_JOB_ID is set by Chisel in every job"),
        ({"env": {"CUDA_VISIBLE_DEVICES": "0"}}, "CUDA_VISIBLE_DEVICES is set by Chisel"),
        ({"secrets": {"MASTER_ADDR": "A"}}, "MASTER_ADDR is set by Chisel"),
        ({"secrets": {"PYTHONPATH": "A"}}, "PYTHONPATH is no place for a secret"),
        ({"secrets": {"A": "no-name"}}, "'no-name' cannot name a secret"),
        ({"secrets": {"A": "B"}, "env": {"A": "1"}}, "A is given twice"),
        ({"secrets": {f"A{n}": "B" for n in range(65)}}, "a job can have 64 secrets, not 65"),
        ({"env": {"A": "\0"}}, "NUL"),
        ({"env": {"A": "x" * 40_000}}, "env is larger"),
        ({"app_name": ""}, "app_name"),
        ({"app_name": "a\x1b[31m"}, "app_name"),
        ({"app_name": "x" * 201}, "app_name"),
        ({"priority": 101}, "priority"),
        ({"retries": -1}, "retries"),
        ({"retries": 1, "retry_on": ("sometimes",)}, "not 'sometimes'"),
        ({"retries": 1, "retry_on": ("exit",) * 33}, "32 causes"),
        ({"retry_on": ("exit",)}, "a job with retries"),
        ({"lease_seconds": 60.0}, "a job with retries"),
        ({"retries": 1, "lease_seconds": 29.0}, "from 30 to 86400"),
        ({"retries": 1, "lease_seconds": float("nan")}, "from 30 to 86400"),
        ({"time_limit_seconds": 0.0}, "time_limit_seconds"),
        ({"time_limit_seconds": float("nan")}, "time_limit_seconds"),
        ({"time_limit_seconds": float("inf")}, "time_limit_seconds"),
    ],
)
def test_bad_specs_are_refused_by_name(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadRequest) as raised:
        validation.check(spec(**changes))
    assert sentence in str(raised.value)


@pytest.mark.parametrize("key", ["", "x" * 201, "a\nb"])
def test_bad_keys(key: str) -> None:
    with pytest.raises(BadRequest):
        validation.check_key(key)


@pytest.mark.parametrize(
    "change",
    [{"name": ""}, {"name": "a\x07"}, {"pool": "a.b"}, {"session": "S>"}, {"gpus_total": -1},
     {"gpus_total": 5_000}, {"gpu_model": ""}, {"gpu_model": "x" * 65}],
)  # fmt: skip
def test_bad_agents(change: dict[str, Any]) -> None:
    validation.check_agent(hello_of())
    with pytest.raises(BadRequest):
        validation.check_agent(msgspec.structs.replace(hello_of(), **change))


def test_an_ends_detail_is_bounded_and_keeps_its_last_lines() -> None:
    end = JobEnd(reason=EndReason.DEPS, detail="x" * 10_000 + "the point")
    attempt = {"job_id": "j", "attempt": 1}
    done = AttemptDone(agent_id=AgentId("a"), session=SessionId("s"), end=end, **attempt)  # type: ignore[arg-type]
    detail = validation.bounded(done).end.detail
    assert len(detail) == validation.MAX_DETAIL_CHARS
    assert detail.endswith("the point")


@pytest.mark.parametrize("change", [{"reason": "x" * 201}, {"reason": "a\nb"}, {"deadline_seconds": -1.0},
     {"deadline_seconds": float("inf")}, {"deadline_seconds": float("nan")}])  # fmt: skip
def test_bad_drains(change: dict[str, Any]) -> None:
    good = DrainAgent(agent="a", requested_by="Ada", reason="new driver", deadline_seconds=0.0)
    validation.check_drain(good)
    with pytest.raises(BadRequest):
        validation.check_drain(msgspec.structs.replace(good, **change))


def test_what_an_agent_says_of_its_quarantine_fits_a_line() -> None:
    said = Renew(
        agent_id=AgentId("a"), session=SessionId("s"), attempts=(), gpus_quarantined=1,
        quarantine="job 3k9x\nhangs \x1b[31m" + "x" * 300,
    )  # fmt: skip
    legible = validation.legible(said).quarantine
    assert legible.startswith("job 3k9x hangs  [31mx")
    assert len(legible) == validation.MAX_QUARANTINE_CHARS


# Health


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("rounds", "now", "known"),
    [
        ([], 100, False),
        ([(0, True)], 29, False),
        ([(0, True), (10, True), (20, True), (30, True)], 30, True),
        ([(0, True), (10, False), (20, True), (30, True)], 30, False),
        ([(0, True), (10, False), (20, True), (30, True), (40, True), (50, True)], 50, True),
        ([(0, True), (100, True)], 100, False),  # the process stood still, or the clock jumped
        ([(100, True), (110, True), (50, True), (60, True)], 75, False),  # the clock went back
    ],
    ids=["never", "too short", "whole term", "outage", "term after outage", "pause", "clock back"],
)
def test_silence_is_known_only_to_who_could_hear(
    rounds: list[tuple[float, bool]], now: float, known: bool
) -> None:
    health = Health(longest_pause=timedelta(seconds=15))
    for when, in_touch in rounds:
        health.observe(at(when), in_touch=in_touch)
    assert health.silent_before(at(now), 30) == (at(now - 30) if known else None)
