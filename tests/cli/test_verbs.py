"""What can be asked about jobs and done with them, by the real command."""

import json
import os
import signal
import time
from collections.abc import Callable

import msgspec
import pytest

from chisel.cli import listing
from chisel.cli.cancel import signal_name
from chisel.cli.logs import Stamper, has_ranks, moment
from chisel.cli.values import UsageError
from chisel.following import Output
from chisel_shared.contract.ids import JobId
from chisel_shared.contract.job import EndReason, JobEnd, JobState, JobView
from chisel_shared.contract.messages import GpuKind, Neighbour, Why
from tests.cli.conftest import Command
from tests.cli.gateway import JOB_ID, Gateway
from tests.cli.terminal import CTRL_C, on_terminal
from tests.support.reference_json import SHAPES, commands_with_json

RUNNING = JobView(
    id=JobId("3k9xab12cd"), app_name="train", state=JobState.RUNNING, version=4, gpu="A100-80GB:4",
    argv=("python", "train.py", "--name", "a b\x1b[31m"), attempt=1, submitted_at=1000.0, since=1010.0,
    agent_id=None, agent_name="gpu-01", started_at=1010.0, user="Ada",
)  # fmt: skip


def view(**changes: object) -> JobView:
    return msgspec.structs.replace(RUNNING, **changes)


