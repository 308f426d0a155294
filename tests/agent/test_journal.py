"""What an agent remembers of an attempt, also when the disk was full for a while."""

import os
from pathlib import Path

import pytest

from chisel_agent import journal
from chisel_agent.journal import Entry, Phase
from chisel_shared.contract.ids import Digest, JobId, ProjectId, new_id
from chisel_shared.contract.job import JobSpec
from chisel_shared.contract.messages import Assignment, AttemptRef

ASSIGNMENT = Assignment(
    job_id=JobId(new_id()),
    attempt=1,
    project_id=ProjectId("project1"),
    spec=JobSpec(app_name="test", argv=("python", "main.py"), gpu="A100-80GB:1", bundle=Digest("0" * 64)),
    gpu_count=1,
    lease_seconds=600,
)


def test_the_last_entry_counts(tmp_path: Path) -> None:
    for phase in Phase:
        journal.write(tmp_path, Entry(phase=phase, assignment=ASSIGNMENT))
        assert journal.read(tmp_path) == Entry(phase=phase, assignment=ASSIGNMENT)


def test_an_entry_that_a_full_disk_cut_short_spoils_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Entry(phase=Phase.PREPARING, assignment=ASSIGNMENT)
    after = Entry(phase=Phase.LAUNCHED, assignment=ASSIGNMENT)
    journal.write(tmp_path, before)
    write, room = os.write, [50]

    def full(descriptor: int, data: bytes) -> int:
        if not room:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[: room.pop()])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            journal.write(tmp_path, after)
    assert journal.read(tmp_path) == before
    journal.write(tmp_path, after)
    assert journal.read(tmp_path) == after


@pytest.mark.parametrize(
    "name", ["", "x", "\ufffd.1", "../x.1", "0123456789.", "0123456789.x", "0123456789.\u00b2"]
)
def test_a_name_that_is_no_attempts(name: str) -> None:
    assert journal.ref_of(name) is None


def test_the_name_of_a_folder_is_read_back() -> None:
    ref = AttemptRef(job_id=ASSIGNMENT.job_id, attempt=12)
    assert journal.ref_of(journal.folder_name(ref)) == ref
