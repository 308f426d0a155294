"""Which processes a stack is made of, and what each is told.

NATS and Postgres are executed; the services and the agent are forks of the supervisor, each with an
environment of its own: nothing that the user's shell says about Chisel reaches them, and of the rest
NATS and Postgres get only what a program needs to run.
"""

import importlib
import os
import runpy
import sys
from pathlib import Path

from chisel.local import servers
from chisel.local.child import Child
from chisel.local.stack import ADMIN_TOKEN_FILE, KEY_FILE
from chisel.local.state import State
from chisel.local.supervisor import ALARM

SERVICES = ("auth", "scheduler", "storage", "agent", "gateway")
NAMES = ("postgres", "nats", *SERVICES)
MARK = "CHISEL_LOCAL_STACK"
"""In the environment of every process of a stack: the stack's folder."""
_KEPT_VARIABLES = (MARK, "CHISEL_AGENT_GPU_MODEL")
_FOR_SERVERS = (MARK, "PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_WHEN_NO_GPU = "sim:8"
_ROOM_BYTES = 16 << 20

_POSTGRES, _NATS, _BEHIND, _AGENT, _GATEWAY = range(5)


def children(folder: Path, state: State) -> tuple[Child, ...]:
    """All of them; each reads `state` anew whenever it is started."""
    return (
        # SIGINT is its fast shutdown: sessions are ended, nothing is lost.
        Child(name="postgres", stage=_POSTGRES, run=lambda: _be_postgres(folder, state), stop_signal=2),
        Child(
            name="nats",
            stage=_NATS,
            run=lambda: _be_nats(folder, state),
            helped_by_restart=lambda: _has_room(folder / "nats"),
        ),
        *(
            Child(
                name=name,
                stage={"agent": _AGENT, "gateway": _GATEWAY}.get(name, _BEHIND),
                prepared=True,
                run=lambda name=name: _be_service(name, variables(name, folder, state)),  # type: ignore[misc]
            )
            for name in SERVICES
        ),
    )


def prepare() -> None:
    """Import once, in the supervisor, what its forks would each import."""
    for name in SERVICES:
        importlib.import_module(f"chisel_{name}.service")
        importlib.import_module(f"chisel_{name}.settings")
    importlib.import_module("pynvml")


def variables(name: str, folder: Path, state: State) -> dict[str, str]:
    """The settings of one service."""
    bus = {
        "NATS_URL": f"nats://127.0.0.1:{state.nats_port}",
        "NATS_USER": "service",
        "NATS_PASSWORD": state.service_password,
    }
    tables = {"DATABASE_URL": servers.postgres_url(Path(state.sockets))}
    settings = {
        "auth": {
            **bus,
            **tables,
            "BOOTSTRAP_KEY_FILE": str(folder / KEY_FILE),
            "JOIN_TOKEN_FILE": str(folder / "join-token"),
            "ADMIN_TOKEN_FILE": str(folder / ADMIN_TOKEN_FILE),
            "SECRETS_KEY_FILE": str(folder / "secrets-key"),
            "AGENT_NATS_URL": bus["NATS_URL"],
            "AGENT_NATS_USER": "agent",
            "AGENT_NATS_PASSWORD": state.agent_password,
        },
        "scheduler": {**bus, **tables, "BUS_ALARM_FILE": str(folder / ALARM)},
        "storage": {
            **bus,
            **tables,
            "HOST": "127.0.0.1",
            "PORT": str(state.storage_port),
            "TOKEN": state.storage_token,
            "DATA_DIR": str(folder / "storage"),
        },
        "gateway": {
            **bus,
            "HOST": "127.0.0.1",
            "PORT": str(state.gateway_port),
            "STORAGE_URL": f"http://127.0.0.1:{state.storage_port}",
            "STORAGE_TOKEN": state.storage_token,
        },
        "agent": {
            "URL": state.url,
            "TOKEN_FILE": str(folder / "join-token"),
            "GPUS": state.agent_gpus,
            "NATS_URL": bus["NATS_URL"],  # what it learnt when it joined may have moved since
            "DATA_DIR": str(folder / "agent"),
            "BASE_PYTHON": sys.executable,
        },
    }[name]
    return {f"CHISEL_{name.upper()}_{key}": value for key, value in settings.items()}


def _be_service(name: str, settings: dict[str, str]) -> None:
    for variable in [found for found in os.environ if found.startswith("CHISEL_")]:
        if variable not in _KEPT_VARIABLES:
            del os.environ[variable]
    os.environ.pop("MALLOC_ARENA_MAX", None)  # ours, not for the jobs that the agent starts
    if settings.get("CHISEL_AGENT_GPUS") == "auto" and not _has_gpu():
        settings["CHISEL_AGENT_GPUS"] = _WHEN_NO_GPU
    os.environ.update(settings)
    runpy.run_module(f"chisel_{name}", run_name="__main__")


def _has_gpu() -> bool:
    """Whether this machine has a GPU and its driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
        return bool(pynvml.nvmlDeviceGetCount() > 0)
    except pynvml.NVMLError:
        return False


def _forget_environment() -> None:
    """The user's keys and tokens are no business of a server's."""
    for variable in [found for found in os.environ if found not in _FOR_SERVERS]:
        del os.environ[variable]


def _be_nats(folder: Path, state: State) -> None:
    users = (
        servers.NatsUser("service", state.service_password),
        servers.agent_user(state.agent_password),
    )
    config = servers.write_nats_config(folder / "nats", port=state.nats_port, users=users)
    command = servers.nats_command(config)
    _forget_environment()
    os.execve(command[0], command, {**os.environ, **servers.NATS_VARIABLES})


def _has_room(folder: Path) -> bool:
    """Whether what stores there could: with less it would be full again at once."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize >= _ROOM_BYTES


def _be_postgres(folder: Path, state: State) -> None:
    _forget_environment()
    data, sockets = folder / "postgres", Path(state.sockets)
    if not data.exists():
        servers.initdb(data)
    servers.check_postgres_version(data)
    servers.clear_remains(data, sockets)
    command = servers.postgres_command(data, sockets)
    os.execvp(command[0], command)
