"""Parts of a trace, and other forms of it: the real command, on files of this machine."""

import gzip
import json

import msgspec
import pytest

from chisel_shared.traces.report import Summary
from tests.cli.conftest import Command
from tests.traces.build import Trace


def stepped() -> Trace:
    """Three steps of 100 µs, with a kernel and a line of Python in each."""
    trace = Trace()
    for number in range(3):
        at = 100.0 * number
        trace.span(f"ProfilerStep#{number}", at, 100.0)
        trace.python("train.py(12): step", at, 90.0)
        trace.op("aten::mm", at + 10, 20.0)
        trace.kernel(at + 40, 30.0, launch=at + 15)
    return trace


def save(chisel: Command, name: str) -> str:
    data = stepped().gz() if name.endswith(".gz") else stepped().data()
    (chisel.project / name).write_bytes(data)
    return name


def test_a_slice_is_a_trace_of_its_own(offline: Command) -> None:
    name = save(offline, "step.json.gz")
    done = offline("trace", "slice", name, "--steps", "1-2", "--drop", "python", "-o", "part.json")
    assert (done.status, done.stdout) == (0, b"part.json\n"), done.stderr
    found = msgspec.json.decode(offline("trace", "summary", "part.json", "--json").stdout, type=Summary)
    assert (found.gpu.events, found.gpu.busy_us) == (2, 60.0)
    assert b"train.py" not in (offline.project / "part.json").read_bytes()
    told = json.loads(offline("trace", "slice", name, "--from", "100us", "--to", "200us", "--json").stdout)
    assert told["saved_as"] == "step.slice.json.gz"
    assert (offline.project / "step.slice.json.gz").read_bytes()[:2] == b"\x1f\x8b"
    assert 0 < told["events"] < told["of"]


def test_a_slice_of_a_cut_trace_says_so(offline: Command) -> None:
    (offline.project / "cut.json").write_bytes(stepped().data()[:-200])
    done = offline("trace", "slice", "cut.json", "--steps", "1", "-o", "part.json")
    assert (done.status, done.stdout) == (4, b"part.json\n")
    assert "cut.json is cut off" in done.stderr
    assert offline("trace", "summary", "part.json").status == 0


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ([], 2, "a slice of what?"),
        (["--steps", "x"], 2, "--steps takes numbers"),
        (["--steps", "3-2"], 2, "the first comes after the last"),
        (["--steps", "7-9"], 2, "it has 0 to 2"),
        (["--drop", "everything"], 2, "--drop takes python"),
        (["--from", "ten"], 2, "a moment of a trace is written like"),
        (["--from", "2ms", "--to", "1ms"], 2, "is not before"),
        (["--steps", "1", "-o", "step.json"], 2, "is the trace itself"),
        (["--steps", "1", "-o", "no/such/folder.json"], 2, "there is no folder no/such"),
    ],
)
def test_a_slice_of_nothing_is_refused(offline: Command, words: list[str], status: int, said: str) -> None:
    before = save(offline, "step.json")
    done = offline("trace", "slice", before, *words)
    assert (done.status, done.stdout) == (status, b"")
    assert said in done.stderr
    assert [path.name for path in offline.project.glob("*.json*")] == ["step.json"]


def test_a_file_is_saved_as_a_flame_graph(offline: Command) -> None:
    done = offline("trace", "download", save(offline, "step.json"), "--folded", "-o", "graphs")
    assert (done.status, done.stdout) == (0, b"graphs/step.folded.txt\n")
    assert ";train.py(12): step" in (offline.project / "graphs/step.folded.txt").read_text()


def test_a_file_is_saved_compressed_and_plain_again(offline: Command) -> None:
    name = save(offline, "step.json")
    packed = offline("trace", "download", name, "--gz", "-o", "there")
    assert (packed.status, packed.stdout) == (0, b"there/step.json.gz\n"), packed.stderr
    plain = offline("trace", "download", "there/step.json.gz", "-o", "back", "--json")
    assert json.loads(plain.stdout) == [{"name": "step.json.gz", "attempt": 0, "saved_as": "back/step.json"}]
    data = (offline.project / name).read_bytes()
    assert (offline.project / "back" / "step.json").read_bytes() == data
    assert gzip.decompress((offline.project / "there" / "step.json.gz").read_bytes()) == data


def test_a_file_is_not_saved_over_itself_nor_when_it_is_cut(offline: Command) -> None:
    name = save(offline, "step.json.gz")
    itself = offline("trace", "download", name, "--gz")
    assert (itself.status, itself.stdout) == (2, b"")
    assert "is there already" in itself.stderr
    (offline.project / "cut.json.gz").write_bytes((offline.project / name).read_bytes()[:-20])
    cut = offline("trace", "download", "cut.json.gz", "-o", "out")
    assert (cut.status, cut.stdout) == (4, b"")
    assert list((offline.project / "out").iterdir()) == []
