"""When archived bytes came: records that survive a crash, and questions about them."""

from pathlib import Path

import pytest

from chisel_shared.contract.ids import JobId
from chisel_storage.outputs import DiskOutputs
from chisel_storage.times import Mark, Marks, append_marks

JOB = JobId("job0000001")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "times"


def test_records_follow_one_another_and_a_leftover_is_cut_off(path: Path) -> None:
    append_marks(path, [Mark(0, 1.0), Mark(10, 2.0)], at=0)
    append_marks(path, [Mark(20, 3.0), Mark(25, 3.5)], at=20)
    with path.open("ab") as file:
        file.write(b"half a rec")  # a crash in the middle of one
    append_marks(path, [Mark(20, 4.0)], at=20)  # what came at 20 was not known to be safe, and came again
    marks = Marks.read(path, size=30)
    assert list(marks.from_offset(0, 10)) == [Mark(0, 1.0), Mark(10, 2.0), Mark(20, 4.0)]
    assert list(Marks.read(path, size=20).from_offset(0, 10)) == [Mark(0, 1.0), Mark(10, 2.0)]


def test_questions(path: Path) -> None:
    append_marks(path, [Mark(0, 1.0), Mark(10, 2.0), Mark(20, 2.0)], at=0)
    marks = Marks.read(path, size=30)
    assert [marks.at(offset) for offset in (0, 9, 10, 29)] == [1.0, 1.0, 2.0, 2.0]
    assert [marks.since(time) for time in (0.0, 1.0, 1.5, 2.0, 2.5)] == [0, 0, 10, 10, 30]
    assert list(marks.from_offset(15, 1)) == [Mark(10, 2.0)]


def test_output_without_times_hides_nothing(path: Path) -> None:
    marks = Marks.read(path, size=30)
    assert (marks.at(5), marks.since(1e9), list(marks.from_offset(0, 5))) == (0.0, 0, [])


@pytest.mark.parametrize(
    ("data", "count", "starts"),
    [
        (b"a\nb\nc\n", 2, [2, 4]),
        (b"a\nb\nc", 2, [2, 4]),
        (b"a\nb\nc", 9, [0, 2, 4]),
        (b"\n\n", 9, [0, 1]),
        (b"no newline", 1, [0]),
        (b"a\nb\n", 0, []),
        (b"x" * 100_000 + b"\n" + b"y" * 100_000 + b"\nz\n", 2, [100_001, 200_002]),
        (b"l\n" * 100_000, 3, [199_994, 199_996, 199_998]),
    ],
)
def test_where_the_last_lines_begin(tmp_path: Path, data: bytes, count: int, starts: list[int]) -> None:
    outputs = DiskOutputs(tmp_path)
    outputs.append(JOB, 1, "stdout", at=0, data=data + b"leftover\nof a crash")
    assert outputs.last_lines(JOB, 1, "stdout", before=len(data), count=count) == starts
