"""Postgres: one pool per service, transactions that survive its restarts, and migrations."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from chisel_shared.contract.errors import StorageFull, Unavailable
from chisel_shared.runtime.logs import Log

T = TypeVar("T")
Connection = Any
"""An asyncpg connection inside a transaction (asyncpg ships no types)."""

log = Log("chisel.db")

# The database is away, starting or stopping, or dropped the connection: the same work may succeed soon.
_AWAY = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # its protocol was in the middle of something when the server died
    TimeoutError,
)
# Two transactions met: the loser is simply run again.
_RACED = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
_FULL = "the server's database has no space left: ask its operator to make room, then try again"
_TRIES = 5
_ACQUIRE_SECONDS = 5.0


class Database:
    """A pool. `run` is the way to work: a whole transaction, repeated when that is safe."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """`work(connection)` inside one transaction, committed when this returns.

        Repeated when Postgres refused it whole because of a race. A commit of unknown outcome is
        `Unavailable`, never repeated here: the caller has an idempotency key or a fence.
        `StorageFull` when the disk is.
        """
        for attempt in range(_TRIES):
            try:
                connection = await self._pool.acquire(timeout=_ACQUIRE_SECONDS)
            except _AWAY as error:
                raise Unavailable("the database is not answering; try again in a few seconds") from error
            try:
                async with connection.transaction():
                    return await work(connection)
            except _RACED as error:
                log.debug("transaction_raced", error=repr(error))
            except asyncpg.DiskFullError as error:
                raise StorageFull(_FULL) from error
            except asyncpg.DataError:
                raise  # an InterfaceError by its class, a defect of ours by its nature
            except _AWAY as error:
                raise Unavailable("the database went away; try again in a few seconds") from error
            finally:
                try:
                    await self._pool.release(connection, timeout=1.0)
                except _AWAY:
                    # A failed release may have parted the two already.
                    with contextlib.suppress(asyncpg.InterfaceError):
                        connection.terminate()
            await asyncio.sleep(0.002 * 2**attempt)
        raise Unavailable("the database is too busy with others; try again in a few seconds")

    async def ping(self) -> None:
        """One round trip; `Unavailable` when the database does not answer."""

        async def select(connection: Connection) -> None:
            await connection.execute("select 1")

        await self.run(select)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Connection]:
        """A connection of one's own outside any transaction: for advisory locks and LISTEN."""
        try:
            connection = await self._pool.acquire(timeout=_ACQUIRE_SECONDS)
        except _AWAY as error:
            raise Unavailable("the database is not answering; try again in a few seconds") from error
        try:
            yield connection
        finally:
            # Locks and listeners die with the session, so it never goes back to the pool. One that the
            # server dropped has left it already: no error of that may take a cancellation's place.
            with contextlib.suppress(asyncpg.InterfaceError):
                connection.terminate()
                await self._pool.release(connection)


@asynccontextmanager
async def open_database(
    url: str, *, connections: int, schema: str, migrations: Path
) -> AsyncIterator[Database]:
    """Connect, waiting for Postgres as long as it takes, bring `schema` up to date, and yield the pool."""
    delay = 0.05
    while True:
        try:
            pool = await asyncpg.create_pool(
                url,
                min_size=1,
                max_size=connections,
                timeout=5,
                command_timeout=15,
                max_inactive_connection_lifetime=60,
                server_settings={"search_path": schema, "application_name": f"chisel-{schema}"},
            )
            break
        except _AWAY as error:
            log.warning("database_not_ready", error=repr(error))
            await asyncio.sleep(delay)
            delay = min(1.0, delay * 2)
    try:
        database = Database(pool)
        await _migrate(database, schema, migrations)
        yield database
    finally:
        try:
            async with asyncio.timeout(2):
                await pool.close()
        except (TimeoutError, *_AWAY):
            pool.terminate()


async def _migrate(database: Database, schema: str, folder: Path) -> None:
    files = sorted(folder.glob("*.sql"))  # noqa: ASYNC240 - a handful of files, once, at start
    lock = int.from_bytes(hashlib.sha256(schema.encode()).digest()[:7], "big")

    async def apply(connection: Connection) -> None:
        await connection.execute("select pg_advisory_xact_lock($1)", lock)
        await connection.execute(f'create schema if not exists "{schema}"')
        await connection.execute(
            "create table if not exists migrations"
            " (name text primary key, applied_at timestamptz not null default now())"
        )
        done = {row["name"] for row in await connection.fetch("select name from migrations")}
        for file in files:
            if file.name not in done:
                await connection.execute(file.read_text())
                await connection.execute("insert into migrations (name) values ($1)", file.name)
                log.info("migrated", schema=schema, file=file.name)

    while True:
        try:
            await database.run(apply)
            return
        except Unavailable as error:
            log.warning("database_not_ready", error=repr(error))
            await asyncio.sleep(0.5)
