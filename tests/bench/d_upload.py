"""D: submitting from a directory of 5,000 files, 200 MB: packed, planned, sent, until the job is accepted.

The first time everything travels, then nothing, then one changed file of 1 KB. What an agent does with
it afterwards, it unpacks the tree anew for every job, is the figure beside it.
"""

import random
from pathlib import Path

from tests.bench import client, payloads
from tests.bench.figures import Figure
from tests.bench.machine import settle
from tests.bench.stack import Stack, command

FILES, FILE_BYTES = 5_000, 40_000
UNCHANGED_SECONDS, CHANGED_SECONDS = 0.5, 0.6


def measure(stack: Stack, repeats: int) -> list[Figure]:
    stack.warm_up()
    folder = stack.folder / "large"
    _fill(folder)
    first, _ = _submit(stack, folder)
    unchanged, ends = [], []
    for _ in range(repeats):
        accepted, ended = _submit(stack, folder)
        unchanged.append(accepted)
        ends.append(ended)
    changed = []
    for number in range(repeats):
        (folder / "d07" / "f777").write_text(f"{number:1000}")
        changed.append(_submit(stack, folder)[0])
    what = f"{FILES:,} files, {FILES * FILE_BYTES / 1e6:.0f} MB"
    return [
        Figure(letter="D", what=f"{what}: the first time, accepted", unit="s", values=(first,)),
        Figure(letter="D", what="again, unchanged", unit="s", values=tuple(unchanged),
               must=UNCHANGED_SECONDS, aim=0.15),
        Figure(letter="D", what="again, one file changed", unit="s", values=tuple(changed),
               must=CHANGED_SECONDS, aim=0.2),
        Figure(letter="D", what="unchanged, to the end of hello", unit="s", values=tuple(ends)),
    ]  # fmt: skip


def _submit(stack: Stack, folder: Path) -> tuple[float, float]:
    """Seconds until the job is accepted, and until it has ended: the next one must find a quiet machine."""
    settle()
    options = ["--detach", "--app-name", "bench"]
    accepted = client.must_succeed(
        client.run([command("chisel"), "python", *options, "hello.py", "large"], env=stack.env, cwd=folder)
    )
    waited = client.must_succeed(stack.chisel("wait", accepted.stdout.decode().strip()))
    return accepted.wall, accepted.wall + waited.wall


def _fill(folder: Path) -> None:
    """Half of each file is noise and half is text, as trees are with data and code."""
    chance = random.Random(1)
    for number in range(FILES):
        path = folder / f"d{number // 100:02}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(FILE_BYTES // 2) + b"text" * (FILE_BYTES // 8))
    (folder / "hello.py").write_text(payloads.HELLO)
