"""G: from starting `chisel cancel JOB` until the script's process is gone. G': a script that ignores
SIGINT and SIGTERM, which is given its grace and then killed.
"""

import subprocess
import time

from chisel_agent.settings import AgentSettings
from tests.bench.figures import Figure
from tests.bench.machine import alive, settle
from tests.bench.stack import Stack, command, wait_for_file

_RUNNING_SECONDS = 1.5
"""How long a script has run when it is cancelled: its start is over, its output quiet."""
_LIMIT_SECONDS = 90.0


def measure(stack: Stack, repeats: int) -> list[Figure]:
    stack.warm_up()
    fields = AgentSettings.model_fields
    graces = [fields[name].default for name in ("interrupt_grace_seconds", "terminate_grace_seconds")]
    grace_ms = sum(graces) * 1000
    obeys = [_cancel(stack, "obey", n) for n in range(max(3, min(repeats, 5)))]
    ignores = [_cancel(stack, "ignore", n) for n in range(1 if repeats < 5 else 3)]
    return [
        Figure(
            letter="G",
            what="cancel to the process gone",
            unit="ms",
            values=tuple(obeys),
            must=150,
            aim=30,
        ),
        Figure(
            letter="G'",
            what="cancel of a script that ignores SIGTERM",
            unit="ms",
            values=tuple(ignores),
            must=grace_ms + 300,
            aim=grace_ms + 50,
            note=f"grace {grace_ms / 1000:g} s",
        ),
    ]


def _cancel(stack: Stack, manners: str, n: int) -> float:
    """Milliseconds until the process of one cancelled job is gone."""
    pid_file = stack.folder / f"pid-{manners}-{n}"
    with subprocess.Popen(
        [command("chisel"), "python", "sleeper.py", str(pid_file), manners, "--app-name", "bench"],
        env=stack.env,
        cwd=stack.scripts,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as following:
        pid, job = wait_for_file(pid_file).split()
        time.sleep(_RUNNING_SECONDS)
        settle()
        began = time.perf_counter()
        cancelling = subprocess.Popen(
            [command("chisel"), "cancel", job],
            env=stack.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while alive(int(pid)):
            if time.perf_counter() > began + _LIMIT_SECONDS:
                raise RuntimeError(f"the script of {job} still runs {_LIMIT_SECONDS:g} s after its cancel")
            time.sleep(0.001)
        gone = time.perf_counter() - began
        cancelling.wait(_LIMIT_SECONDS)
        following.wait(_LIMIT_SECONDS)
    return gone * 1000
