"""The checker, a program of its own: `python -m tests.chaos.checker FOLDER`.

It reads Postgres, storage's files, the agents' folders and the witness files of a campaign that has come
to rest, and says what contradicts the invariants. Where the system no longer runs it decides by the facts
that were gathered when it did. Exit status: 0 for none, 1 for some.
"""

import sys
from pathlib import Path

import asyncpg
import msgspec

from tests.chaos.collect import collect
from tests.chaos.facts import Facts
from tests.chaos.invariants import Violation, check

FACTS = "facts.json"
_MOST_SHOWN = 60


def examine(folder: Path) -> tuple[Facts, list[Violation]]:
    """The facts about the campaign in `folder`, kept there too, and what contradicts the invariants."""
    try:
        facts = collect(folder)
        (folder / FACTS).write_bytes(msgspec.json.encode(facts))
    except (OSError, asyncpg.PostgresError):
        facts = msgspec.json.decode((folder / FACTS).read_bytes(), type=Facts)
    return facts, check(facts)


def shown(violations: list[Violation]) -> str:
    """As a person reads them: a line each."""
    lines = [str(violation) for violation in violations[:_MOST_SHOWN]]
    more = len(violations) - len(lines)
    return "\n".join([*lines, f"and {more} more"] if more else lines)


def main() -> int:
    facts, violations = examine(Path(sys.argv[1]))
    accepted = sum(bool(job.accepted) for job in facts.jobs)
    print(f"{len(facts.jobs)} jobs, {accepted} accepted; {len(violations)} violations")
    if violations:
        print(shown(violations))
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
