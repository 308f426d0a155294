"""What an agent takes of a job's `./outputs`, how much of it, and that it stores it whatever happens."""

import os
from pathlib import Path

import msgspec
import pytest

from chisel_agent.outputs import Before, Cap, note_before, scan
from chisel_shared.contract.job import EndReason
from tests.agent.facts import until
from tests.agent.world import SLEEP, World, folder_of, ready

WRITE = """
import os
os.makedirs("outputs/deep", exist_ok=True)
for name in ("a", "b", "c", "deep/d"):
    open(f"outputs/{name}", "w").write(name * 10)
"""
STORED = {name: ("plain", name.encode() * 10) for name in ("a", "b", "c", "deep/d")}


def scanned(folder: Path, cap: Cap) -> tuple[list[str], int, str]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        seen = scan(descriptor, {}, cap)
    finally:
        os.close(descriptor)
    return [file.path for file in seen.found], seen.size, seen.left_out()


@pytest.mark.parametrize(
    ("cap", "paths", "size", "left_out"),
    [
        (Cap(), ["a", "b", "c/d"], 600, ""),
        (Cap(files=3, bytes=600), ["a", "b", "c/d"], 600, ""),
        (Cap(files=2), ["a", "b"], 400, "c/d: more than the 2 files that one job may send back"),
        (Cap(files=0), [], 0, "a, b, c/d: more than the 0 files that one job may send back"),
        (Cap(bytes=599), ["a", "b"], 400, "c/d: more than the 599 bytes that one job may send back"),
        (Cap(bytes=350), ["a", "c/d"], 300, "b: more than the 350 bytes that one job may send back"),
        (Cap(bytes=0), [], 0, "a, b, c/d: more than the 0 bytes that one job may send back"),
    ],
)
def test_no_more_than_the_cap_comes_back(
    cap: Cap, paths: list[str], size: int, left_out: str, tmp_path: Path
) -> None:
    (tmp_path / "c").mkdir()
    for name, count in (("a", 100), ("b", 300), ("c/d", 200)):
        (tmp_path / name).write_bytes(bytes(count))
    assert scanned(tmp_path, cap) == (paths, size, left_out)


def test_many_that_are_left_out_are_counted(tmp_path: Path) -> None:
    for number in range(10):
        os.mkfifo(tmp_path / f"pipe{number}")
    (tmp_path / "line\nbreak").touch()
    assert scanned(tmp_path, Cap()) == (
        [],
        0,
        "line?break: the name holds a control character or a backslash\n"
        "pipe0, pipe1, pipe2 and 7 more: neither file nor folder",
    )


