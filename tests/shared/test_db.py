"""Transactions and migrations on a real Postgres."""

import asyncio
from pathlib import Path

import pytest

from chisel_shared.contract.errors import Unavailable
from chisel_shared.runtime.db import Connection, Database, open_database
from tests.support.backends import running_postgres, short_folder, wait_for_postgres


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    folder = tmp_path / "sql"
    folder.mkdir()
    (folder / "0001_things.sql").write_text("create table things (n int primary key)")
    return folder


async def count(connection: Connection) -> int:
    return int(await connection.fetchval("select count(*) from things"))


async def test_many_services_starting_at_once_migrate_once(database_url: str, migrations: Path) -> None:
    async def start() -> int:
        async with open_database(
            database_url, connections=2, schema="toy", migrations=migrations
        ) as database:
            return await database.run(count)

    assert await asyncio.gather(*(start() for _ in range(5))) == [0] * 5
    (migrations / "0002_more.sql").write_text("insert into things values (1), (2)")
    assert await asyncio.gather(*(start() for _ in range(3))) == [2] * 3


async def test_an_exception_undoes_the_whole_transaction(database_url: str, migrations: Path) -> None:
    async with open_database(database_url, connections=2, schema="toy", migrations=migrations) as database:

        async def fail(connection: Connection) -> None:
            await connection.execute("insert into things values (1)")
            raise LookupError

        with pytest.raises(LookupError):
            await database.run(fail)
        assert await database.run(count) == 0


async def test_racing_transactions_are_run_again(database_url: str, migrations: Path) -> None:
    async with open_database(database_url, connections=4, schema="toy", migrations=migrations) as database:
        both = asyncio.Barrier(2)
        met = 0

        async def increment(connection: Connection) -> None:
            nonlocal met
            await connection.execute("set transaction isolation level serializable")
            biggest = await connection.fetchval("select coalesce(max(n), 0) from things")
            if met < 2:
                met += 1
                await both.wait()
            await connection.execute("insert into things values ($1)", biggest + 1)

        await asyncio.gather(database.run(increment), database.run(increment))
        assert await database.run(count) == 2, "the loser ran again and saw the winner's row"


async def until_refused(database: Database) -> None:
    while True:  # a session answers until it notices that its server is gone
        await database.run(count)


async def test_a_killed_postgres_is_unavailable_and_comes_back(migrations: Path) -> None:
    with short_folder() as folder, running_postgres(folder, durable=True) as postgres:
        await wait_for_postgres(postgres.url())
        async with open_database(
            postgres.url(), connections=2, schema="toy", migrations=migrations
        ) as database:
            assert await database.run(count) == 0
            postgres.server.kill()
            with pytest.raises(Unavailable, match="try again"):
                await until_refused(database)
            postgres.server.start()
            while True:
                try:
                    assert await database.run(count) == 0
                    break
                except Unavailable:
                    assert postgres.server.running()
