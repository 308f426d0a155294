"""Other systems of this kind, measured with the same script where they are installed.

A peer counts when its client is on the PATH and its servers, which its owner has started, answer;
the benchmark starts nobody else's servers.
"""

import shutil
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench import client
from tests.bench.figures import Figure
from tests.bench.machine import settle


@dataclass(frozen=True, slots=True)
class Peer:
    name: str
    alive: tuple[str, ...]
    """Ends with 0 when the servers answer."""
    run: tuple[str, ...]
    """Runs what follows in the current folder and prints its output."""


PEERS = (
    Peer("Slurm", ("sinfo",), ("srun",)),
    Peer("HyperQueue", ("hq", "job", "list"), ("hq", "submit", "--wait", "--stdout=/dev/stdout")),
    Peer("Ray", ("ray", "job", "list"), ("ray", "job", "submit", "--working-dir", ".", "--")),
)


def hello(ours: Sequence[float], *, env: Mapping[str, str], cwd: Path, repeats: int) -> list[Figure]:
    """For each peer here: its hello, and how many times faster ours is."""
    found = []
    for peer in PEERS:
        if shutil.which(peer.alive[0], path=env["PATH"]) is None:
            continue
        if client.run(peer.alive, env=env, timeout=20).exit_status != 0:
            continue
        walls = []
        for _ in range(repeats):
            settle()
            walls.append(client.run([*peer.run, "python", "hello.py", "peer"], env=env, cwd=cwd).wall)
        ratio = statistics.median(walls) / statistics.median(ours)
        found.append(
            Figure(
                letter="A",
                what=f"the same by {peer.name}",
                unit="ms",
                values=tuple(wall * 1000 for wall in walls),
                note=f"{ratio:.1f} x ours",
            )
        )
    return found
