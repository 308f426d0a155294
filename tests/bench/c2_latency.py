"""C2: from a script's print to the arrival of the line at the client's stdout, 200 lines 20 ms apart.

The script prints its clock, the reader compares with its own: both are this machine's.
"""

import re

from tests.bench import client
from tests.bench.figures import Figure, percentile
from tests.bench.machine import settle
from tests.bench.stack import Stack

LINES = 200
_STAMP = re.compile(rb"T(\d{19})E")


def measure(stack: Stack, repeats: int) -> list[Figure]:
    stack.warm_up()
    middles, tails = [], []
    fault = ""
    for _ in range(max(3, min(repeats, 5))):
        settle()
        delays = latencies(client.must_succeed(stack.script("stamps")))
        if len(delays) != LINES:
            fault = f"only {len(delays)} of {LINES} lines arrived"
            continue
        middles.append(percentile(delays, 0.50))
        tails.append(percentile(delays, 0.99))
    return [
        Figure(
            letter="C2",
            what="line latency, p50",
            unit="ms",
            values=tuple(middles),
            must=5,
            aim=1.5,
            fault=fault,
        ),
        Figure(
            letter="C2", what="line latency, p99", unit="ms", values=tuple(tails), must=20, aim=5, fault=fault
        ),
    ]


def latencies(done: client.Run) -> list[float]:
    """Milliseconds between each stamp and the read that completed it."""
    found = []
    rest = b""
    for arrived_ns, data in done.chunks:
        rest += data
        end = 0
        for stamp in _STAMP.finditer(rest):
            found.append((arrived_ns - int(stamp[1])) / 1e6)
            end = stamp.end()
        rest = rest[end:]
    return found
