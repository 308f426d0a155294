"""`python -m tests.bench [A A4 B C1 C2 D E F G H P S T T2] [--repeats N] [--json FILE]`"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench import (
    a_hello,
    b_throughput,
    c1_stream,
    c2_latency,
    d_upload,
    e_idle,
    f_start,
    g_cancel,
    h_loud,
    p_policy,
    s_scale,
    t_capture,
    t_reading,
)
from tests.bench.figures import Figure, table
from tests.bench.stack import Stack, private_stack

MEASURES: dict[str, Callable[[Stack, int], list[Figure]]] = {
    "A": a_hello.measure,
    "A4": a_hello.measure_four,
    "F": f_start.measure,
    "C2": c2_latency.measure,
    "C1": c1_stream.measure,
    "G": g_cancel.measure,
    "D": d_upload.measure,
    "E": e_idle.measure,
    "B": b_throughput.measure,
    "H": h_loud.measure,
    "P": p_policy.measure,
    "S": s_scale.measure,
    "T": t_capture.measure,
    "T2": t_reading.measure,
}
"""In the order they run: those that leave much behind come last."""


def main() -> int:
    """Measure what was asked for; 1 when a figure does not hold what it must."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("letters", nargs="*", metavar="LETTER", help=f"of {', '.join(MEASURES)}; default all")
    parser.add_argument("--repeats", type=int, default=7, help="repetitions of the cheap ones")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    arguments = parser.parse_args()
    chosen = [letter.upper() for letter in arguments.letters] or list(MEASURES)
    if unknown := sorted(set(chosen) - set(MEASURES)):
        parser.error(f"no such figure: {', '.join(unknown)}")

    figures: list[Figure] = []
    with private_stack() as stack:
        figures += _starts(stack)
        for letter in [letter for letter in MEASURES if letter in chosen]:
            print(f"{letter} …", file=sys.stderr, flush=True)
            figures += MEASURES[letter](stack, arguments.repeats)
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    print(f"\n{machine}\n\n{table(figures)}")
    if arguments.json is not None:
        found = {"machine": machine, "time": time.time(), "figures": [figure.as_json() for figure in figures]}
        arguments.json.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    return int(any(figure.holds is False for figure in figures))


def _starts(stack: Stack) -> list[Figure]:
    """How long `chisel up` takes: the very first time, and again. Leaves the stack running."""
    first = stack.up()
    stack.down()
    again = stack.up()
    return [
        Figure(letter="up", what="chisel up, the first time", unit="s", values=(first,), must=6),
        Figure(letter="up", what="chisel up, again", unit="s", values=(again,), must=3),
    ]


if __name__ == "__main__":
    sys.exit(main())
