"""NATS and Postgres for the tests: the embedded binaries, or containers with CHISEL_TEST_BACKEND=docker."""

import asyncio
import atexit
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import asyncpg

from chisel.local import servers
from tests.support.processes import Server, ServerLike, free_port, port_answers

AGENT_PASSWORD = "agent-secret"
SERVICE_PASSWORD = "service-secret"
_POSTGRES_PASSWORD = "database-secret"


@dataclass
class Nats:
    """A running NATS that a test may kill, start again and, while it is down, wipe."""

    url: str
    user: str
    password: str
    server: ServerLike
    port: int
    folder: Path | None = None

    def kill(self) -> None:
        self.server.kill()

    def start(self) -> None:
        self.server.start()
        self.server.wait_until(lambda: port_answers(self.port))

    def wipe(self) -> None:
        """Delete everything it stored; only while it is down."""
        if self.folder is not None:
            shutil.rmtree(self.folder / "jetstream")
        else:
            self.server.stop()


@dataclass
class Postgres:
    """A running Postgres; `url(database)` connects."""

    dsn: str
    """With `{database}` where the database's name belongs."""
    server: ServerLike

    def url(self, database: str = "postgres") -> str:
        return self.dsn.format(database=database)


class _PostgresServer(Server):
    """A Postgres that may be started right after it was killed, while sessions of it still linger."""

    def start(self) -> None:
        servers.clear_remains(self.log.parent / "pg", self.log.parent)
        super().start()


def wanted_backend() -> str:
    """`embedded` or `docker`, as the environment says."""
    wanted = os.environ.get("CHISEL_TEST_BACKEND", "embedded")
    assert wanted in ("embedded", "docker"), f"CHISEL_TEST_BACKEND={wanted}: embedded or docker"
    return wanted


@contextmanager
def running_nats(folder: Path) -> Iterator[Nats]:
    """NATS on a free port of loopback, with the permissions of the embedded stack."""
    port = free_port()
    users = (servers.NatsUser("service", SERVICE_PASSWORD), servers.agent_user(AGENT_PASSWORD))
    server: ServerLike
    if wanted_backend() == "docker":
        from tests.support import containers

        config = servers.write_nats_config(
            folder, port=4222, users=users, host="0.0.0.0", store=Path("/tmp/jetstream")
        )
        server = containers.nats(config, port=port, label=_label(folder))
    else:
        config = servers.write_nats_config(folder, port=port, users=users)
        server = Server(servers.nats_command(config), log=folder / "nats.log")
    kept = folder if wanted_backend() == "embedded" else None
    nats = Nats(f"nats://127.0.0.1:{port}", "service", SERVICE_PASSWORD, server, port, kept)
    try:
        nats.start()
        yield nats
    finally:
        server.stop()


@contextmanager
def running_postgres(folder: Path, *, durable: bool = False) -> Iterator[Postgres]:
    """Postgres, about to answer; embedded, on a private socket below `folder`, whose path must be short."""
    server: ServerLike
    if wanted_backend() == "docker":
        from tests.support import containers

        port = free_port()
        server = containers.postgres(
            password=_POSTGRES_PASSWORD, port=port, durable=durable, label=_label(folder)
        )
        dsn = f"postgresql://chisel:{_POSTGRES_PASSWORD}@127.0.0.1:{port}/{{database}}"
    else:
        data = folder / "pg"
        if not data.exists():
            shutil.copytree(_template_data(), data, symlinks=True)
        command = servers.postgres_command(data, folder, durable=durable)
        server = _PostgresServer(command, log=folder / "pg.log")
        dsn = f"postgresql://chisel@/{{database}}?host={folder}"
    postgres = Postgres(dsn, server)
    try:
        server.start()
        if isinstance(server, Server):
            server.wait_until(lambda: (folder / ".s.PGSQL.5432").exists())
        yield postgres
    finally:
        server.stop(2)


def _label(folder: Path) -> str:
    """Two names of its path: what the reaper of a cluster looks for."""
    return f"{folder.parent.name}-{folder.name}"


@cache
def _template_data() -> Path:
    """A fresh database cluster, made once a session: copying it takes a tenth of making one."""
    folder = Path(tempfile.mkdtemp(prefix="chisel-", dir="/tmp"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    servers.initdb(folder / "pg", durable=False)
    return folder / "pg"


async def wait_for_postgres(url: str, *, seconds: float = 20.0) -> None:
    """Return when a query is answered."""
    end = time.monotonic() + seconds
    while True:
        try:
            connection = await asyncpg.connect(url, timeout=2)
            await connection.close()
            return
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
            assert time.monotonic() < end, f"no Postgres at {url}"
            await asyncio.sleep(0.02)


@contextmanager
def short_folder(prefix: str = "chisel-") -> Iterator[Path]:
    """A private folder with a path short enough for sockets, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
