"""What an agent finds when it starts, and clears away: folders, sockets, groups, mounts."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from chisel_agent import places, sandbox
from chisel_agent.aftermath import remove
from tests.agent.conftest import find_places
from tests.agent.facts import alive, eventually, until
from tests.agent.world import World, folder_of


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """An attempt's folder in which a job has mounted what is elsewhere, and that."""
    elsewhere, folder = tmp_path / "data", tmp_path / "attempts/abc.1"
    place = folder / "work/a place\\with an odd name"
    for made in (elsewhere, place):
        made.mkdir(parents=True)
    (elsewhere / "precious").touch()
    done = subprocess.run(["mount", "--bind", str(elsewhere), str(place)], check=False, capture_output=True)
    if done.returncode:
        pytest.skip("mounting takes root")
    yield folder, elsewhere
    subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)


def test_removing_a_folder_unmounts_and_does_not_empty_what_was_mounted(mounted: tuple[Path, Path]) -> None:
    folder, elsewhere = mounted
    remove(folder)
    assert not folder.exists()
    assert (elsewhere / "precious").exists()


def test_what_stays_mounted_keeps_its_folder(
    mounted: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, elsewhere = mounted
    monkeypatch.setattr(sandbox, "_MNT_DETACH", 1 << 20)  # a flag that the kernel refuses
    remove(folder)
    assert folder.exists()
    assert (elsewhere / "precious").exists()


@pytest.fixture
def intruder(world: World) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of a shim that is no more; its name is that of a process that is no shim."""
    group = Path(find_places(world.data_dir, places.AUTO)[0], "1-leftover")
    group.mkdir()
    with subprocess.Popen(["/bin/sh", "-c", f"echo $$ > {group}/cgroup.procs && exec sleep 600"]) as process:
        eventually(lambda: bool((group / "cgroup.procs").read_text()))
        yield process
        process.kill()


async def test_a_start_clears_away_what_is_of_no_use_any_more(
    world: World, intruder: subprocess.Popen[bytes]
) -> None:
    async with world.agent(cgroups="off"):
        ref = await world.scheduler.submit(world.python("open('scratch', 'w')"))
        await world.scheduler.end_of(ref)
    folder = folder_of(world, ref)
    (folder / "work").mkdir(exist_ok=True)  # as if it had been killed before it could remove that
    unknown = world.data_dir / "attempts/what is this"
    unknown.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stale:
        (world.data_dir / "doorbell").unlink()
        stale.bind(str(world.data_dir / "doorbell"))
    assert alive(intruder.pid)
    async with world.agent():
        await until(lambda: not (folder / "work").exists())
        assert not unknown.exists()
        assert not alive(intruder.pid)
        after = await world.scheduler.submit(world.python("print('after')"))
        assert (await world.scheduler.end_of(after)).exit_code == 0


@pytest.mark.parametrize(
    ("mounts", "groups", "expected"),
    [
        (
            [
                "41 31 0:38 / /sys/fs/cgroup/unified rw shared:1 - cgroup2 cgroup rw",
                "1 0 8:1 / / rw - ext4 x rw",
            ],
            ["4:memory:/a", "0::/user/b"],
            {places.UNIFIED: Path("/sys/fs/cgroup/unified/user/b")},
        ),
        (
            [
                "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
                "37 31 0:34 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct",
            ],
            ["4:memory:/a", "3:cpu,cpuacct:/"],
            {
                "memory": Path("/sys/fs/cgroup/memory/a"),
                "cpu": Path("/sys/fs/cgroup/cpu,cpuacct"),
                "cpuacct": Path("/sys/fs/cgroup/cpu,cpuacct"),
            },
        ),
        (
            ["35 31 0:32 /docker/x /sys/fs/cgroup/freezer ro - cgroup cgroup rw,freezer"],
            ["4:freezer:/docker/x/inner"],
            {"freezer": Path("/sys/fs/cgroup/freezer/inner")},
        ),
        (
            ["35 31 0:32 /docker/x /sys/fs/cgroup ro - cgroup2 cgroup rw"],
            ["0::/../elsewhere"],
            {places.UNIFIED: Path("/sys/fs/cgroup")},
        ),
        ([], ["0::/"], {}),
    ],
    ids=["hybrid", "v1", "container", "outside of it", "none"],
)
def test_where_this_process_is_in_the_kernels_tree(
    mounts: list[str], groups: list[str], expected: dict[str, Path]
) -> None:
    assert places.own_groups(mounts, groups) == expected


def test_a_delegated_group_is_used_rather_than_the_one_of_the_service_below_it(tmp_path: Path) -> None:
    own = tmp_path / "agent.service/agent"
    own.mkdir(parents=True)
    assert places._ours(own) == own
    try:
        os.setxattr(own.parent, "user.delegate", b"1")
    except OSError:
        pytest.skip("this file system keeps no such attribute")
    assert places._ours(own) == own.parent


def test_without_control_groups_there_are_no_places(tmp_path: Path) -> None:
    assert places.find(tmp_path, wanted=places.OFF) == ()