def until(fact: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not fact():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_jobs_status(gateway: Gateway, chisel: Command) -> None:
    chisel("python", "hello.py", "-a", "train", "x y")
    shown = chisel("status", "@last")
    lines = dict(line.split(maxsplit=1) for line in shown.stdout.decode().splitlines())
    assert (shown.status, shown.stderr) == (0, "")
    assert lines["job"] == JOB_ID
    assert (lines["state"], lines["where"], lines["gpus"]) == (
        "succeeded (exit:0)",
        "gpu-01",
        "1 x A100-80GB",
    )
    assert lines["command"] == "python hello.py 'x y'"
    assert lines["end"].startswith("exit 0")
    assert lines["next"].startswith(f"chisel logs {JOB_ID[:8]}")
    told = msgspec.json.decode(chisel("status", JOB_ID[:3], "--json").stdout, type=JobView)
    assert told == gateway.view


def test_a_list_is_ps(gateway: Gateway, chisel: Command) -> None:
    chisel("python", "hello.py")
    assert chisel("list", "--json").stdout == chisel("ps", "--json").stdout != b""


def test_a_watch_prints_a_line_per_change_into_a_pipe(gateway: Gateway, chisel: Command) -> None:
    gateway.view = view()
    with chisel.start("ps", "--watch") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"3k9xab12cd  train  running on gpu-01\n"
        gateway.change()  # a new version with nothing to tell
        gateway.change(cancel_requested=True)
        assert process.stdout.readline() == b"3k9xab12cd  train  running, cancelling on gpu-01\n"
        gateway.change(state=JobState.CANCELLED, end=JobEnd(reason=EndReason.USER), ended_at=1020.0)
        assert process.stdout.readline() == b"3k9xab12cd  train  cancelled (user)\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stdout.read() == b""


def test_a_watch_in_json_is_a_document_per_line(gateway: Gateway, chisel: Command) -> None:
    gateway.view = view()
    with chisel.start("ps", "-w", "--json") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["state"] == "running"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143


def test_a_watch_on_a_terminal_draws_the_table_in_place(gateway: Gateway, chisel: Command) -> None:
    gateway.view = view(app_name="n" * 100)
    with on_terminal(chisel, "ps", "--watch") as terminal:
        terminal.wait_for(b"3k9xab12  nn")
        gateway.change(cancel_requested=True)
        terminal.wait_for(b"\x1b[2F\x1b[J", times=2)  # back over heading and row
        terminal.wait_for(b"running, cancell")
        terminal.type(CTRL_C)
        assert terminal.finish() == 130
    drawn = terminal.shown.decode().replace("\r", "").split("\n")
    assert max(len(line.removeprefix("\x1b[2F\x1b[J")) for line in drawn) <= 80


def test_wait_is_quiet_and_exits_as_the_job_did(gateway: Gateway, chisel: Command) -> None:
    gateway.script.pieces = [("stdout", b"nobody asked\n")]
    gateway.script.end = JobEnd(reason=EndReason.EXIT, exit_code=3)
    chisel("python", "hello.py")
    done = chisel("wait", JOB_ID[:4])
    assert (done.status, done.stdout, done.stderr) == (3, b"", "")
    done = chisel("wait", "zzz", JOB_ID, "--json")
    assert (done.status, "there is no such job" in done.stderr) == (125, True)
    assert [job["end"]["exit_code"] for job in json.loads(done.stdout)] == [3]


def test_a_wait_that_is_interrupted_leaves_the_job_alone(gateway: Gateway, chisel: Command) -> None:
    gateway.view = view()
    gateway.script.end = None
    with chisel.start("wait", "@last") as process:
        until(lambda: gateway.follows)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    assert gateway.cancels == 0


def test_a_cancel_carries_how_and_why(gateway: Gateway, chisel: Command) -> None:
    gateway.view = view()
    done = chisel("cancel", "@last")
    assert (done.status, done.stderr) == (0, "chisel: job 3k9xab12cd is being cancelled\n")
    done = chisel("stop", "3k9", "--signal", "sigusr1", "--grace", "1m30s", "--reason", "too slow", "--json")
    assert [job["id"] for job in json.loads(done.stdout)] == ["3k9xab12cd"]
    assert gateway.wishes == [{}, {"signal": "USR1", "grace_seconds": 90.0, "reason": "too slow"}]
    for words, says in (
        (("--signal", "STOP"), "a job can be sent HUP, INT, QUIT, KILL, USR1, USR2, TERM, not STOP"),
        (("--grace", "soon"), "'soon' is not a duration"),
    ):
        done = chisel("cancel", "3k9", *words)
        assert (done.status, says in done.stderr) == (2, True)
    assert len(gateway.wishes) == 2


def test_a_rerun_is_watched_like_the_first_run(gateway: Gateway, chisel: Command) -> None:
    gateway.script.pieces = [("stdout", b"hello\n")]
    chisel("python", "hello.py")
    gateway.script.end = JobEnd(reason=EndReason.EXIT, exit_code=4)
    done = chisel("rerun", "@last")
    assert (done.status, done.stdout) == (4, b"hello\n")
    assert f"job {JOB_ID} runs @last again" in done.stderr
    done = chisel("rerun", "last", "--detach")
    assert (done.status, done.stdout) == (0, f"{JOB_ID}\n".encode())
    done = chisel("rerun", JOB_ID, "--detach", "--json")
    assert json.loads(done.stdout)["id"] == JOB_ID


def test_why_says_what_the_scheduler_says(gateway: Gateway, chisel: Command) -> None:
    gateway.view = view(state=JobState.QUEUED, agent_name="", started_at=None, since=time.time() - 100)
    waiting = "2 jobs ahead; no agent with 4 free A100-80GB GPUs"
    ours = Neighbour(id="7fq2aaaaaa", app_name="big", user="Bob", gpu="A100-80GB:8", since=time.time() - 50)
    theirs = Neighbour(id="", app_name="", user="Eve", gpu="A100-80GB:1", since=time.time() - 20)
    holds = msgspec.structs.replace(ours, where="gpu-01", ends_by=time.time() + 3600)
    gateway.why = Why(job=gateway.view, position=3, waiting=waiting, ahead=(ours, theirs), holding=(holds,))
    done = chisel("why", "@last")
    text = done.stdout.decode()
    first, second, *rest = text.splitlines()
    assert first.startswith("job 3k9xab12cd has waited for 1m")
    assert first.endswith("number 3 in the queue")
    assert second == f"it waits: {waiting}"
    rows = [line.split() for line in rest]
    assert ["7fq2aaaa", "big", "Bob", "8", "x", "A100-80GB"] in [row[:6] for row in rows]
    assert ["-", "-", "Eve", "1", "x", "A100-80GB"] in [row[:6] for row in rows]
    assert any("in 59m" in line or "in 1h00m" in line for line in rest)
    told = json.loads(chisel("why", "3k9", "--json").stdout)
    assert (told["position"], told["waiting"], len(told["ahead"])) == (3, waiting, 2)


def test_gpus_by_kind(gateway: Gateway, chisel: Command) -> None:
    assert chisel("gpus").stderr == "chisel: no machine with GPUs has ever joined\n"
    kind = GpuKind(model="A100-80GB", total=12, free=5, largest_free=4, largest=8, agents=2, away=2, queued=1)
    gateway.gpus = (kind,)
    _, row = chisel("gpus").stdout.decode().splitlines()
    assert row.split() == ["A100-80GB", "12", "(+2", "away)", "5", "4", "2", "1"]
    assert json.loads(chisel("gpus", "--json").stdout)[0]["largest_free"] == 4
    gateway.gpus = (msgspec.structs.replace(kind, quarantined=1),)
    assert "12 (+2 away, 1 quarantined)" in chisel("gpus").stdout.decode()


def test_logs_from_where_they_are_wanted(gateway: Gateway, chisel: Command) -> None:
    gateway.script.pieces = [("stdout", b"one\ntwo\nthree\n"), ("stderr", b"oops\n")]
    gateway.script.begins = {"stdout": 8, "stderr": 0}
    gateway.script.time = 1_900_000_000.25
    chisel("python", "hello.py")
    done = chisel("logs", JOB_ID, "--tail", "2")
    assert (done.stdout, "oops\n" in done.stderr) == (b"three\n", True)
    assert gateway.follows[-1].tail == 2
    done = chisel("logs", JOB_ID, "--since", "10m", "--timestamps", "--stderr")
    follow = gateway.follows[-1]
    assert (follow.streams, follow.timestamps) == (("stderr",), True)
    assert follow.since is not None
    assert -610 < follow.since <= -600
    assert done.stdout == b"2030-03-17T17:46:40.250Z three\n"
    assert "2030-03-17T17:46:40.250Z oops\n" in done.stderr
    assert chisel("logs", JOB_ID, "--since", "yesterday").status == 2


def test_logs_for_programs_are_a_document_per_line(gateway: Gateway, chisel: Command) -> None:
    chisel("python", "hello.py")
    gateway.script.pieces = [
        ("stdout", b"one\r\nt"), ("stderr", b"\xffoops\n"), ("stdout", b"wo\n\nthe rest"),
    ]  # fmt: skip
    gateway.script.time = 1_900_000_000.25
    done = chisel("logs", JOB_ID, "--json")
    told = [msgspec.json.decode(line) for line in done.stdout.splitlines()]
    at = 1_900_000_000.25
    assert told == [
        {"time": at, "stream": "stdout", "text": "one\r"},
        {"time": at, "stream": "stderr", "text": "\\xffoops"},
        {"time": at, "stream": "stdout", "text": "two"},
        {"time": at, "stream": "stdout", "text": ""},
        {"time": None, "stream": "stdout", "text": "the rest"},
    ]
    assert (done.status, "oops" in done.stderr) == (0, False)
    assert gateway.follows[-1].timestamps


def test_a_cut_connection_does_not_begin_again(gateway: Gateway, chisel: Command) -> None:
    data = b"".join(b"line %d\n" % n for n in range(50_000))
    gateway.script.pieces = [("stdout", data)]
    chisel("python", "hello.py")
    gateway.script.begins = {"stdout": 100, "stderr": 0}
    gateway.script.cut_after = [0, 100_000]
    assert chisel("logs", JOB_ID, "--tail", "1000").stdout == data[100:]
    assert [(follow.tail, follow.position.stdout) for follow in gateway.follows[-3:]] == [
        (1000, 0),
        (None, 100),
        (None, 100_100),
    ]


def test_ranks_that_share_one_output_are_not_told_apart(gateway: Gateway, chisel: Command) -> None:
    gateway.script.pieces = [("stdout", b"all\n")]
    chisel("python", "hello.py")
    assert chisel("logs", JOB_ID, "--rank", "0").stdout == b"all\n"
    done = chisel("logs", JOB_ID, "--rank", "1")
    assert (done.status, done.stdout) == (125, b"")
    assert "has one process, which is rank 0" in done.stderr
    gateway.change(argv=("python", "-m", "torch.distributed.run", "--nproc-per-node", "2", "train.py"))
    done = chisel("logs", JOB_ID, "--rank", "0")
    assert (done.status, "--tee 3" in done.stderr) == (125, True)


def test_attach_begins_now_and_ends_with_the_job(gateway: Gateway, chisel: Command) -> None:
    gateway.script.pieces = [("stdout", b"old\nnew\n")]
    gateway.script.begins = {"stdout": 4, "stderr": 0}
    gateway.script.end = JobEnd(reason=EndReason.EXIT, exit_code=5)
    chisel("python", "hello.py")
    done = chisel("attach", JOB_ID)
    assert (done.status, done.stdout) == (5, b"new\n")
    assert (gateway.follows[-1].tail, gateway.follows[-1].live) == (0, True)


def test_a_signal_cancels_what_is_attached(gateway: Gateway, chisel: Command) -> None:
    gateway.view = view()
    gateway.script.end = None
    with chisel.start("attach", "@last") as process:
        assert process.stderr is not None
        assert b"job 3k9xab12cd" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert b"cancelling job 3k9xab12cd" in process.stderr.read()
    assert gateway.cancels == 1


def test_a_reader_that_goes_away_is_no_error(gateway: Gateway, chisel: Command) -> None:
    gateway.view = view()
    reading, writing = os.pipe()
    os.close(reading)
    with chisel.start("ps", stdout=writing) as process:
        os.close(writing)
        assert process.wait(20) == 141
        assert process.stderr is not None
        assert process.stderr.read() == b""


@pytest.mark.parametrize(
    ("text", "name"), [("INT", "INT"), ("sigterm", "TERM"), ("9", "KILL"), ("USR2", "USR2"), ("hup", "HUP")]
)
def test_signals_have_several_names(text: str, name: str) -> None:
    assert signal_name(text) == name


@pytest.mark.parametrize("text", ["", "STOP", "SIGSIGINT", "99", "int "])
def test_other_signals_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        signal_name(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10m", -600.0),
        ("1h30m", -5400.0),
        ("01:30:00", -5400.0),
        ("90", -90.0),
        ("2030-01-31T12:00:00+00:00", 1896091200.0),
        ("2030-01-31T12:00Z", 1896091200.0),
        ("1960-01-01T00:00:00Z", 0.0),
    ],
)
def test_moments(text: str, seconds: float) -> None:
    assert moment(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "10 m", "12:00", "2030-13-01", "-5m"])
