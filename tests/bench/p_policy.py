"""P: what policy does to large and small jobs at 90 % load, simulated. Twenty seeds of 40 hours.

`python -m tests.bench.p_policy` prints what each seed gave. No stack is used: no figure here is a time of
this machine.
"""

from tests.bench.figures import Figure, table
from tests.bench.stack import Stack
from tests.scheduler.simulation import Outcome, World, simulate

SEEDS = range(1, 21)
WORLDS = {
    "with time limits": World(timed=1.0),
    "half with time limits": World(timed=0.5),
    "without time limits": World(),
    "nothing is reserved": World(reserve_after_minutes=None),
}
_PROMISED = "with time limits"


def measure(stack: Stack, repeats: int) -> list[Figure]:
    """A value for each of the first `repeats` seeds."""
    return [
        figure
        for name, world in WORLDS.items()
        for figure in _figures(name, [simulate(world, seed) for seed in SEEDS[:repeats]])
    ]


def _figures(name: str, found: list[Outcome]) -> list[Figure]:
    promised = name == _PROMISED
    return [
        Figure(letter="P", what=f"8-GPU wait p50, {name}", unit="min",
               values=tuple(one.wait(8, 0.5) for one in found), must=25 if promised else None),
        Figure(letter="P", what=f"8-GPU wait p95, {name}", unit="min",
               values=tuple(one.wait(8, 0.95) for one in found)),
        Figure(letter="P", what=f"4-GPU wait p95, {name}", unit="min",
               values=tuple(one.wait(4, 0.95) for one in found)),
        Figure(letter="P", what=f"1-GPU wait p95, {name}", unit="min",
               values=tuple(one.wait(1, 0.95) for one in found), must=12 if promised else None),
        Figure(letter="P", what=f"longest wait of anybody, {name}", unit="min",
               values=tuple(max(max(waits) for waits in one.waits_of_users.values()) for one in found)),
        Figure(letter="P", what=f"utilisation, {name}", unit="",
               values=tuple(one.utilisation for one in found), must=0.89 if promised else None,
               more_is_better=True),
    ]  # fmt: skip


def main() -> None:
    figures: list[Figure] = []
    for name, world in WORLDS.items():
        found = []
        for seed in SEEDS:
            one = simulate(world, seed)
            found.append(one)
            print(
                f"{name}, seed {seed}: utilisation {one.utilisation:.3f}, 8-GPU p50 {one.wait(8, 0.5):.1f}"
                f" p95 {one.wait(8, 0.95):.1f}, 1-GPU p95 {one.wait(1, 0.95):.1f} min",
                flush=True,
            )
        figures += _figures(name, found)
    print(f"\n{table(figures)}")


if __name__ == "__main__":
    main()
