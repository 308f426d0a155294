"""`chisel python`: pack, submit, watch, and exit as the script did."""

import os
from typing import TYPE_CHECKING

from chisel import settings
from chisel.cli import wording
from chisel.cli.arguments import parse
from chisel.cli.backend import connect
from chisel.cli.render import Screen
from chisel.layout import locate
from chisel_shared.contract.gpus import gpu_type

if TYPE_CHECKING:
    from chisel.bundle import Tree


def run(words: list[str]) -> int:
    """Carry out the command line `words`."""
    asked = parse(words)
    screen = Screen()
    if asked.taken:
        screen.note(f"chisel took {' '.join(asked.taken)}; use -- to pass it to the script")
    if asked.interactive:
        from chisel.cli.prompt import ask

        asked = ask(asked, screen)
    layout = locate(asked.script, upload_dir=asked.upload_dir or ".", requirements=asked.requirements)
    client = connect(screen, announced=True)

    from chisel.bundle import pack, walk
    from chisel.cli.interrupts import Interrupts
    from chisel.cli.watch import Watch
    from chisel.following import Submission
    from chisel_shared.contract.job import JobSpec

    interrupts = Interrupts()
    following = client.connect(wake=interrupts.wake)
    # From here on the gateway checks the key while we pack.
    tree = walk(layout.root, without=settings.local_folder())
    _tell_packing(screen, tree)
    with pack(layout.root, tree) as bundle, interrupts:
        spec = JobSpec(
            app_name=asked.app_name or os.path.splitext(os.path.basename(asked.script))[0],
            argv=("python", layout.script, *asked.script_args),
            gpu=gpu_type(asked.gpu or 1).value,
            bundle=bundle.digest,
            workdir=layout.workdir,
            requirements=layout.requirements,
        )
        following.submit(Submission(spec, bundle, os.urandom(16).hex()))
        watch = Watch(following=following, screen=screen, interrupts=interrupts, cancels=True)
        return watch.run()


def _tell_packing(screen: Screen, tree: "Tree") -> None:
    files = "1 file" if tree.files == 1 else f"{tree.files} files"
    screen.say(f"packing {files}, {wording.size(tree.size_bytes)}")
    if tree.skipped:
        shown = ", ".join(tree.skipped[:5]) + (", …" if len(tree.skipped) > 5 else "")
        screen.say(f"left out what is neither file nor folder: {shown}")
