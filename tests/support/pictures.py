"""Pictures of the terminal for the documents: `python -m tests.support.pictures` makes them from real runs.

Each is what the real command wrote to a pseudo-terminal of 80 columns, drawn by rich. Nothing is written
by hand but the prompt.
"""

import os
import pty
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests.support.cluster import Cluster, running_cluster
from tests.support.source import ROOT

PICTURES = ROOT / "docs" / "pictures"
TRAIN = """\
import time

for epoch in range(1, 4):
    time.sleep(0.2)
    print(f"epoch {epoch}  loss {1 / epoch:.4f}")
"""
SLOW_LINE = ROOT / "docs" / "examples" / "slow_line"
SHOWN: dict[str, Sequence[Sequence[str]]] = {
    "first-job": (["python", "train.py", "--gpu", "4", "--app-name", "training"], ["ps"]),
    "detaching": (
        ["python", "--detach", "-a", "training", "train.py"],
        ["wait", "@last"],
        ["logs", "@last", "--tail", "1"],
    ),
    "doctor": (["doctor"],),
    "slow-line": (["python", "train.py", "-a", "slow"], ["trace", "summary", "@last"]),
    "slow-line-diff": (["python", "train.py", "-a", "fast", "--fast"], ["trace", "diff", "{slow}", "@last"]),
}
"""What is typed for each picture, in the order they are made; `{slow}` is the id of the job of that name."""


def main(wanted: Sequence[str]) -> None:
    """Make the pictures named, all without a name."""
    PICTURES.mkdir(exist_ok=True)
    with running_cluster(agents={"gpu-01": 8}) as cluster, tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        project.mkdir()
        (project / "train.py").write_text(TRAIN)
        for name, runs in SHOWN.items():
            if wanted and name not in wanted:
                continue
            with open(os.devnull, "w", encoding="utf-8") as nowhere:
                console = Console(record=True, width=80, file=nowhere, force_terminal=True)
                for words in runs:
                    typed = [cluster.job("slow")["id"] if word == "{slow}" else word for word in words]
                    console.print(Text(f"$ chisel {' '.join(typed)}", style="bold"))
                    where = SLOW_LINE if name.startswith("slow-line") else project
                    console.print(Text.from_ansi(_shown(cluster, typed, where)))
            picture = console.export_svg(title="chisel", unique_id=name)
            (PICTURES / f"{name}.svg").write_text(picture, encoding="utf-8")


def _shown(cluster: Cluster, words: Sequence[str], project: Path) -> str:
    """What `chisel WORDS` shows on a terminal."""
    ours, theirs = pty.openpty()
    env = cluster.environment({"TERM": "xterm-256color", "COLUMNS": "80"})
    command = [str(Path(sys.executable).with_name("chisel")), *words]
    process = subprocess.Popen(
        command, cwd=project, env=env, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 1 << 16)
        except OSError:  # how Linux says that nobody has the terminal open any more
            break
        if not piece:
            break
        shown += piece
    process.wait()
    os.close(ours)
    assert process.returncode == 0, shown
    return shown.decode().replace("\r\n", "\n").rstrip("\n")


if __name__ == "__main__":
    main(sys.argv[1:])
