"""Saving a job's outputs: nothing outside the folder, nothing of the user's own lost, nothing half."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from chisel.client import Client
from chisel.pulling import PARTIAL, Pulled, Stopped, chosen, wait_until_stored
from chisel_shared.contract.errors import InternalError, Unavailable, UserError
from chisel_shared.contract.files import FileMode
from chisel_shared.contract.ids import Digest, JobId
from chisel_shared.contract.job import EndReason, JobEnd, JobState, JobView
from chisel_shared.contract.messages import FileView, Outputs
from tests.cli.gateway import JOB_ID, KEY, Gateway

BIG = random.Random(5).randbytes(3_000_000)
PLAIN, EXECUTABLE, LINK = FileMode.PLAIN, FileMode.EXECUTABLE, FileMode.LINK


@pytest.fixture
def client(gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    end = JobEnd(reason=EndReason.EXIT, exit_code=0)
    gateway.view = JobView(
        id=JOB_ID, app_name="demo", state=JobState.SUCCEEDED, version=1, gpu="A100-80GB:1",
        argv=("python", "x.py"), attempt=1, submitted_at=1.0, end=end,
    )  # fmt: skip
    with Client(url=gateway.url, api_key=KEY) as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


def pull(client: Client, folder: Path, *, force: bool = False) -> dict[str, Pulled]:
    outputs = client.outputs(JOB_ID)
    return {one.file.path: one for one in client.pull(outputs, outputs.files, str(folder), force=force)}


def outcomes(client: Client, folder: Path, *, force: bool = False) -> dict[str, str]:
    return {path: one.outcome for path, one in pull(client, folder, force=force).items()}


def test_a_broken_transfer_goes_on_where_it_broke(gateway: Gateway, client: Client, folder: Path) -> None:
    gateway.script.outputs = {"big": (PLAIN, BIG)}
    gateway.script.cut_downloads = [1_000_000, 2_000_000]
    assert outcomes(client, folder) == {"big": "saved"}
    assert (folder / "big").read_bytes() == BIG
    assert (gateway.ranges[0], len(gateway.ranges)) == (0, 3)
    assert 0 < gateway.ranges[1] < gateway.ranges[2] <= 2_000_000
    assert os.listdir(folder) == ["big"]


def test_the_next_pull_goes_on_where_one_gave_up(gateway: Gateway, client: Client, folder: Path) -> None:
    gateway.script.outputs = {"big": (PLAIN, BIG)}
    gateway.script.cut_downloads = [1_000_000] + [0] * 5
    with pytest.raises(Unavailable, match="big could not be fetched whole"):
        pull(client, folder)
    assert os.listdir(folder) == [PARTIAL]
    gateway.ranges.clear()
    assert outcomes(client, folder) == {"big": "saved"}
    assert gateway.ranges[0] > 0
    assert (folder / "big").read_bytes() == BIG
    assert os.listdir(folder) == ["big"]


def test_damage_is_noticed_and_fetched_again(gateway: Gateway, client: Client, folder: Path) -> None:
    gateway.script.outputs = {"big": (PLAIN, BIG)}
    gateway.script.damage_downloads = 1
    assert outcomes(client, folder) == {"big": "saved"}
    assert (folder / "big").read_bytes() == BIG
    gateway.script.outputs = {"other": (PLAIN, BIG[1:])}
    gateway.script.damage_downloads = 99
    with pytest.raises(InternalError, match="damaged again and again"):
        pull(client, folder)
    assert not (folder / "other").exists()


def test_what_a_pull_left_gives_way_and_what_is_yours_stays(
    gateway: Gateway, client: Client, folder: Path
) -> None:
    gateway.script.outputs = {"a": (PLAIN, b"1"), "b": (PLAIN, b"1"), "tool": (EXECUTABLE, b"#!")}
    assert set(outcomes(client, folder).values()) == {"saved"}
    assert os.access(folder / "tool", os.X_OK)
    assert not os.access(folder / "a", os.X_OK)
    (folder / "b").write_bytes(b"edited")
    gateway.script.outputs = {"a": (PLAIN, b"2"), "b": (PLAIN, b"2"), "tool": (EXECUTABLE, b"#!")}
    found = pull(client, folder)
    assert {path: one.outcome for path, one in found.items()} == {
        "a": "saved",
        "b": "beside",
        "tool": "unchanged",
    }
    assert (folder / "a").read_bytes() == b"2"
    assert (folder / "b").read_bytes() == b"edited"
    assert (folder / found["b"].path).read_bytes() == b"2"
    assert outcomes(client, folder)["b"] == "beside"
    assert outcomes(client, folder, force=True) == {"a": "unchanged", "b": "saved", "tool": "unchanged"}
    assert (folder / "b").read_bytes() == b"2"


def test_a_lost_record_costs_nothing(gateway: Gateway, client: Client, folder: Path, tmp_path: Path) -> None:
    gateway.script.outputs = {"a": (PLAIN, b"1")}
    pull(client, folder)
    (record,) = (tmp_path / "home" / ".chisel" / "pulled").iterdir()
    record.write_text("{")
    gateway.script.outputs = {"a": (PLAIN, b"2")}
    assert outcomes(client, folder) == {"a": "beside"}
    assert (folder / "a").read_bytes() == b"1"
    (folder / f"a.{JOB_ID}").write_bytes(b"edited too")
    gateway.script.outputs = {"a": (PLAIN, b"3")}
    assert outcomes(client, folder) == {"a": "refused"}


@pytest.mark.parametrize(
    "path", ["../x", "/etc/x", "a/../../x", "", ".", "a//b", "a\\b", f"{PARTIAL}/x", "a\nb"]
)
def test_a_backend_cannot_choose_where_it_is_saved(client: Client, folder: Path, path: str) -> None:
    file = FileView(JOB_ID, 1, path, PLAIN, 1, Digest("0" * 64))
    outputs = Outputs(JOB_ID, 1, ended=True, count=1, left_out="", files=(file,))
    (found,) = client.pull(outputs, outputs.files, str(folder))
    assert found.outcome == "refused"
    assert os.listdir(folder) == []


@pytest.mark.parametrize("target", [b"/etc/passwd", b"../x", b"d/../../x", b"", b"x" * 5000, b"\xff"])
def test_a_link_that_leads_out_is_not_made(
    gateway: Gateway, client: Client, folder: Path, target: bytes
) -> None:
    gateway.script.outputs = {"d/x": (PLAIN, b"1"), "link": (LINK, target)}
    assert outcomes(client, folder) == {"d/x": "saved", "link": "refused"}
    assert os.listdir(folder) == ["d"]


def test_links_inside_are_made_last_and_never_written_through(
    gateway: Gateway, client: Client, folder: Path
) -> None:
    gateway.script.outputs = {"l": (LINK, b"d"), "d/x": (PLAIN, b"1"), "l/y": (PLAIN, b"2")}
    first = outcomes(client, folder)
    # A link and a folder of one name: only a backend that lies says so. The folder came first and stays.
    assert first["d/x"] == first["l/y"] == "saved"
    assert first["l"] in ("refused", "beside")
    assert os.listdir(folder / "d") == ["x"]
    gateway.script.outputs = {"m": (LINK, b"d")}
    assert outcomes(client, folder) == {"m": "saved"}
    assert os.readlink(folder / "m") == "d"
    gateway.script.outputs = {"m/x": (PLAIN, b"theirs")}
    assert outcomes(client, folder) == {"m/x": "refused"}
    assert (folder / "d" / "x").read_bytes() == b"1"


def test_your_own_links_lend_the_job_no_way_out(
    gateway: Gateway, client: Client, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").mkdir()
    folder.mkdir()
    (folder / "mine").symlink_to(tmp_path / "secret")
    gateway.script.outputs = {"link": (LINK, b"mine/key"), "mine": (PLAIN, b"x"), "mine/y": (PLAIN, b"y")}
    assert outcomes(client, folder, force=True) == {"mine": "saved", "mine/y": "refused", "link": "saved"}
    assert os.listdir(tmp_path / "secret") == []
    (folder / "mine").unlink()
    (folder / "mine").symlink_to(tmp_path / "secret")
    gateway.script.outputs = {"other": (LINK, b"mine/key")}
    assert outcomes(client, folder) == {"other": "refused"}


def test_folders_are_never_replaced(gateway: Gateway, client: Client, folder: Path) -> None:
    (folder / "a").mkdir(parents=True)
    gateway.script.outputs = {"a": (PLAIN, b"1")}
    assert outcomes(client, folder, force=True) == {"a": "beside"}
    assert (folder / "a").is_dir()


def test_a_disk_that_refuses_is_told(gateway: Gateway, client: Client, tmp_path: Path) -> None:
    gateway.script.outputs = {"x" * 250: (PLAIN, b"1")}
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / ("x" * 250)).write_bytes(b"mine")
    with pytest.raises(UserError, match="cannot be written"):
        pull(client, tmp_path / "outputs")


def test_it_stops_when_asked_and_keeps_what_came(gateway: Gateway, client: Client, folder: Path) -> None:
    gateway.script.outputs = {"a": (PLAIN, b"1"), "b": (PLAIN, BIG)}
    outputs = client.outputs(JOB_ID)
    with pytest.raises(Stopped):
        list(client.pull(outputs, outputs.files, str(folder), stopped=lambda: (folder / "a").exists()))
    assert (folder / "a").read_bytes() == b"1"
    assert not (folder / "b").exists()


def test_files_that_are_still_on_their_way_are_waited_for() -> None:
    def outputs(stored: int) -> Outputs:
        files = tuple(FileView(JobId("j"), 1, str(n), PLAIN, 0, Digest("")) for n in range(stored))
        return Outputs(JobId("j"), 1, ended=True, count=2, left_out="", files=files)

    answers = [outputs(0), outputs(1), outputs(2)]
    assert len(wait_until_stored(lambda: answers.pop(0)).files) == 2
    assert len(wait_until_stored(lambda: outputs(1), patience_seconds=0.1).files) == 1


@pytest.mark.parametrize(
    ("wanted", "paths"),
    [
        ("", ["a", "d/a", "outputs/x"]),
        ("a", ["a"]),
        ("./a", ["a"]),
        ("d", ["d/a"]),
        ("d/", ["d/a"]),
        ("outputs/d/a", ["d/a"]),
        ("outputs/x", ["outputs/x"]),
        ("outputs", ["outputs/x"]),
        ("outputs/outputs/x", ["outputs/x"]),
        ("d/../a", []),
        ("b", []),
    ],
)
def test_a_path_names_a_file_or_a_folder(wanted: str, paths: list[str]) -> None:
    files = tuple(FileView(JOB_ID, 1, path, PLAIN, 1, Digest("0")) for path in ("a", "d/a", "outputs/x"))
    assert [file.path for file in chosen(files, wanted)] == paths
