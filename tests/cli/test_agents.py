"""`chisel admin agents`: what an operator reads, and what the command asks for."""

import json
import os
import signal

import msgspec
import pytest

from chisel.cli import agent_listing
from chisel.cli.agents import until
from chisel.cli.values import UsageError
from chisel_shared.contract.messages import AgentView, Cordon
from tests.cli.conftest import Command
from tests.cli.fleet import agent
from tests.cli.gateway import Gateway

NOW = 1100.0
DRAIN = Cordon(by="ada", since=1000.0, reason="new driver", drain=True, deadline=1160.0)


@pytest.mark.parametrize("width", [0, 80])
def test_a_table_that_fits_80_columns_with_notes_in_full(width: int) -> None:
    found = (
        agent("gpu-01", gpus_free=3, jobs=2, state="draining", cordon=DRAIN, last_seen=1098.0),
        agent("gpu-02.cluster.example.com", state="unreachable", last_seen=100.0),
        agent("gpu-03", gpus_free=7, gpus_quarantined=1, quarantine="job 7fq2 cannot be killed"),
    )
    shown = agent_listing.table(found, now=NOW, width=width).split("\n")
    heading, first, note, second, third, quarantine = shown
    assert heading.split() == ["AGENT", "ID", "STATE", "GPUS", "FREE", "JOBS", "LAST", "SEEN"]
    assert first.split() == [
        "gpu-01",
        "3k9xgpu01",
        "draining",
        "A100-80GB",
        "3",
        "of",
        "8",
        "2",
        "2.0",
        "s",
        "ago",
    ]
    assert note == "  drained by ada 1m40s ago, what still runs in 1m00s is ended then: new driver"
    assert second.startswith("gpu-02.cluster.example.com" if width == 0 else "gpu-02.clust")
    assert "unreachable" in second
    assert "16m40s ago" in second
    assert third.split()[2] == "online"
    assert quarantine == "  1 GPU quarantined: job 7fq2 cannot be killed"
    if width:
        assert max(len(line) for line in (heading, first, second, third)) <= width


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"cordon": Cordon(by="ada", since=1000.0)}, ["cordoned by ada 1m40s ago"]),
        ({"cordon": DRAIN}, ["drained by ada 1m40s ago: new driver"]),
        (
            {"cordon": DRAIN, "jobs": 1},
            ["drained by ada 1m40s ago, what still runs in 1m00s is ended then: new driver"],
        ),
        (
            {"cordon": msgspec.structs.replace(DRAIN, deadline=None), "jobs": 1},
            ["drained by ada 1m40s ago, what runs is waited for: new driver"],
        ),
        (
            {"cordon": msgspec.structs.replace(DRAIN, deadline=1050.0), "jobs": 1},
            ["drained by ada 1m40s ago, what runs is being ended: new driver"],
        ),
        (
            {"cordon": Cordon(by="ada", since=1000.0, reason="a\x1b[31m"), "gpus_quarantined": 2},
            ["cordoned by ada 1m40s ago: a\\x1b[31m", "2 GPUs quarantined"],
        ),
    ],
)
def test_what_stands_below_a_row(changes: dict[str, object], expected: list[str]) -> None:
    assert agent_listing.notes(agent("gpu-01", **changes), now=NOW) == expected


def test_agents_are_listed(gateway: Gateway, chisel: Command) -> None:
    assert chisel("admin", "agents", "ls").stderr == "chisel: no agent has ever joined\n"
    gateway.fleet.agents = [agent("gpu-01", jobs=2)]
    _, row = chisel("admin", "agents", "ls").stdout.decode().splitlines()
    assert row.split()[:3] == ["gpu-01", "3k9xgpu0", "online"]
    told = chisel("admin", "agents", "ls", "--json").stdout
    assert msgspec.json.decode(told, type=list[AgentView]) == gateway.fleet.agents


def test_a_cordon_says_what_it_means_and_how_to_undo_it(gateway: Gateway, chisel: Command) -> None:
    gateway.fleet.agents = [agent("gpu 01", jobs=1)]
    done = chisel("admin", "agents", "cordon", "gpu 01", "--reason", "odd fan")
    assert (done.status, done.stdout) == (0, b"")
    assert done.stderr == (
        "chisel: gpu 01 is given nothing new; 1 job runs on it, and goes on."
        " To undo it: chisel admin agents uncordon 'gpu 01'\n"
    )
    done = chisel("admin", "agents", "uncordon", "gpu 01", "--json")
    assert done.stderr == "chisel: gpu 01 is given jobs again\n"
    assert json.loads(done.stdout)["state"] == "online"
    assert gateway.fleet.wishes == [
        ("gpu 01", "cordon", {"reason": "odd fan"}),
        ("gpu 01", "uncordon", None),
    ]