def test_a_tree_without_a_floor_is_left_before_it_ends(tmp_path: Path) -> None:
    at = os.open(tmp_path, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d", dir_fd=at)
        deeper = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = deeper
    os.close(os.open("bottom", os.O_CREAT | os.O_WRONLY, dir_fd=at))
    os.close(at)
    paths, _, left_out = scanned(tmp_path, Cap())
    assert paths == []
    assert left_out.endswith("more than 64 folders deep")


def test_a_file_counts_when_it_was_written_since(tmp_path: Path) -> None:
    cwd = tmp_path / "work" / "sub"
    (cwd / "outputs").mkdir(parents=True)
    for name in ("same", "grown", "rewritten", "replaced"):
        (cwd / "outputs" / name).write_text("0")
    note_before(tmp_path, cwd)
    (cwd / "outputs" / "grown").write_text("01")
    (cwd / "outputs" / "rewritten").write_text("1")
    (cwd / "outputs" / "new").write_text("1")
    before = os.stat(cwd / "outputs" / "replaced")
    (cwd / "outputs" / "aside").write_text("1")
    os.replace(cwd / "outputs" / "aside", cwd / "outputs" / "replaced")
    os.utime(cwd / "outputs" / "replaced", ns=(before.st_atime_ns, before.st_mtime_ns))
    noted = msgspec.json.decode((tmp_path / "outputs.before").read_bytes(), type=Before)
    assert noted.at == "sub"
    descriptor = os.open(cwd / "outputs", os.O_RDONLY)
    found = [file.path for file in scan(descriptor, noted.files, Cap()).found]
    os.close(descriptor)
    assert found == ["grown", "new", "replaced", "rewritten"]


async def test_outputs_are_stored_before_the_end_is_told_and_dropped_here(world: World) -> None:
    async with world.agent():
        ref = await world.scheduler.submit(world.python(WRITE + "raise SystemExit(3)"))
        end = await world.scheduler.end_of(ref)
        assert world.gateway.outputs[ref.job_id, 1] == STORED
        assert (end.exit_code, end.outputs, end.outputs_bytes, end.outputs_left_out) == (3, 4, 90, "")
        await until(lambda: not (folder_of(world, ref) / "outputs").exists())


@pytest.mark.parametrize(
    ("code", "left_out"),
    [
        ("import os; os.symlink('/etc', 'outputs')", "all of outputs: it is a link"),
        ("open('outputs', 'w').close()", "all of outputs: it is not a folder"),
        ("import os, shutil; shutil.rmtree(os.getcwd())", ""),
        ("print(1)", ""),
    ],
)
async def test_what_is_no_folder_of_outputs_is_not_looked_into(
    code: str, left_out: str, world: World
) -> None:
    async with world.agent():
        ref = await world.scheduler.submit(world.python(code))
        end = await world.scheduler.end_of(ref)
        assert (end.reason, end.outputs, end.outputs_left_out) == (EndReason.EXIT, 0, left_out)
        assert not world.gateway.outputs


async def test_outputs_lie_below_the_working_directory(world: World) -> None:
    files = {"sub/keep": "", "outputs/theirs": "x", "sub/outputs/before": "x"}
    async with world.agent():
        spec = world.python(
            "", files={**files, "sub/main.py": WRITE}, workdir="sub", argv=("python", "main.py")
        )
        ref = await world.scheduler.submit(spec)
        await world.scheduler.end_of(ref)
        assert world.gateway.outputs[ref.job_id, 1] == STORED


async def test_a_cap_never_changes_the_end(world: World) -> None:
    async with world.agent(outputs_limit_files=1):
        ref = await world.scheduler.submit(world.python(WRITE))
        end = await world.scheduler.end_of(ref)
        assert (end.reason, end.exit_code, end.outputs) == (EndReason.EXIT, 0, 1)
        assert end.outputs_left_out == "b, c, deep/d: more than the 1 files that one job may send back"


async def test_an_end_waits_for_its_outputs_only_so_long_and_they_follow(world: World) -> None:
    async with world.agent(files_wait_seconds=0.5):
        world.gateway.refuse_after = 1
        ref = await world.scheduler.submit(world.python(WRITE))
        end = await world.scheduler.end_of(ref)
        assert end.outputs == 4
        assert len(world.gateway.outputs[ref.job_id, 1]) == 1
        world.gateway.refuse_after = None
        await until(lambda: world.gateway.outputs[ref.job_id, 1] == STORED)


async def test_another_agent_goes_on_with_the_upload_where_one_was_killed(world: World) -> None:
    world.gateway.refuse_after = 2
    agent = world.process()
    agent.start()
    ref = await world.scheduler.submit(world.python(WRITE))
    await until(lambda: len(world.gateway.outputs.get((ref.job_id, 1), {})) == 2)
    record = folder_of(world, ref) / "outputs.uploaded"
    await until(lambda: record.exists() and record.read_text().count("true") == 2)
    agent.kill()
    first = set(world.gateway.outputs[ref.job_id, 1])
    world.gateway.outputs.clear()
    world.gateway.refuse_after = None
    async with world.agent():
        end = await world.scheduler.end_of(ref)
        assert end.outputs == 4
        assert set(world.gateway.outputs[ref.job_id, 1]) == STORED.keys() - first


async def test_outputs_of_a_cancelled_job_are_stored(world: World) -> None:
    async with world.agent():
        ref = await world.scheduler.submit(world.python(WRITE + SLEEP))
        await ready(world, ref)
        await world.scheduler.ask_to_cancel(ref)
        end = await world.scheduler.end_of(ref)
        assert (end.reason, end.outputs) == (EndReason.USER, 4)
        assert world.gateway.outputs[ref.job_id, 1] == STORED