def test_moments_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="is no time"):
        moment(text)


def test_stamps_stand_before_lines_only() -> None:
    stamp = Stamper()
    at = "2030-03-17T17:46:40.000Z "
    assert stamp(Output("stdout", b"a\nb", 1.9e9)).decode() == f"{at}a\n{at}b"
    assert stamp(Output("stderr", b"x\n", 1.9e9)).decode() == f"{at}x\n"
    assert stamp(Output("stdout", b"c\r50%\r\n\n", 1.9e9)).decode() == f"c\r50%\r\n{at}\n"
    assert stamp(Output("stdout", b"old\n")) == b"-".ljust(25) + b"old\n"


@pytest.mark.parametrize(
    ("argv", "ranks"),
    [
        (("python", "train.py", "-m", "x"), False),
        (("python", "-m", "torch.distributed.run", "train.py"), True),
        (("python", "-m", "accelerate.commands.launch"), True),
        (("python", "-m"), False),
    ],
)
def test_launchers_are_known(argv: tuple[str, ...], ranks: bool) -> None:
    assert has_ranks(argv) is ranks


def test_ids_are_short_as_long_as_they_differ() -> None:
    ids = ("aaaaaaaa11", "aaaaaaaa12", "bbbbbbbbbb", "")
    assert listing.short_ids(ids) == {
        "aaaaaaaa11": "aaaaaaaa11",
        "aaaaaaaa12": "aaaaaaaa12",
        "bbbbbbbbbb": "bbbbbbbb",
        "": "",
    }


