"""A: hello, from the start of the client's process to its exit. A4: the same asking for four GPUs.

The script's directory is packed and offered each time, as a user's would be; nothing is uploaded
twice. Beside it, in the same run: bare `python hello.py`, and any installed peer.
"""

from tests.bench import client, peers
from tests.bench.figures import Figure
from tests.bench.machine import settle
from tests.bench.stack import SLOTS, Stack, command

MUST_SECONDS = 0.350
AIM_SECONDS = 0.200


def measure(stack: Stack, repeats: int) -> list[Figure]:
    stack.warm_up()
    one, bare = _walls(stack, repeats, gpus=1), []
    for _ in range(repeats):
        settle()
        done = client.run([command("python"), "hello.py", "bare"], env=stack.env, cwd=stack.scripts)
        bare.append(client.must_succeed(done).wall)
    bounds = {"unit": "ms", "must": MUST_SECONDS * 1000, "aim": AIM_SECONDS * 1000}
    return [
        Figure(letter="A", what="hello: client command to its exit", values=_ms(one), **bounds),  # type: ignore[arg-type]
        Figure(letter="A", what="the same, bare python", unit="ms", values=_ms(bare)),
        *peers.hello(one, env=stack.env, cwd=stack.scripts, repeats=min(repeats, 3)),
    ]


def measure_four(stack: Stack, repeats: int) -> list[Figure]:
    stack.warm_up()
    walls = _walls(stack, repeats, gpus=SLOTS)
    return [
        Figure(
            letter="A4",
            what=f"hello asking for {SLOTS} GPUs",
            unit="ms",
            values=_ms(walls),
            must=MUST_SECONDS * 1000,
            aim=AIM_SECONDS * 1000,
        )
    ]


def _walls(stack: Stack, repeats: int, *, gpus: int) -> list[float]:
    walls = []
    for n in range(repeats):
        settle()
        done = client.must_succeed(stack.script("hello", f"n{n}", gpus=gpus))
        if done.stdout != f"HELLO-n{n}\n".encode():
            raise RuntimeError(f"hello printed {done.stdout!r}")
        walls.append(done.wall)
    return walls


def _ms(seconds: list[float]) -> tuple[float, ...]:
    return tuple(value * 1000 for value in seconds)
