"""C1: a million lines of 100 bytes, followed live by the client: the rate from the arrival of the
first line to that of the last byte, and whether every line came, whole, once and in its place.

The script buffers as Python does by itself, so that the path is measured and not its system calls.
Beside it: the same with a job's unbuffered stdout, and both bare, read through a pipe.
"""

import hashlib
from functools import cache
from itertools import pairwise

from tests.bench import client
from tests.bench.figures import Figure
from tests.bench.machine import settle
from tests.bench.stack import Stack, command

LINES = 1_000_000
LINE_BYTES = 100
FIRST = b"L00000000"
_LIMIT_SECONDS = 300.0


def measure(stack: Stack, repeats: int) -> list[Figure]:
    stack.warm_up()
    repeats = max(3, min(repeats, 5))
    firsts, figures = [], []
    for mode, must, aim in (("buffered", 55.0, 130.0), ("unbuffered", None, None)):
        rates, faults = [], []
        for _ in range(repeats if must else 1):
            settle()
            done = stack.script("lines", str(LINES), mode, marker=FIRST, timeout=_LIMIT_SECONDS)
            faults += [fault] if (fault := verdict(done)) else []
            rates.append(_rate(done))
            firsts.append((done.marker_at or 0.0) * 1000)
        settle()
        argv = [command("python"), "-u", "lines.py", str(LINES), mode]
        bare = client.run(argv, env=stack.env, cwd=stack.scripts, marker=FIRST)
        figures += [
            Figure(
                letter="C1",
                what=f"{LINES:,} lines of {LINE_BYTES} B live, {mode}",
                unit="MB/s",
                values=tuple(rates),
                must=must,
                aim=aim,
                more_is_better=True,
                note="" if faults else "every line whole, once, in order",
                fault="; ".join(faults),
            ),
            Figure(
                letter="C1", what=f"the same bare into a pipe, {mode}", unit="MB/s", values=(_rate(bare),)
            ),
        ]
    return [*figures, Figure(letter="C1", what="time to the first line", unit="ms", values=tuple(firsts))]


def _rate(done: client.Run) -> float:
    span = (done.last_byte_at or 0.0) - (done.marker_at or 0.0)
    return sum(len(data) for _, data in done.chunks) / 1e6 / span if span > 0 else 0.0


def verdict(done: client.Run) -> str:
    """What is wrong with the bytes that arrived; empty when they are exactly those printed."""
    if done.exit_status != 0:
        return f"the command ended with {done.exit_status}: {done.stderr[-300:].strip()}"
    got = hashlib.sha256()
    for _, data in done.chunks:
        got.update(data)
    if got.digest() == _wanted_digest():
        return ""
    lines = done.stdout.split(b"\n")[:-1]
    wanted = {_line(n)[:-1] for n in range(LINES)}
    whole = [line for line in lines if line in wanted]
    return (
        f"{LINES - len(set(whole)):,} lines lost, {len(whole) - len(set(whole)):,} doubled,"
        f" {len(lines) - len(whole):,} torn, {sum(a > b for a, b in pairwise(whole)):,}"
        " out of order"
    )


def _line(n: int) -> bytes:
    return b"L%08d %s\n" % (n, b"x" * (LINE_BYTES - 11))


@cache
def _wanted_digest() -> bytes:
    wanted = hashlib.sha256()
    for n in range(LINES):
        wanted.update(_line(n))
    return wanted.digest()