def test_a_table_fits_the_terminal() -> None:
    jobs = [view(app_name="n" * 60), view(state=JobState.QUEUED, waiting="w" * 100, started_at=None)]
    for width in (32, 40, 60, 80, 120):
        lines = listing.jobs(jobs, now=1100.0, width=width).splitlines()
        assert max(map(len, lines)) <= width
        assert all(line.startswith(("JOB ", "3k9xab12 ")) for line in lines)
    assert "w" * 100 in listing.jobs(jobs, now=1100.0, width=0)


def test_a_status_harms_no_terminal_and_tells_who_cancelled() -> None:
    text = listing.status(
        view(cancel_requested=True, cancelled_by="Eve", cancel_reason="why not"), now=1200.0
    )
    assert "\x1b" not in text
    assert r"\x1b[31m" in text
    assert "running, cancelling on gpu-01 for 3m10s" in text
    assert "by Eve: why not" in text
    waits = view(state=JobState.QUEUED, agent_name="", waiting="1 job ahead", started_at=None)
    assert "queued for 3m10s: 1 job ahead\n" in listing.status(waits, now=1200.0)
    ended = view(
        state=JobState.CANCELLED, end=JobEnd(reason=EndReason.USER), ended_at=1100.0, cancelled_by="Eve",
        cancel_reason="why not",
    )  # fmt: skip
    assert "was cancelled by Eve: why not · ran 1m30s" in listing.status(ended, now=1200.0)


def test_what_programs_read_is_documented() -> None:
    assert commands_with_json() == set(SHAPES)
