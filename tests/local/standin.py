"""A supervisor of stand-ins: `python -m tests.local.standin FOLDER NAME...`.

A child named `crashes…` ends at once with status 3, one named `stubborn…` ignores its stop signal,
any other waits for it. Every start is written to FOLDER/starts. A restart because of an alarm helps NAME
unless there is a file `no help for NAME`; being asked whether it does leaves a file `asked`.
"""

import os
import signal
import sys
from pathlib import Path

from chisel.local import supervisor
from chisel.local.child import Child


def main(folder: Path, names: list[str]) -> None:
    def be(name: str) -> None:
        with (folder / "starts").open("a") as starts:
            starts.write(f"{name} {os.getpid()}\n")
        if name.startswith("crashes"):
            sys.exit(3)
        if name.startswith("stubborn"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            signal.pause()

    def helped(name: str) -> bool:
        (folder / "asked").touch()
        return not (folder / f"no help for {name}").exists()

    children = [
        Child(
            name=name,
            run=lambda name=name: be(name),  # type: ignore[misc]
            stage=stage,
            stop_seconds=0.3,
            helped_by_restart=lambda name=name: helped(name),  # type: ignore[misc]
        )
        for stage, name in enumerate(names)
    ]
    for part in ("run", "logs"):
        (folder / part).mkdir(exist_ok=True)
    while (watched := supervisor.Supervisor(folder=folder, children=children).run()) is not None:
        supervisor.keep(watched)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
