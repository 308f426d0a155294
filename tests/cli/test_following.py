"""Submitting and watching a job through everything that happens to connections."""

import os
import random
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from chisel import following as module
from chisel.address import Unreachable
from chisel.bundle import Bundle, pack
from chisel.client import Client
from chisel.following import (
    Attempt,
    Back,
    Capped,
    Changed,
    Event,
    Following,
    Lost,
    Output,
    Submission,
    Uploading,
)
from chisel_shared.contract import frames
from chisel_shared.contract.errors import (
    BadRequest,
    Conflict,
    InternalError,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from chisel_shared.contract.frames import Position
from chisel_shared.contract.job import EndReason, JobEnd, JobSpec, JobState
from tests.cli.gateway import JOB_ID, KEY, Gateway, running
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE_SECONDS", 0.005)
    monkeypatch.setattr(module, "_LONGEST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(module, "_BACK_SECONDS", 0.2)


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Bundle]:
    root = tmp_path / "project"
    root.mkdir()
    (root / "x.py").write_text("print('x')")
    with pack(str(root), cache_folder=str(tmp_path / "cache")) as packed:
        yield packed


@pytest.fixture
def client(gateway: Gateway) -> Client:
    return Client(url=gateway.url, api_key=KEY)


def spec(bundle: Bundle) -> JobSpec:
    return JobSpec(app_name="x", argv=("python", "x.py"), gpu="A100-80GB:1", bundle=bundle.digest)


def given(gateway: Gateway, bundle: Bundle) -> None:
    """The gateway has the bundle already."""
    gateway.bundles[bundle.digest] = bundle.manifest
    for digest in bundle.packs:
        content = bundle.content(digest)
        assert content is not None
        gateway.packs[digest] = content


def gather(following: Following) -> tuple[list[Event], dict[str, bytes]]:
    """All events, and the output as it would be written."""
    events = list(following)
    written = {"stdout": b"", "stderr": b""}
    for event in events:
        if isinstance(event, Output):
            written[event.stream] += event.data
        elif isinstance(event, Attempt):
            written = {"stdout": b"", "stderr": b""}
    return events, written


def kinds(events: list[Event], *wanted: type) -> list[type]:
    return [type(event) for event in events if isinstance(event, wanted)]


def test_a_job_from_submission_to_end(gateway: Gateway, client: Client, bundle: Bundle) -> None:
    gateway.script.pieces = [("stdout", b"one\n"), ("stderr", b"two\n"), ("stdout", b"\xff\x00three")]
    following = client.run(spec(bundle), bundle)
    events, written = gather(following)
    assert written == {"stdout": b"one\n\xff\x00three", "stderr": b"two\n"}
    assert gateway.unpacked(bundle.digest) == {"x.py": b"print('x')"}
    assert [submit.idempotency_key for submit in gateway.submissions] == [
        gateway.submissions[0].idempotency_key
    ] * 2
    assert isinstance(events[0], Uploading)
    states = [event.job.state for event in events if isinstance(event, Changed)]
    assert states == [JobState.QUEUED, JobState.RUNNING]
    assert following.job is not None
    assert following.job.end == JobEnd(reason=EndReason.EXIT, exit_code=0)
    assert gateway.connections == 1


def test_a_known_bundle_is_not_sent_again(gateway: Gateway, client: Client, bundle: Bundle) -> None:
    given(gateway, bundle)
    gather(client.run(spec(bundle), bundle))
    assert not [request for request in gateway.requests if request.startswith("PUT")]


async def test_a_connection_that_grew_old_while_packing_is_made_anew(
    gateway: Gateway, client: Client, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(gateway, bundle)
    monkeypatch.setattr(module, "_STALE_SECONDS", -1.0)
    following = client.connect()
    await until(lambda: gateway.connections == 1)
    following.submit(Submission(spec(bundle), bundle, "key"))
    events = list(following)
    assert kinds(events, Lost, Back) == []
    assert following.job is not None
    assert following.job.end is not None
    assert gateway.connections == 2


@pytest.mark.parametrize("seed", range(5))
def test_connections_cut_anywhere_lose_and_double_nothing(
    gateway: Gateway, client: Client, bundle: Bundle, seed: int
) -> None:
    chance = random.Random(seed)
    pieces = [
        (chance.choice(("stdout", "stderr")), chance.randbytes(chance.randrange(1, 50_000)))
        for _ in range(40)
    ]
    gateway.script.pieces = pieces
    gateway.script.chunk = chance.choice((100, 4096, 1 << 18))
    gateway.script.cut_after = [chance.randrange(0, 200_000) for _ in range(8)]
    events, written = gather(client.run(spec(bundle), bundle))
    for stream in ("stdout", "stderr"):
        assert written[stream] == b"".join(data for name, data in pieces if name == stream)
    assert kinds(events, Lost, Back)[:2] == [Lost, Back]
    assert len(kinds(events, Lost)) == len(kinds(events, Back)) <= 8
    assert len(gateway.jobs_by_key) == 1


def test_that_only_the_end_is_still_to_come_is_said_once_whatever_is_cut(
    gateway: Gateway, client: Client, bundle: Bundle
) -> None:
    head, end = b"h" * 1_000, b"e" * 1_000
    gateway.script.pieces = [("stdout", head), ("stdout", b""), ("stderr", b"err"), ("stdout", end)]
    gateway.script.cut_after = [500, 700, 300]
    events, written = gather(client.run(spec(bundle), bundle))
    assert written == {"stdout": head + end, "stderr": b"err"}
    assert [event for event in events if isinstance(event, Capped)] == [Capped("stdout", 1_000)]
    assert len(kinds(events, Lost)) == 3


def test_a_hole_in_the_output_is_asked_for_again(gateway: Gateway, client: Client, bundle: Bundle) -> None:
    gateway.script.pieces = [("stdout", b"a" * 10), ("stdout", b"b" * 10), ("stdout", b"c" * 10)]
    gateway.script.chunk = 10
    gateway.script.skip = [1]
    events, written = gather(client.run(spec(bundle), bundle))
    assert written["stdout"] == b"a" * 10 + b"b" * 10 + b"c" * 10
    assert "left out 10 bytes of stdout" in str(next(e.error for e in events if isinstance(e, Lost)))


def test_large_messages_pass_in_parts(gateway: Gateway, client: Client, bundle: Bundle) -> None:
    data = os.urandom(3 << 20)
    gateway.script.pieces = [("stdout", data)]
    gateway.script.chunk = 2 << 20
    events, written = gather(client.run(spec(bundle), bundle))
    assert written["stdout"] == data
    assert max(len(event.data) for event in events if isinstance(event, Output)) < 1 << 20


def test_another_attempt_begins_anew(gateway: Gateway, client: Client, bundle: Bundle) -> None:
    gateway.script.pieces = [("stdout", b"first")]
    gather(client.run(spec(bundle), bundle))
    gateway.script.attempt = 2
    gateway.script.pieces = [("stdout", b"again")]
    events, written = gather(client.follow(JOB_ID, position=Position(attempt=1, stdout=3)))
    assert Attempt(2) in events
    assert written["stdout"] == b"again"


def test_a_position_continues_there(gateway: Gateway, client: Client, bundle: Bundle) -> None:
    gateway.script.pieces = [("stdout", b"0123456789")]
    gather(client.run(spec(bundle), bundle))
    _, written = gather(client.follow(JOB_ID, position=Position(attempt=1, stdout=4)))
    assert written["stdout"] == b"456789"


def test_a_lost_answer_to_a_submission_makes_no_second_job(
    gateway: Gateway, client: Client, bundle: Bundle
) -> None:
    gateway.script.forget_accepted = 2
    gateway.script.pieces = [("stdout", b"once")]
    _, written = gather(client.run(spec(bundle), bundle, idempotency_key="k"))
    assert written["stdout"] == b"once"
    assert [submit.idempotency_key for submit in gateway.submissions] == ["k"] * 4
    assert list(gateway.jobs_by_key) == ["k"]


def test_a_part_that_restarts_is_waited_for(gateway: Gateway, client: Client, bundle: Bundle) -> None:
    gateway.script.failures = [frames.Failure("unavailable", "the scheduler restarts")] * 2
    gateway.script.refuse = [503]
    events, _ = gather(client.run(spec(bundle), bundle))
    assert kinds(events, Lost)[:1] == [Lost]


def test_a_backend_that_stays_away_ends_a_submission(
    gateway: Gateway, client: Client, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SUBMIT_SECONDS", 0.1)
    gateway.script.refuse = [503] * 1000
    with pytest.raises(Unavailable):
        gather(client.run(spec(bundle), bundle))


def test_nobody_at_the_address_is_said_at_once(bundle: Bundle) -> None:
    with pytest.raises(Unreachable, match=r"the connection was refused.*chisel up"):
        Client(url="http://127.0.0.1:1", api_key=KEY).run(spec(bundle), bundle)


@pytest.mark.parametrize(
    ("code", "kind"),
    [("conflict", Conflict), ("bad_request", BadRequest), ("from_the_future", InternalError)],
)
def test_a_refusal_ends_it(
    gateway: Gateway, client: Client, bundle: Bundle, code: str, kind: type[Exception]
) -> None:
    gateway.script.failures = [frames.Failure(code, "because")]
    with pytest.raises(kind, match="because"):
        gather(client.run(spec(bundle), bundle))


def test_a_wrong_key_ends_it(gateway: Gateway, bundle: Bundle) -> None:
    with pytest.raises(Unauthenticated, match="nobody knows this key"):
        gather(Client(url=gateway.url, api_key="wrong").run(spec(bundle), bundle))


def test_an_unknown_job_ends_it(client: Client) -> None:
    with pytest.raises(NotFound):
        gather(client.follow("zzz"))


def test_a_question_that_no_gateway_reads_is_not_asked_again_and_again(client: Client) -> None:
    with pytest.raises(TooLarge, match="a question may take 64"):
        gather(client.follow("z" * frames.MAX_TEXT_BYTES))


def test_a_bundle_that_is_never_kept_ends_it(gateway: Gateway, client: Client, bundle: Bundle) -> None:
    gateway.script.forgets_bundles = True
    with pytest.raises(InternalError, match="again and again"):
        gather(client.run(spec(bundle), bundle))


def test_a_job_is_cancelled_over_the_connection_that_watches_it(
    gateway: Gateway, client: Client, bundle: Bundle
) -> None:
    gateway.script.pieces = [("stdout", b"running\n")]
    gateway.script.end = None
    following = client.run(spec(bundle), bundle)
    for event in following:
        if isinstance(event, Output):
            following.cancel()
    assert gateway.cancels == 1
    assert following.job is not None
    assert following.job.state is JobState.CANCELLED


def test_a_wish_to_cancel_outlives_the_connection(gateway: Gateway, client: Client, bundle: Bundle) -> None:
    gateway.script.end = None
    gateway.script.pieces = [("stdout", b"running\n")]
    gateway.script.cut_after = [3]
    following = client.run(spec(bundle), bundle)
    for event in following:
        if isinstance(event, Lost):
            following.cancel()
    assert gateway.cancels == 1
    assert following.job is not None
    assert following.job.state is JobState.CANCELLED


def test_a_job_is_followed_through_a_gateway_that_is_killed_and_replaced(bundle: Bundle) -> None:
    with running() as first:
        first.script.pieces = [("stdout", b"0123456789")]
        first.script.end = None
        port = int(first.url.rpartition(":")[2])
        following = Client(url=first.url, api_key=KEY).run(spec(bundle), bundle)
        events = iter(following)
        written = b""
        while written != b"0123456789":
            event = next(events)
            written += event.data if isinstance(event, Output) else b""
        view = first.view
    lost = next(event for event in events if isinstance(event, Lost))
    assert "closed" in str(lost.error) or "reset" in str(lost.error)
    next(events)  # a pause with nobody at the address
    with running(port) as second:
        second.view = view
        second.script.pieces = [("stdout", b"0123456789abc")]
        written += b"".join(event.data for event in events if isinstance(event, Output))
    assert written == b"0123456789abc"


def test_waking_interrupts_the_wait(gateway: Gateway, bundle: Bundle) -> None:
    gateway.script.end = None
    ours, theirs = socket.socketpair()
    with ours, theirs:
        client = Client(url=gateway.url, api_key=KEY)
        following = client.connect(wake=ours)
        following.submit(module.Submission(spec(bundle), bundle, "k"))
        for event in following:
            if isinstance(event, Changed) and event.job.state is JobState.RUNNING and not gateway.cancels:
                theirs.send(b"!")
            elif isinstance(event, module.Woken):
                assert ours.recv(1) == b"!"
                following.cancel()
    assert gateway.cancels == 1


def test_many_open_descriptors_are_no_obstacle(gateway: Gateway, client: Client, bundle: Bundle) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(2000, hard) if hard > 0 else 2000
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    held: list[int] = []
    try:
        while not held or held[-1] < 1100:
            held.append(os.open(os.devnull, os.O_RDONLY))
        gateway.script.pieces = [("stdout", b"fine")]
        assert gather(client.run(spec(bundle), bundle))[1]["stdout"] == b"fine"
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_silent_gateway_is_given_up(
    gateway: Gateway, client: Client, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chisel.connection.QUIET_SECONDS", 0.05)
    monkeypatch.setattr("chisel.connection.DEAD_SECONDS", 0.1)
    given(gateway, bundle)
    gateway.script.silent = True
    events = iter(client.run(spec(bundle), bundle))
    event = next(events)
    while not isinstance(event, Lost):
        event = next(events)
    assert "does not answer any more" in str(event.error)
    gateway.script.silent = False
    assert Back() in list(events)


def test_following_stops_cleanly_in_the_middle(gateway: Gateway, client: Client, bundle: Bundle) -> None:
    gateway.script.end = None
    following = client.run(spec(bundle), bundle)
    next(iter(following))
    following.close()
    following.close()
    assert gateway.cancels == 0


def test_what_a_backend_forgot_is_sent_again_as_it_was_or_packed_anew(
    gateway: Gateway, tmp_path: Path
) -> None:
    root, cache = tmp_path / "project", str(tmp_path / "cache")
    root.mkdir()
    for name in ("x.py", "y.py"):
        (root / name).write_text(f"print('{name}')")

    def run() -> Bundle:
        with pack(str(root), cache_folder=cache) as packed:
            gather(Client(url=gateway.url, api_key=KEY).run(spec(packed), packed))
        return packed

    first = run()
    gateway.packs.clear()
    gateway.bundles.clear()
    gateway.jobs_by_key.clear()
    assert run().digest == first.digest
    assert gateway.unpacked(first.digest)["x.py"] == b"print('x.py')"
    gateway.packs.clear()
    (root / "x.py").write_text("print('changed')")
    second = run()
    assert gateway.submissions[-1].spec.bundle == second.digest
    assert gateway.unpacked(second.digest) == {"x.py": b"print('changed')", "y.py": b"print('y.py')"}
