"""`chisel up`, `chisel down` and `chisel status`. Failures are raised as `LocalStackError`."""

import json as jsonlib
import os
import sys
import time
from pathlib import Path

from chisel.local import jobs, processes, ready, starting, state, stopping, supervisor
from chisel.local.errors import LocalStackError
from chisel.local.stack import data_folder, read_key

NOT_RUNNING = 3
"""Exit status of `chisel status` when the stack is down, as of a service manager's `status`."""


def up(*, foreground: bool, json: bool) -> int:
    """Start the stack of this machine, or heal it; a no-op when it runs well.

    In the background by default: returns when a job can be submitted, and two processes of the stack
    look after the rest and each other. In the foreground this process becomes the supervisor: it
    lives until SIGTERM or Ctrl-C and whoever started it (systemd, a container) looks after it.
    `json`: print what `status` prints.
    """
    if foreground:
        return _up_in_foreground()
    started = starting.start()
    if json:
        return status(json=True)
    _say(_summary(Path(data_folder()), fresh=started.fresh, seconds=started.seconds))
    return 0


def _up_in_foreground() -> int:
    starting.check_installed()
    folder = Path(data_folder())
    with starting.usable(folder):
        known = state.open_folder(str(folder))
    with starting.exclusive(folder):
        if starting.is_supervised(folder):
            _say(f"Chisel is running already at {known.url}")
            return 0
        starting.remember_gpus(folder, known)
        ends = starting.forget_ends(folder)
        # Two forks, so that the supervisor has no child that it does not know.
        if (middle := os.fork()) == 0:
            try:
                if os.fork() == 0:
                    _report_ready(folder, ends)
            finally:
                os._exit(0)
        os.waitpid(middle, 0)
        command = [*starting.daemon_command(folder), "--foreground"]
        os.execve(command[0], command, starting.daemon_environment(folder))


def _report_ready(folder: Path, ends: dict[str, int]) -> None:
    """Beside the supervisor that this process is about to become: say when it is ready, and end."""
    began = time.monotonic()
    try:
        starting.wait_ready(folder, ends)
        _say(_summary(folder, fresh=True, seconds=time.monotonic() - began))
    except LocalStackError as error:
        sys.stderr.write(f"{error}\n")


def down(*, json: bool) -> int:
    """Stop the stack of this machine: running jobs are cancelled, queued ones and all data stay."""
    folder = Path(data_folder())
    cancelled = _stop(folder, quiet=json)
    if json:
        report = {"stopped": cancelled is not None, "cancelled": cancelled or [], "folder": str(folder)}
        _say(jsonlib.dumps(report, indent=1))
    elif cancelled is None:
        _say("Chisel is not running")
    else:
        _say(f"Chisel is down; its data stays in {folder}")
    return 0


def _stop(folder: Path, *, quiet: bool) -> list[str] | None:
    """The jobs that this cancels; None when nothing ran."""
    if not folder.is_dir():
        return None
    with starting.usable(folder), starting.exclusive(folder):
        if not stopping.running(folder) and not jobs.leftovers(folder):
            return None
        held = jobs.running(folder)
        if held and not quiet:
            _say(f"Cancelling {_count(len(held), 'running job')}: {', '.join(held)}")
        stopping.stop(folder)
    return held


def status(json: bool) -> int:
    """What runs: 0 when jobs can be submitted, 1 when something is broken, 3 when nothing runs."""
    folder = Path(data_folder())
    known = state.read(str(folder))
    running = stopping.running(folder)
    lacking = ready.missing(known.gateway_port, read_key(str(folder))) if known is not None else "everything"
    parts = [_part(folder, name, running) for name in stopping.NAMES]
    if json:
        report = {
            "running": bool(running),
            "ready": lacking is None,
            "url": known.url if known is not None else None,
            "folder": str(folder),
            "processes": parts,
        }
        _say(jsonlib.dumps(report, indent=1))
    elif not running or known is None:
        _say("Chisel is not running; `chisel up` starts it")
    else:
        _say(_summary(folder, fresh=None, seconds=0.0) if lacking is None else f"Chisel lacks {lacking}")
        for part in parts:
            how = f"pid {part['pid']}" if part["pid"] else f"down ({part['last_end'] or 'not started'})"
            again = f", restarted {_count(part['restarts'], 'time')}" if part["restarts"] else ""
            _say(f"  {part['name']:<11}{how}{again}")
        _say(f"  logs in {folder / 'logs'}")
    if not running:
        return NOT_RUNNING
    return 0 if lacking is None else 1


def _part(folder: Path, name: str, running: dict[str, processes.Process]) -> dict[str, object]:
    ends, how = supervisor.ends_of(folder, name)
    pid = running[name].pid if name in running else None
    return {"name": name, "pid": pid, "restarts": ends, "last_end": how}


def _summary(folder: Path, *, fresh: bool | None, seconds: float) -> str:
    """One sentence: where it is, what it offers, and how it came about."""
    known, key = state.read(str(folder)), read_key(str(folder)) or ""
    assert known is not None
    agents = ready.online_agents(ready.get_json(known.gateway_port, "/api/v1/agents", key=key))
    offer = ", ".join(f"{agent['gpus_total']} x {agent['gpu_model']}" for agent in agents)
    how = {True: f" (ready in {seconds:.1f} s)", False: " (it was running already)", None: ""}[fresh]
    return f"Chisel runs at {known.url} with {offer or 'no GPUs'}{how}"


def _count(number: object, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _say(line: str) -> None:
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except OSError:
        return  # nobody reads it, or its disk is full: what was done is done
