"""A small disk is full when it is told to be, and has room again afterwards: where any can be mounted."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.source import ROOT

# In a process of its own: the mounts of this one are everybody's.
TRY = """
import errno, sys
from pathlib import Path
from tests.chaos.disks import Disk, own_mounts
problem = own_mounts()
folder = Path(sys.argv[1])
disk = Disk(folder, mebibytes=8)
problem = problem or disk.mount()
if problem:
    sys.exit(f"cannot: {problem}")
(folder / "before").write_bytes(bytes(1000))
disk.fill()
try:
    (folder / "full").write_bytes(bytes(200_000))
except OSError as error:
    assert error.errno == errno.ENOSPC, error
else:
    sys.exit("it was not full")
disk.empty()
(folder / "after").write_bytes(bytes(200_000))
assert (folder / "before").stat().st_size == 1000
print("as it should be")
"""


def test_a_disk_is_full_and_has_room_again(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    done = subprocess.run(
        [sys.executable, "-c", TRY, str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.stderr.startswith("cannot: "):
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    assert (done.returncode, done.stdout) == (0, "as it should be\n"), done.stderr
    assert list(folder.iterdir()) == [], "the mount was not the process's own"
