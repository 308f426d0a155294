"""F: the commands that people wait for: `chisel --version`, `chisel --help`, `chisel ps` on a running stack,
and importing it in a script of theirs, as that script's own clock sees it.

Beside them: bare `python -c pass`, below which no command written in Python can go.
"""

from tests.bench import client
from tests.bench.figures import Figure
from tests.bench.machine import settle
from tests.bench.stack import Stack, command


def measure(stack: Stack, repeats: int) -> list[Figure]:
    stack.warm_up()
    repeats = max(10, repeats)
    return [
        Figure(
            letter="F",
            what="chisel --version",
            unit="ms",
            values=_walls(stack, [command("chisel"), "--version"], repeats),
            must=80,
            aim=40,
        ),
        Figure(
            letter="F",
            what="chisel --help",
            unit="ms",
            values=_walls(stack, [command("chisel"), "--help"], repeats),
            must=200,
        ),
        Figure(
            letter="F",
            what="import chisel",
            unit="ms",
            values=_imports(stack, "import chisel", repeats),
            must=15,
        ),
        Figure(
            letter="F",
            what="from chisel import capture_trace",
            unit="ms",
            values=_imports(stack, "from chisel import capture_trace", repeats),
        ),
        Figure(
            letter="F",
            what="chisel ps",
            unit="ms",
            values=_walls(stack, [command("chisel"), "ps"], repeats),
            must=300,
            aim=200,
        ),
        Figure(
            letter="F",
            what="bare python -c pass",
            unit="ms",
            values=_walls(stack, [command("python"), "-c", "pass"], repeats),
        ),
    ]


def _imports(stack: Stack, line: str, repeats: int) -> tuple[float, ...]:
    code = f"from time import perf_counter as now; began = now(); {line}; print((now() - began) * 1000)"
    argv = [command("python"), "-c", code]
    return tuple(float(client.must_succeed(client.run(argv, env=stack.env)).stdout) for _ in range(repeats))


def _walls(stack: Stack, argv: list[str], repeats: int) -> tuple[float, ...]:
    client.run(argv, env=stack.env)  # compiles what was never imported before
    walls = []
    for n in range(repeats):
        if n % 5 == 0:
            settle()
        walls.append(client.must_succeed(client.run(argv, env=stack.env)).wall * 1000)
    return tuple(walls)
