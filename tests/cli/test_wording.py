"""Facts as words."""

import pytest

from chisel.cli import wording
from chisel_shared.contract.ids import AgentId, JobId
from chisel_shared.contract.job import EndReason, JobEnd, JobState, JobView


def job(state: JobState = JobState.RUNNING, **facts: object) -> JobView:
    known: dict[str, object] = {
        "id": JobId("abc"),
        "app_name": "train",
        "state": state,
        "version": 1,
        "gpu": "A100-80GB:4",
        "argv": ("python", "x.py"),
        "attempt": 1,
        "submitted_at": 100.0,
        **facts,
    }
    return JobView(**known)  # type: ignore[arg-type]


@pytest.mark.parametrize("reason", list(EndReason))
def test_every_cause_is_a_sentence_and_a_next_step(reason: EndReason) -> None:
    end = JobEnd(reason=reason, exit_code=1, signal=9, detail="last line\n")
    view = job(JobState.FAILED, end=end, started_at=110.0, ended_at=113.25, user="ada", cancelled_by="bob")
    first, detail, step = wording.ending(view).splitlines()
    assert first.endswith(" · ran 3.2 s")
    assert len(first) > len("exit 1 · ran 3.2 s") or reason is EndReason.EXIT
    assert detail == "  last line"
    assert step == "  " + wording.NEXT_STEPS[reason].format(job="abc")
    assert "{" not in step


@pytest.mark.parametrize(
    ("end", "facts", "said"),
    [
        (JobEnd(reason=EndReason.EXIT, exit_code=0), {}, "exit 0"),
        (JobEnd(reason=EndReason.EXIT, exit_code=3), {}, "exit 3"),
        (
            JobEnd(reason=EndReason.EXIT, exit_code=0, detail="the kernel killed one of its processes"),
            {},
            "exit 0\n  the kernel killed one of its processes",
        ),
        (JobEnd(reason=EndReason.USER), {"user": "ada"}, "job abc was cancelled"),
        (
            JobEnd(reason=EndReason.USER),
            {"user": "ada", "cancelled_by": "ada"},
            "job abc was cancelled by ada",
        ),
        (
            JobEnd(reason=EndReason.USER),
            {"user": "ada", "cancelled_by": "bob", "cancel_reason": "maintenance"},
            "job abc was cancelled by bob: maintenance\n  run it again: chisel rerun abc",
        ),
    ],
)
def test_what_speaks_for_itself_is_one_line(end: JobEnd, facts: dict[str, object], said: str) -> None:
    assert wording.ending(job(JobState.FAILED, end=end, **facts)) == said


@pytest.mark.parametrize(
    ("facts", "first"),
    [
        (
            {"cancelled_by": "ada", "cancel_reason": "new driver", "agent_name": "gpu-01"},
            "job abc cancelled: ada drained gpu-01: new driver",
        ),
        ({"cancelled_by": "ada", "agent_name": "gpu-01"}, "job abc cancelled: ada drained gpu-01"),
        ({}, "job abc cancelled: its agent was drained"),
    ],
)
def test_a_job_that_a_drain_ended_says_who_and_why_and_what_to_do(
    facts: dict[str, object], first: str
) -> None:
    end = JobEnd(reason=EndReason.DRAIN)
    assert wording.ending(job(JobState.CANCELLED, end=end, **facts)).splitlines() == [
        first,
        "  your script did nothing wrong; run it again: chisel rerun abc",
    ]


@pytest.mark.parametrize(
    ("count", "said"),
    [(1, "exit 0 · 1 trace: chisel trace ls abc"), (3, "exit 0 · 3 traces: chisel trace ls abc")],
)
def test_traces_are_pointed_to(count: int, said: str) -> None:
    end = JobEnd(reason=EndReason.EXIT, exit_code=0, traces=count)
    assert wording.ending(job(JobState.SUCCEEDED, end=end)) == said


@pytest.mark.parametrize(
    ("view", "said"),
    [
        (job(JobState.QUEUED), None),
        (job(JobState.QUEUED, waiting="2 ahead"), "queued: 2 ahead"),
        (job(JobState.PREPARING, agent_name="gpu-1"), None),
        (job(agent_name="gpu-1"), "running on gpu-1 (4 x A100-80GB)"),
        (job(agent_id=AgentId("a1"), attempt=2), "running on a1 (4 x A100-80GB, attempt 2)"),
        (job(agent_name="gpu-1", cancel_requested=True), "cancelling on gpu-1"),
        (
            job(agent_name="gpu-1", unreachable=True),
            "gpu-1 has not been heard of for a while; the job may still be running there",
        ),
    ],
)
def test_progress(view: JobView, said: str | None) -> None:
    assert wording.progress(view) == said


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_500_000, "2.5 MB"), (3e9, "3.0 GB")]
)
def test_sizes(count: int, said: str) -> None:
    assert wording.size(count) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.04, "0.0 s"), (59.9, "59.9 s"), (60, "1m00s"), (3599, "59m59s"), (7325, "2h02m")]
)
def test_durations(seconds: float, said: str) -> None:
    assert wording.duration(seconds) == said


def test_a_gpu_type_of_tomorrow_stays_as_it_is() -> None:
    assert wording.gpus("H900:16") == "H900:16"
    assert wording.gpus("A100-80GB:1") == "1 x A100-80GB"


def test_ages() -> None:
    assert wording.age(job(), 102.5) == "2.5 s"
    assert wording.age(job(started_at=110.0), 111.0) == "1.0 s"
    assert wording.age(job(started_at=110.0, ended_at=112.0), 500.0) == "2.0 s"
