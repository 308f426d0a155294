"""Reading what the witnesses of jobs wrote. Pure."""

from collections.abc import Iterable

from tests.chaos.facts import Life


def lives(lines: Iterable[str]) -> tuple[Life, ...]:
    """The processes of one job's witness file, in the order of their first words. What a killed process
    left half written is not believed."""
    found: dict[tuple[int, int, bool], Life] = {}
    for line in lines:
        words = line.split(maxsplit=4)
        if len(words) != 5 or not line.endswith("\n"):
            continue
        word, attempt, pid, at, detail = words
        key = (int(attempt), int(pid), word == "child")
        life = found.get(key) or Life(
            attempt=key[0], pid=key[1], child=key[2], first=float(at), last=float(at)
        )
        gpus = life.gpus
        if word == "start":
            gpus = tuple(int(index) for index in detail.strip().split(",") if index.isdigit())
        found[key] = Life(
            attempt=life.attempt,
            pid=life.pid,
            child=life.child,
            first=min(life.first, float(at)),
            last=max(life.last, float(at)),
            gpus=gpus,
            ended=f"{word} {detail.strip()}" if word in ("exit", "signal") else life.ended,
        )
    return tuple(sorted(found.values(), key=lambda life: life.first))