def test_a_drain_says_how_many_jobs_are_left(gateway: Gateway, chisel: Command) -> None:
    gateway.fleet.agents = [agent("gpu-01", jobs=3)]
    done = chisel("admin", "agents", "drain", "gpu-01", "--deadline", "30m")
    assert (done.status, gateway.fleet.wishes) == (
        0,
        [("gpu-01", "drain", {"reason": "", "deadline_seconds": 1800.0})],
    )
    assert done.stderr.startswith("chisel: gpu-01 drains: 3 jobs run on it; ")
    assert done.stderr.endswith("To see how many are left: chisel admin agents ls\n")
    gateway.fleet.agents = [agent("gpu-01")]
    done = chisel("admin", "agents", "drain", "gpu-01")
    assert done.stderr.startswith("chisel: gpu-01 is drained: nothing runs on it.")
    assert gateway.fleet.wishes[-1][2] == {"reason": "", "deadline_seconds": None}


def test_a_drain_that_is_waited_for_returns_when_the_agent_is_empty(
    gateway: Gateway, chisel: Command
) -> None:
    busy = agent("gpu-01", jobs=2, state="draining", cordon=Cordon(by="ada", since=1000.0, drain=True))
    one = msgspec.structs.replace(busy, jobs=1)
    away = msgspec.structs.replace(one, state="unreachable")
    empty = msgspec.structs.replace(busy, jobs=0, state="drained")
    gateway.fleet.agents = [busy]
    gateway.fleet.next = [busy, one, away, empty]
    done = chisel("admin", "agents", "drain", "gpu-01", "--wait", "--json")
    assert done.status == 0
    assert [line.partition(" on it")[0] for line in done.stderr.splitlines()] == [
        "chisel: gpu-01 drains: 2 jobs run",
        "chisel: gpu-01 drains: 1 job runs",
        "chisel: gpu-01 drains: 1 job runs",
        "chisel: gpu-01 is drained: nothing runs",
    ]
    assert "(it is out of contact)" in done.stderr.splitlines()[2]
    assert json.loads(done.stdout)["state"] == "drained"


@pytest.mark.parametrize(
    ("following", "sentence"),
    [
        (agent("gpu-01", jobs=1), "somebody called the drain of gpu-01 off: chisel admin agents ls"),
        (None, "gpu-01 is no agent of this backend any more"),
    ],
)
def test_a_drain_that_is_called_off_is_not_waited_for(
    gateway: Gateway, chisel: Command, following: AgentView | None, sentence: str
) -> None:
    gateway.fleet.agents = [agent("gpu-01", jobs=1)]
    gateway.fleet.next = [following]
    done = chisel("admin", "agents", "drain", "gpu-01", "--wait")
    assert (done.status, done.stderr.splitlines()[-1]) == (125, f"chisel: {sentence}")


def test_ctrl_c_stops_the_waiting_and_not_the_drain(gateway: Gateway, chisel: Command) -> None:
    gateway.fleet.agents = [agent("gpu-01", jobs=1)]
    with chisel.start("admin", "agents", "drain", "gpu-01", "--wait") as process:
        assert process.stderr is not None
        assert b"1 job runs" in process.stderr.readline()
        os.kill(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, b"chisel: gpu-01 goes on to drain: chisel admin agents ls\n")
    assert len(gateway.fleet.wishes) == 1


def test_what_cannot_be_is_one_sentence(gateway: Gateway, chisel: Command) -> None:
    done = chisel("admin", "agents", "cordon", "a/b")
    assert (done.status, done.stderr) == (125, "chisel: there is no agent 'a/b': chisel admin agents ls\n")
    done = chisel("admin", "agents", "drain", "gpu-01", "--deadline", "soon")
    assert done.status == 2
    assert "'soon' is no deadline" in done.stderr
    gateway.fleet.forbidden = True
    done = chisel("admin", "agents", "uncordon", "gpu-01")
    assert (done.status, done.stderr) == (125, "chisel: this key may not do 'agents:admin'\n")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30m", 1800.0), ("01:00:00", 3600.0), ("1970-01-01T00:30:00+00:00", 700.0)],
)
def test_deadlines(text: str, seconds: float) -> None:
    assert until(text, now=NOW) == seconds


@pytest.mark.parametrize("text", ["soon", "", "1970-01-01T00:00:00+00:00", "0"])
def test_no_deadlines(text: str) -> None:
    with pytest.raises(UsageError, match="deadline"):
        until(text, now=NOW)
