"""E: what the whole embedded stack holds in memory (PSS) and uses of one core while nothing runs.

Counted are all of its processes, NATS and Postgres included, after two jobs have run.
"""

import time

from tests.bench.figures import Figure
from tests.bench.machine import footprint
from tests.bench.stack import Stack

SETTLE_SECONDS = 20.0
WATCH_SECONDS = 30.0


def measure(stack: Stack, repeats: int) -> list[Figure]:
    stack.warm_up()
    time.sleep(SETTLE_SECONDS)
    seen = [footprint(stack.processes, WATCH_SECONDS) for _ in range(1 if repeats < 5 else 2)]
    largest = ", ".join(f"{size:.0f} {name}" for size, name in seen[-1].parts[:6])
    return [
        Figure(
            letter="E",
            what="idle memory, PSS",
            unit="MiB",
            values=tuple(one.pss_mib for one in seen),
            must=350,
            aim=200,
            note=f"{seen[-1].processes} processes: {largest}, …",
        ),
        Figure(
            letter="E",
            what=f"idle CPU over {WATCH_SECONDS:g} s",
            unit="%",
            values=tuple(one.cpu_percent for one in seen),
            must=2,
            aim=0.5,
        ),
    ]
