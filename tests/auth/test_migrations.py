"""What a new version does to what an old one stored."""

import shutil
from pathlib import Path

import asyncpg

import chisel_auth
from chisel_auth.policy import ADMIN_ACTIONS, USER_ACTIONS
from chisel_shared.runtime.db import open_database

MIGRATIONS = Path(chisel_auth.__file__).parent / "sql"


async def test_keys_of_admins_may_do_with_agents_what_new_ones_may(database_url: str, tmp_path: Path) -> None:
    before = tmp_path / "sql"
    before.mkdir()
    for file in sorted(MIGRATIONS.glob("*.sql")):
        if file.name < "0004":
            shutil.copy(file, before)
    async with open_database(database_url, connections=2, schema="auth", migrations=before):
        pass
    connection = await asyncpg.connect(database_url, server_settings={"search_path": "auth"})
    await connection.execute("insert into users (id, name) values ('u', 'ada')")
    await connection.execute("insert into projects (id, name) values ('p', 'default')")
    for key, scopes in (("admin", [*USER_ACTIONS, "accounts:admin"]), ("member", [*USER_ACTIONS])):
        await connection.execute(
            "insert into api_keys (id, digest, user_id, project_id, scopes, name)"
            " values ($1, '', 'u', 'p', $2, $1)",
            key,
            scopes,
        )
    async with open_database(database_url, connections=2, schema="auth", migrations=MIGRATIONS):
        pass
    found = {row["id"]: set(row["scopes"]) for row in await connection.fetch("select * from api_keys")}
    await connection.close()
    assert found["admin"] >= {*USER_ACTIONS, *ADMIN_ACTIONS}
    assert found["member"] == set(USER_ACTIONS)
